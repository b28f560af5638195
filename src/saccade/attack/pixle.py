"""Pixle: pixels of the picture copied to other places, by the scores alone."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.attack.candidates import offer_best, widen
from saccade.attack.engine import Result, kept, searching
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with Pixle"


def pixle(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    restarts: int = 20,
    tries: int = 10,
    sides: tuple[int, int] = (2, 10),
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """Random search that rearranges: the pixels of a random rectangle are copied to random places.

    Each restart tries several rectangles and keeps the best, if the margin rises; the next goes on from there. No new
    colour comes in. Pomponi, Scardapane and Uncini 2022, arXiv:2202.02236.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        restarts: rearrangements that may add up.
        tries: rectangles asked about for each.
        sides: the least and the greatest side of a rectangle, in pixels; cut to the picture.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most points at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` counts the values that changed, its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, restarts=restarts)
    check_settings(OPERATION, 1, tries=tries)
    if not 1 <= sides[0] <= sides[1]:
        raise SaccadeError(f"Could not {OPERATION}: sides are {sides}, expected two rising numbers of 1 or more.")
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l0", mask=mask, batch_size=batch_size
    ) as search:
        widen(search, batch_size)
        rows = search.active
        z, value = search.x[rows], search.loss_function(search.scores[rows], search.aim(rows))
        for restart in range(restarts):
            if len(rows) == 0:
                break
            drawn = generator(seed, restart)
            moves = [_mapping(z.shape, sides, drawn) for _ in range(tries)]
            made = partial(_candidates, z, moves)
            point, values, fooled = offer_best(search, rows, tries, made)
            reached = values.amax(1)
            z = torch.where((reached > value).view(-1, 1, 1, 1), point, z)
            rows, z, value = kept(~fooled, rows, z, torch.maximum(reached, value))
        return search.result()


def _candidates(z: Tensor, moves: list[tuple[Tensor, Tensor]], part: slice) -> Float[Tensor, "m k c h w"]:
    """The pictures after each of some rearrangements."""
    return torch.stack([rearranged(z, *move) for move in moves[part]], 1)


def rearranged(
    z: Float[Tensor, "m c h w"], sources: Int[Tensor, " k"], places: Int[Tensor, " k"]
) -> Float[Tensor, "m c h w"]:
    """Pictures with pixels copied from `sources` to `places`, both numbered row by row."""
    flat = z.flatten(2)
    new = flat.clone()
    new[:, :, places] = flat[:, :, sources]
    return new.view_as(z)


def _mapping(
    shape: torch.Size, sides: tuple[int, int], drawn: torch.Generator
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """The pixels of a random rectangle, and as many random places that are different from one another."""
    height, width = shape[-2:]
    tall, wide = (
        int(torch.randint(min(sides[0], length), min(sides[1], length) + 1, (), generator=drawn))
        for length in (height, width)
    )
    top, left = (
        int(torch.randint(0, length - side + 1, (), generator=drawn))
        for length, side in ((height, tall), (width, wide))
    )
    sources = (torch.arange(top, top + tall)[:, None] * width + torch.arange(left, left + wide)).flatten()
    return sources, torch.randperm(height * width, generator=drawn)[: len(sources)]
