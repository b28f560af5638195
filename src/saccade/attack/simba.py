"""SimBA: one direction of a basis after another, kept if the network is less sure, by the scores alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.engine import Result, kept, searching
from saccade.attack.question import Budget, check_settings, per_picture
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with SimBA"


def simba(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    basis: str = "pixel",
    stride: Budget = 0.2,
    steps: int = 1000,
    frequencies: float = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """Steps of one length along the directions of an orthonormal basis in random order, each kept if the margin rises.

    A step asks about a direction, and where that does not help, about its opposite. No direction is tried twice before
    all were; as they are orthogonal, the change after k kept steps has the length sqrt(k) * `stride` (l2) at most. Guo
    and others 2019, arXiv:1905.07121, who watch the probability of the class; the margin does not saturate.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        basis: "pixel", the values of the picture; or "dct", cosine waves.
        stride: the length of a step, one or one for each picture, in pixel units.
        steps: directions tried.
        frequencies: of "dct", the share of the waves a side that are used, the longest first.
        mask: the region that may be touched, see `check_mask`.
        seed: of the order, which is the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` is l2, its `loss` the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps)
    if basis not in ("pixel", "dct") or not 0 < frequencies <= 1:
        raise SaccadeError(
            f"Could not {OPERATION}: basis and frequencies are {basis!r} and {frequencies}, expected 'pixel' or 'dct', "
            "and a share in (0, 1]."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l2", mask=mask, batch_size=batch_size
    ) as search:
        size = per_picture(stride, search.x, "stride", OPERATION)
        channels, height, width = search.x.shape[1:]
        share = frequencies if basis == "dct" else 1.0
        sides = channels, math.ceil(share * height), math.ceil(share * width)
        total = math.prod(sides)
        rows = search.active
        z, value = search.x[rows], search.loss_function(search.scores[rows], search.aim(rows))
        for step in range(steps):
            if step % total == 0:
                order = torch.randperm(total, generator=generator(seed, step // total)).tolist()
            direction = _direction(order[step % total], sides, (height, width), basis).to(z)
            pending = torch.ones_like(rows, dtype=torch.bool)
            on = pending.clone()
            for sign in (1, -1):
                which = rows[pending]
                if len(which) == 0:
                    break
                low, high = search.box(which)
                new = torch.minimum(torch.maximum(z[pending] + sign * size[which] * direction, low), high)
                scores = search.ask(new, which)
                on[pending] = ~search.offer(new, which, scores)
                reached = search.loss_function(scores, search.aim(which))
                better = torch.zeros_like(pending)
                better[pending] = reached > value[pending]
                helped = better[pending]
                z, value = z.clone(), value.clone()
                z[better], value[better] = new[helped], reached[helped]
                pending = pending & ~better
            rows, z, value = kept(on, rows, z, value)
            if len(rows) == 0:
                break
        return search.result()


def _direction(number: int, sides: tuple[int, int, int], shape: tuple[int, int], basis: str) -> Float[Tensor, "c h w"]:
    """One of an orthonormal basis of pictures: a value, or a cosine wave in a channel."""
    channel, rest = divmod(number, sides[1] * sides[2])
    row, column = divmod(rest, sides[2])
    direction = torch.zeros(sides[0], *shape, dtype=torch.float64)
    if basis == "pixel":
        direction[channel, row, column] = 1
    else:
        direction[channel] = wave(row, shape[0])[:, None] * wave(column, shape[1])
    return direction


def wave(frequency: int, length: int) -> Float[Tensor, " length"]:
    """A row of the orthonormal discrete cosine transform (type II), the same as a column of its inverse."""
    place = torch.arange(length, dtype=torch.float64) + 0.5
    return torch.cos(math.pi * frequency * place / length) * math.sqrt((1 if frequency == 0 else 2) / length)
