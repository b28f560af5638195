"""DeepFool: again and again to the nearest boundary, as if the scores were linear."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.balls import Norm, crossing, distance
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.losses import margin
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with DeepFool"
REMAINING = 3  # rivals after the first step: the nearest hardly ever was farther
DUAL = {"linf": 1, "l2": 2}


def deepfool(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    norm: Norm = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """A near picture that fools the network, at the nearest boundary that the scores would have if they were linear.

    Each step goes to the nearest point, in the norm and in the box at once, at which the linearised score of one of the
    other classes reaches that of the label; the sum of all steps is stretched by `overshoot`. A picture leaves as soon
    as it fools the network: the attack is the fastest of those that seek a small change, and does not refine it.
    Moosavi-Dezfooli and others 2016, arXiv:1511.04599, where the box is not known to the steps.

    Args:
        network, pictures, labels, mask, batch_size: as in `ddn`.
        norm: "l2" or "linf".
        steps: the most that a picture may take.
        overshoot: by what share the boundary is passed.
        classes: how many of the highest scores, with the label's, are looked at; each costs a pass backward.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, overshoot=overshoot)
    check_settings(OPERATION, 2, classes=classes)
    if norm not in DUAL:
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected one of {', '.join(DUAL)}.")
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        norm=norm,
        loss=margin,
        mask=mask,
        batch_size=batch_size,
    ) as search:
        rows = search.active
        z, scores, total = search.x[rows], search.scores[rows], torch.zeros_like(search.x[rows])
        rivals = highest_others(scores, search.labels[rows], classes)
        for _ in range(steps):
            if len(rows) == 0:
                break
            x, (low, high) = search.x[rows], search.box(rows)
            least = overshoot / 4 * distance(total, norm)  # a boundary must be passed, not only approached
            near, rivals = to_boundary(search, z, rows, scores, rivals, norm=norm, least=least)
            total = total + near - z
            z = torch.minimum(torch.maximum(x + (1 + overshoot) * total, low), high)
            scores = search.ask(z, rows)
            on = ~search.offer(z, rows, scores)
            rows, z, scores, total, rivals = kept(on, rows, z, scores, total, rivals[:, :REMAINING])
        return search.result()


def highest_others(
    scores: Float[Tensor, "m classes"], labels: Int[Tensor, " m"], classes: int
) -> Int[Tensor, "m others"]:
    """The classes of the highest scores besides the label, which is one of the `classes` too."""
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(classes, scores.shape[1]) - 1, dim=1).indices


def to_boundary(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    scores: Float[Tensor, "m classes"],
    rivals: Int[Tensor, "m others"],
    *,
    norm: Norm,
    least: Float[Tensor, " m"],
) -> tuple[Float[Tensor, "m c h w"], Int[Tensor, "m others"]]:
    """The nearest points at which one of the rivals reaches the label, by the scores and their slopes at `z`.

    The nearest rival is that of the least lead over the dual norm of its slope, of which what has no room in the box
    does not count. least: the shortest way to go.

    Returns the points, and the rivals, the nearest first.
    """
    labels, (low, high) = search.labels[rows], search.box(rows)
    one_hot = F.one_hot(torch.cat([labels[:, None], rivals], 1), scores.shape[1]).to(scores)
    _, slopes = search.slopes(z, rows, one_hot[:, 1:] - one_hot[:, :1])
    leads = scores.gather(1, labels[:, None]) - scores.gather(1, rivals)
    leads = torch.maximum(leads, search.rounding(scores)[:, None]).to(z)
    free = torch.where(slopes > 0, (z < high)[:, None], (z > low)[:, None])
    steep = torch.linalg.vector_norm(slopes * free, DUAL[norm], (2, 3, 4))
    order = (leads / steep).argsort(dim=1, stable=True)
    first = torch.arange(len(z), device=z.device), order[:, 0]
    gain = torch.maximum(leads[first], least * steep[first])
    return crossing(norm, z, slopes[first], gain, low, high), rivals.gather(1, order)
