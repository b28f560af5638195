"""sigma-zero: a differentiable count of the changed values is minimised, and small changes are cut off."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.carlini_wagner import descent
from saccade.attack.engine import Result, searching
from saccade.attack.losses import margin
from saccade.attack.polish import go_nearer
from saccade.attack.question import check_settings
from saccade.networks.targets import Target

OPERATION = "attack with sigma-zero"


def sigma_zero(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    steps: int = 300,
    lr: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    adjust: float = 0.01,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The picture that fools the network with the fewest changed values (L0).

    Adam on the negative margin, where it is above 0, plus the mean of d^2 / (d^2 + sigma) over all values, d being
    their changes. After each step changes below a threshold are undone; it rises where the picture fooled the network
    and falls where not. Cina and others 2025, arXiv:2402.01879.

    Args:
        network, pictures, labels, targets, mask, batch_size: as in `ddn`.
        steps: gradients taken; the paper's quality takes 1000.
        lr: the first learning rate; it falls to a tenth along half a cosine.
        sigma: how sharply the count is approximated: what square of a change counts as a half.
        threshold: the first.
        adjust: by how much it changes a step, in units of the learning rate.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, lr=lr, threshold=threshold, adjust=adjust)
    check_settings(OPERATION, 1e-12, sigma=sigma)
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm="l0",
        loss=margin,
        mask=mask,
        batch_size=batch_size,
    ) as search:
        rows = search.active
        if len(rows) == 0:
            return search.result()
        x, (low, high) = search.x[rows], search.box(rows)
        z, adam, rate = x, descent(torch.zeros_like(x)), lr
        cut = torch.full_like(x[:, :1, :1, :1], threshold)
        for step in range(steps):
            look = search.look(z, rows)
            fooled = search.offer(z, rows, look.scores).view_as(cut)
            change = z - x
            gradient = _count_slope(change, sigma) - torch.where(fooled, 0, look.gradient)
            gradient = gradient * (high > low)
            adam = adam.step(gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12), rate)
            z = torch.minimum(torch.maximum(x + adam.w, low), high)
            rate = lr * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
            cut = (cut + torch.where(fooled, adjust, -adjust) * rate).clamp(0, 1)
            z = torch.where((z - x).abs() < cut, x, z)
            adam = adam.at(z - x)
        search.offer(z, rows, search.ask(z, rows))
        if polish:
            go_nearer(search, rows)
        return search.result()


def _count_slope(change: Float[Tensor, "m c h w"], sigma: float) -> Float[Tensor, "m c h w"]:
    """The gradient of the mean of d^2 / (d^2 + sigma)."""
    return 2 * sigma * change / (change.square() + sigma).square() / change[0].numel()
