"""Boundary Attack: a random walk along the decision boundary toward the picture, from decisions alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.engine import Result, searching
from saccade.attack.hop_skip_jump import starting_points, to_boundary
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with Boundary"


def boundary(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    steps: int = 1000,
    around: float = 0.01,
    closer: float = 0.01,
    starts: Tensor | None = None,
    noises: int = 100,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture (L2) that fools the network, by a random walk from far away toward the picture.

    A step goes around the picture on a sphere, and if that point fools the network, closer. Both lengths follow how
    often they succeed, so that about half of the first and a quarter of the second do. Brendel, Rauber and Bethge 2017,
    arXiv:1712.04248. It begins on the boundary, found by bisection.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        steps: of one or two queries each.
        around, closer: the first lengths of the two parts of a step, as shares of the distance.
        starts: (N, C, H, W), pictures that fool the network, as others that are of the class to be said; without, or
            where one does not fool it, uniform noise that does is looked for.
        noises: how many noises are tried.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `forwards` are the queries.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, noises=noises)
    if not 0 < around < 1 or not 0 < closer < 1:
        raise SaccadeError(
            f"Could not {OPERATION}: around and closer are {around} and {closer}, expected shares between 0 and 1."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l2", mask=mask, batch_size=batch_size
    ) as search:
        rows, z = starting_points(search, starts, noises, seed)
        if len(rows) == 0:
            return search.result()
        z = to_boundary(search, z, rows, 1e-3)
        x, (low, high) = search.x[rows], search.box(rows)
        turn, approach = (z.new_full((len(z), 1, 1, 1), first) for first in (around, closer))
        drawn = generator(seed, 1)
        for _ in range(steps):
            noise = torch.randn(z.shape[1:], generator=drawn, dtype=torch.float64).to(z)
            aside = _aside(x, z, turn, noise if search.mask is None else noise * search.mask[rows])
            aside = torch.minimum(torch.maximum(aside, low), high)
            fooled = search.fools(search.ask(aside, rows), rows)
            turn = torch.where(fooled.view(-1, 1, 1, 1), turn * 1.1, turn / 1.1).clamp(1e-6, 1)
            tried = fooled.nonzero()[:, 0]
            if len(tried) == 0:
                continue
            near = aside[tried] + approach[tried] * (x[tried] - aside[tried])
            reached = search.offer(near, rows[tried], search.ask(near, rows[tried]))
            longer = torch.where(reached.view(-1, 1, 1, 1), 1.3, 1.3 ** (-1 / 3)).to(z)
            approach, z = approach.clone(), z.clone()
            approach[tried] = (approach[tried] * longer).clamp(1e-6, 0.5)
            z[tried[reached]] = near[reached]
        return search.result()


def _aside(
    x: Float[Tensor, "m c h w"], z: Float[Tensor, "m c h w"], turn: Float[Tensor, "m 1 1 1"], noise: Tensor
) -> Float[Tensor, "m c h w"]:
    """Points as far from x as z is, moved across the line between them by `turn` of the distance before that."""
    back = z - x
    size = _length(back)
    ahead = back / size.clamp_min(1e-12)
    noise = noise - (noise * ahead).sum((1, 2, 3), keepdim=True) * ahead
    new = back + turn * size * noise / _length(noise).clamp_min(1e-12)
    return x + new * (size / _length(new).clamp_min(1e-12))


def _length(change: Tensor) -> Float[Tensor, "m 1 1 1"]:
    return change.square().sum((1, 2, 3), keepdim=True).sqrt()
