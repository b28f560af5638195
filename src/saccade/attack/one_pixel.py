"""One-pixel attack: differential evolution over a few pixels and their colours, by the scores alone."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.candidates import offer_best, widen
from saccade.attack.engine import Result, kept, searching
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with One Pixel"


def one_pixel(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    pixels: int = 1,
    steps: int = 100,
    population: int = 400,
    factor: float = 0.5,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """A few pixels with new colours, found by differential evolution.

    Each of a population of candidates lists places and colours. A step makes a child a candidate, one of the population
    plus `factor` times the difference of two others, which takes its place if its margin is higher. All pictures and
    candidates are evolved at once. Su, Vargas and Sakurai 2017, arXiv:1710.08864. Colours are cut off at [0, 1] and
    places go round the picture, of which the paper says nothing.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        pixels: the most pixels that change.
        steps: generations after the first.
        population: candidates a picture, 4 or more; each generation costs as many queries.
        factor: of the differences.
        mask: the region that may be touched, see `check_mask`; candidates outside it change nothing.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most points at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` counts the values that changed, of which a pixel has as many as channels, its `loss` is the
        margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, factor=factor)
    if pixels < 1 or population < 4:
        raise SaccadeError(
            f"Could not {OPERATION}: pixels and population are {pixels} and {population}, expected 1 or more and 4 or "
            "more."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l0", mask=mask, batch_size=batch_size
    ) as search:
        widen(search, batch_size)
        rows, drawn = search.active, generator(seed)
        genes = _first(population, pixels, search.x.shape[1], drawn).to(search.x).repeat(len(rows), 1, 1, 1)
        values = genes.new_full(genes.shape[:2], -torch.inf)
        for step in range(steps + 1):
            if len(rows) == 0:
                break
            children = genes
            if step:
                a, b, c = (one.to(rows) for one in _parents(population, drawn))
                children = genes[:, a] + factor * (genes[:, b] - genes[:, c])
                children = torch.cat([children[..., :2] % 1, children[..., 2:].clamp(0, 1)], 3)
            _, reached, fooled = offer_best(search, rows, population, partial(_candidates, search.x[rows], children))
            reached = reached.to(genes)
            better = reached > values
            genes = torch.where(better[..., None, None], children, genes)
            rows, genes, values = kept(~fooled, rows, genes, torch.where(better, reached, values))
        return search.result()


def _candidates(x: Tensor, genes: Tensor, part: slice) -> Float[Tensor, "m k c h w"]:
    return painted(x, genes[:, part])


def painted(x: Float[Tensor, "m c h w"], genes: Float[Tensor, "m k p g"]) -> Float[Tensor, "m k c h w"]:
    """K copies of each picture with P pixels changed; a gene is row and column as shares of the sides, and a colour.

    Of two genes at one place the last counts.
    """
    height, width = x.shape[-2:]
    place = (genes[..., 0] * height).long().clamp(0, height - 1) * width
    place = place + (genes[..., 1] * width).long().clamp(0, width - 1)
    flat = x.flatten(2)[:, None].repeat(1, genes.shape[1], 1, 1)
    for p in range(genes.shape[2]):
        where = place[:, :, p, None, None].expand(*flat.shape[:3], 1)
        flat = flat.scatter(3, where, genes[:, :, p, 2:, None])
    return flat.view(*flat.shape[:3], height, width)


def _first(population: int, pixels: int, channels: int, drawn: torch.Generator) -> Float[Tensor, "1 k p g"]:
    """Places uniform over the picture, colours normal around the middle, by half the range."""
    places = torch.rand(1, population, pixels, 2, generator=drawn, dtype=torch.float64)
    colours = 0.5 + 0.5 * torch.randn(1, population, pixels, channels, generator=drawn, dtype=torch.float64)
    return torch.cat([places, colours.clamp(0, 1)], 3)


def _parents(population: int, drawn: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Three of the population for each of its members, different from one another and from it."""
    order = torch.rand(population, population, generator=drawn)
    order.fill_diagonal_(2.0)
    a, b, c = order.argsort(1)[:, :3].T
    return a, b, c
