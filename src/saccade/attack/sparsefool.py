"""SparseFool: the boundary that DeepFool finds, crossed along the fewest values."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.balls import Norm, crossing, distance
from saccade.attack.deepfool import REMAINING, highest_others, to_boundary
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.losses import margin
from saccade.attack.polish import go_nearer
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with SparseFool"


def sparsefool(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    norm: Norm = "l0",
    steps: int = 20,
    inner: int = 50,
    push: float = 1.0,
    overshoot: float = 0.02,
    classes: int = 10,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """A picture with few changed values that fools the network.

    Each step finds a point beyond the boundary by DeepFool (L2), takes the plane through it across the slope there, and
    goes to the nearest point of that plane in the norm: values change as far as they may, one after the other. A
    picture leaves as soon as it fools the network. Modas and others 2019, arXiv:1811.02248.

    Args:
        network, pictures, labels, mask, batch_size: as in `ddn`.
        norm: "l1" takes the values of the largest slopes first, as the paper does; "l0" those that gain most until the
            border of the box, which needs the fewest.
        steps: the most that a picture may take.
        inner: the most steps of DeepFool in each.
        push: how many times as far as DeepFool's point the plane is, 1 or more: the larger, the sooner a picture is
            fooled, and the more values change.
        overshoot: by what share the plane is passed.
        classes: as in `deepfool`.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, inner=inner, overshoot=overshoot)
    check_settings(OPERATION, 1, push=push)
    check_settings(OPERATION, 2, classes=classes)
    if norm not in ("l1", "l0"):
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected one of l1, l0.")
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
        everyone = rows = search.active
        z, scores = search.x[rows], search.scores[rows]
        for _ in range(steps):
            if len(rows) == 0:
                break
            x, (low, high) = search.x[rows], search.box(rows)
            beyond, rival = _beyond(search, z, rows, scores, inner, overshoot, classes)
            beyond = torch.minimum(torch.maximum(z + push * (beyond - z), low), high)
            one_hot = F.one_hot(torch.stack([search.labels[rows], rival], 1), scores.shape[1]).to(scores)
            _, slopes = search.slopes(beyond, rows, one_hot[:, 1:] - one_hot[:, :1])
            slope = slopes[:, 0]
            gain = (slope * (beyond - z)).flatten(1).sum(1)
            z = crossing(norm, z, slope, gain, low, high)
            point = torch.minimum(torch.maximum(x + (1 + overshoot) * (z - x), low), high)
            scores = search.ask(point, rows)
            rows, z, scores = kept(~search.offer(point, rows, scores), rows, point, scores)
        if polish:
            go_nearer(search, everyone)
        return search.result()


def _beyond(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    scores: Float[Tensor, "m classes"],
    steps: int,
    overshoot: float,
    classes: int,
) -> tuple[Float[Tensor, "m c h w"], Int[Tensor, " m"]]:
    """DeepFool's points, starting from `z`, and the class that is said there, or nearly so."""
    end, rival = z.clone(), highest_others(scores, search.labels[rows], 2)[:, 0]
    on, at, total = torch.arange(len(rows), device=rows.device), z, torch.zeros_like(z)
    rivals = highest_others(scores, search.labels[rows], classes)
    for _ in range(steps):
        here, (low, high) = rows[on], search.box(rows[on])
        least = overshoot / 4 * distance(total, "l2")
        near, rivals = to_boundary(search, at, here, scores, rivals, norm="l2", least=least)
        total = total + near - at
        at = torch.minimum(torch.maximum(z[on] + (1 + overshoot) * total, low), high)
        scores = search.ask(at, here)
        end[on], rival[on] = at, highest_others(scores, search.labels[here], 2)[:, 0]
        left = ~search.fools(scores, here)
        on, at, total, scores, rivals = kept(left, on, at, total, scores, rivals[:, :REMAINING])
        if len(on) == 0:
            break
    return end, rival
