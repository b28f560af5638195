"""FMN: gradient steps projected onto a ball whose radius follows the boundary; for all four norms."""

import math

import torch
from torch import Tensor, nn

from saccade.attack.balls import Norm, ball, distance, steepest
from saccade.attack.engine import Result, searching
from saccade.attack.losses import margin
from saccade.attack.polish import go_nearer
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with FMN"
LAST = 0.001  # the last share by which a radius changes
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


def fmn(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    steps: int = 100,
    alpha: float = 1.0,
    gamma: float = 0.05,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture in a norm that fools the network: the fast minimum-norm attack.

    Until a picture is fooled, its radius is where the boundary would be if the margin were linear; from then on it
    shrinks by a share where the last point fooled the network and grows by it where not, by a value or more for l0. A
    step up the margin is projected exactly onto that ball and the box at once. Pintor and others 2021,
    arXiv:2102.12827.

    Args:
        network, pictures, labels, targets, mask, batch_size: as in `ddn`.
        norm: "linf", "l2", "l1" or "l0", which counts the values that are changed.
        steps: gradients taken.
        alpha: the length (L2) of the first step; it falls to a hundredth along half a cosine.
        gamma: by what share the radius changes at first, below 1; it falls to 0.001 alike.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, alpha=alpha, gamma=gamma)
    if gamma >= 1:
        raise SaccadeError(f"Could not {OPERATION}: gamma is {gamma}, expected a share below 1.")
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm=norm,
        loss=margin,
        mask=mask,
        batch_size=batch_size,
    ) as search:
        rows = search.active
        if len(rows) == 0:
            return search.result()
        x, (low, high) = search.x[rows], search.box(rows)
        widest = distance(torch.maximum(x - low, high - x), norm)
        z, radius = x, torch.ones_like(widest)
        for step in range(steps):
            cosine = (1 + math.cos(math.pi * step / steps)) / 2
            length, share = alpha * (0.01 + 0.99 * cosine), LAST + max(gamma - LAST, 0) * cosine
            look = search.look(z, rows)
            fooled = search.offer(z, rows, look.scores)
            if norm == "l0":
                less = torch.minimum(radius - 1, (radius * (1 - share)).floor())
                more = torch.maximum(radius + 1, (radius * (1 + share)).floor())
            else:
                steep = torch.linalg.vector_norm(look.gradient, DUAL[norm], (1, 2, 3)).clamp_min(1e-12)
                lead = torch.maximum(look.loss.abs(), search.rounding(look.scores)).to(x)
                ahead = (distance(z - x, norm) + lead / steep) * (1 + LAST)  # a boundary must be passed
                less, more = radius * (1 - share), torch.where(search.success[rows], radius * (1 + share), ahead)
            radius = torch.where(fooled, torch.minimum(less, search.norm[rows]), more)
            radius = torch.minimum(radius.clamp_min(0), widest)
            where = ball(norm, x, radius.view(-1, 1, 1, 1), low, high, OPERATION)
            z = where.project(z + length * steepest(look.gradient, "l2"))
        search.offer(z, rows, search.ask(z, rows))
        if polish:
            go_nearer(search, rows)
        return search.result()
