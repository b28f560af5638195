"""DDN: a point on a sphere around the picture that climbs the loss, while the sphere shrinks and grows."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from saccade.attack.balls import distance, steepest
from saccade.attack.engine import Result, searching
from saccade.attack.losses import Loss, find_loss
from saccade.attack.polish import go_nearer
from saccade.attack.question import Budget, check_settings, per_picture
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with DDN"


def ddn(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    steps: int = 100,
    eps: Budget = 1.0,
    gamma: float = 0.05,
    loss: str | Loss = "ce",
    levels: int | None = None,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture (L2) that fools the network, by decoupled direction and norm.

    A step goes up the loss by a length that falls from 1 to 0.01 along half a cosine; then the change is
    stretched to a radius that shrinks by `gamma` where the last point fooled the network and grows by it where not.
    The box is kept by stretching the values that are still free, where the paper clips. Rony and others 2019,
    arXiv:1811.09600.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        steps: gradients taken.
        eps: the first radius, one or one for each picture.
        gamma: by what share the radius changes, below 1.
        loss: see `LOSSES`, or a function. Of several classes, the cross entropy does not lead straight to the nearest.
        levels: round to as many values, as 256 for a picture that shall be saved in 8 bits; None keeps all.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one. With `levels` there is none.
        mask: the region that may be touched, see `check_mask`.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `loss` is the one attacked.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, gamma=gamma)
    if gamma >= 1 or (levels is not None and levels < 2):
        raise SaccadeError(
            f"Could not {OPERATION}: gamma is {gamma} and levels {levels}, expected a share below 1 and 2 or more."
        )
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm="l2",
        loss=find_loss(loss),
        mask=mask,
        batch_size=batch_size,
    ) as search:
        where = search.ball(search.active, per_picture(eps, search.x, "eps", OPERATION))
        rows, x, z = search.active, where.x, where.x
        if len(rows) == 0:
            return search.result()
        widest = distance(torch.maximum(x - where.low, where.high - x), "l2").view_as(where.eps)
        for step in range(steps):
            look = search.look(z, rows)
            fooled = search.offer(z, rows, look.scores).view_as(where.eps)
            radius = where.eps * torch.where(fooled, 1 - gamma, 1 + gamma)
            where = replace(where, eps=torch.minimum(radius, widest))
            alpha = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
            z = where.best(z + alpha * steepest(look.gradient, "l2") - x)
            if levels is not None:
                rounded = (z * (levels - 1)).round() / (levels - 1)
                z = torch.where(z == x, x, torch.minimum(torch.maximum(rounded, where.low), where.high))
        search.offer(z, rows, search.ask(z, rows))
        if polish and levels is None:
            go_nearer(search, rows)
        return search.result()
