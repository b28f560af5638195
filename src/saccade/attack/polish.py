"""The last part of attacks that seek a small change: what they found, moved to the nearest point of the boundary."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.balls import crossing, distance
from saccade.attack.engine import Search
from saccade.attack.losses import margin, runners_up

RIVALS = 9  # classes whose boundaries are looked at, at first; then the nearest alone
HOPS = 2
HALVINGS = 8
BEYOND = 1e-3  # by what share a boundary is passed

Size = Callable[[Tensor], Tensor]
"""Changes (M, C, H, W) -> how far they count (M,), if that is not the norm."""


def go_nearer(search: Search, rows: Int[Tensor, " m"], *, confidence: float = 0.0, size: Size | None = None) -> None:
    """Move the points found for some pictures nearer to these, as far as they still fool the network.

    Twice to the nearest point at which the scores, linear as they are at the point found, would be equal, in the norm
    of the search and in the box at once: the first time of the boundaries to several classes, for an attack may have
    run to one that is nearest in scores and not in pixels. Then by halving the way between the picture and the point.
    Where the scores are linear, the first hop ends at the optimum. Only what is nearer and fools is kept, so that
    nothing can get worse. A hop costs two passes forward and one backward for each class looked at, a halving one.

    confidence: how far the margin must be above 0. size: as in `Search.offer`, of changes.
    """
    rows = rows[search.success[rows] & (search.norm[rows] > 0)]
    if len(rows) == 0:
        return
    for hop in range(HOPS):
        z = _nearest(search, rows, RIVALS if hop == 0 else 1, confidence)
        offer_sure(search, z, rows, search.ask(z, rows), confidence=confidence, size=size)
    if search.measure == "l0":
        return  # along the way all values change alike, and their number does not
    x, change = search.x[rows], search.best[rows] - search.x[rows]
    low, high = torch.zeros_like(change[:, :1, :1, :1]), torch.ones_like(change[:, :1, :1, :1])
    for _ in range(HALVINGS):
        share = (low + high) / 2
        z = x + share * change
        fooled = offer_sure(search, z, rows, search.ask(z, rows), confidence=confidence, size=size)
        inside = fooled.view_as(share)
        low, high = torch.where(inside, low, share), torch.where(inside, share, high)


def offer_sure(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    scores: Float[Tensor, "m classes"],
    *,
    confidence: float = 0.0,
    size: Size | None = None,
) -> Bool[Tensor, " m"]:
    """`Search.offer` of the points that fool the network by a margin of `confidence`; returns which do."""
    sure = search.fools(scores, rows) & (margin(scores, search.aim(rows)) >= confidence)
    if sure.any():
        far = None if size is None else size((z - search.x[rows])[sure])
        search.offer(z[sure], rows[sure], scores[sure], size=far)
    return sure


def _nearest(search: Search, rows: Int[Tensor, " m"], rivals: int, confidence: float) -> Float[Tensor, "m c h w"]:
    """The nearest points to the pictures at which the scores, linear as at the best points, fool the network."""
    x, z, wanted = search.x[rows], search.best[rows], search.aim(rows).wanted
    scores = search.ask(z, rows)
    others = runners_up(scores, wanted, rivals if search.targets is None else 1)
    weights = F.one_hot(others, scores.shape[1]) - F.one_hot(wanted[:, None], scores.shape[1])
    weights = (weights if search.targets is None else -weights).to(scores)
    _, slopes = search.slopes(z, rows, weights)
    leads = (weights * scores[:, None]).sum(2)  # above 0 where the network is fooled
    at_x = leads + (slopes * (x - z)[:, None]).flatten(2).sum(2).to(leads)
    need = (confidence - at_x + 2 * search.rounding(scores)[:, None]).to(x) * (1 + BEYOND)
    low, high = search.box(rows)
    nearest, least = z, torch.full_like(search.norm[rows], torch.inf)
    for slope, gain in zip(slopes.unbind(1), need.unbind(1), strict=True):
        there = crossing(search.measure, x, slope, gain, low, high)
        reached = (slope * (there - x)).flatten(1).sum(1)
        far = distance(there - x, search.measure)
        better = (far < least) & (gain > 0) & (reached >= gain * (1 - BEYOND / 2))
        least, nearest = torch.where(better, far, least), torch.where(better.view(-1, 1, 1, 1), there, nearest)
    return nearest
