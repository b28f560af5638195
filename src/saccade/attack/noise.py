"""Gaussian noise, and nothing at all: what every attack must beat."""

import torch
from torch import Tensor, nn

from saccade.attack.engine import Result, searching
from saccade.attack.question import Budget, per_picture
from saccade.engine.seeding import generator
from saccade.networks.targets import Target


def gaussian_noise(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    std: Budget = 0.1,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """One draw of normal noise, clamped to [0, 1], the same for every picture.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        std: the standard deviation of each value, one or one for each picture, in pixel units.
        mask: the region that may be touched, see `check_mask`.
        seed: of the noise.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` is l2, its `loss` the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked.
    """
    operation = "attack with noise"
    with searching(
        network, pictures, labels, operation=operation, targets=targets, norm="l2", mask=mask, batch_size=batch_size
    ) as search:
        size, rows = per_picture(std, search.x, "std", operation), search.active
        noise = torch.randn(search.x.shape[1:], generator=generator(seed), dtype=torch.float64).to(search.x)
        if len(rows):
            low, high = search.box(rows)
            z = torch.minimum(torch.maximum(search.x[rows] + size[rows] * noise, low), high)
            search.offer(z, rows, search.ask(z, rows))
        return search.result()


def no_attack(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    batch_size: int | None = None,
) -> Result:
    """The pictures as they are: its successes are the network's own mistakes, or with `targets` what it says anyway.

    Arguments, result and errors as of `gaussian_noise`.
    """
    with searching(
        network, pictures, labels, operation="judge the pictures", targets=targets, batch_size=batch_size
    ) as search:
        return search.result()
