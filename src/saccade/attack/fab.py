"""Fast adaptive boundary attack: the nearest point across a boundary, by projections onto its linear approximation."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.apgd import check_norm, goals, look_toward, standing
from saccade.attack.balls import Norm, crossing, distance
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import lead, margin, runners_up
from saccade.attack.question import Budget, check_settings, per_picture
from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator, mix
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with FAB"
BIAS = 0.1  # the most that a step is drawn to the original
OVERSHOOT = 1.05
RETREAT = 0.9  # how far from the original it goes on, of where it crossed
HELD = 2**27  # numbers of gradients at once, if there are many classes


def fab(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    steps: int = 100,
    restarts: int = 1,
    classes: int = 0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """The least change that fools: each step goes to the nearest boundary as the gradients see it, within [0, 1].

    The step is a mean of the projections of the current point and of the original onto that hyperplane, a little beyond
    it; once across, it goes on from a point drawn back to the original. Croce and Hein 2020, arXiv:1907.02044.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: "linf", "l2" or "l1".
        eps: the largest change that counts, one or one for each picture, in pixel units: a picture leaves once it is
            fooled by a smaller one. None looks for the smallest with all steps.
        steps: of each start.
        restarts: how many starts: the original, then random points of half its smallest change so far, or half eps.
        classes: go toward the boundaries to so many other classes in turn, those of the highest scores first, with one
            gradient a step; 0 goes to the nearest of all, with a gradient for every class. FAB-T is classes=9.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_norm(norm, OPERATION)
    check_settings(OPERATION, 1, steps=steps, restarts=restarts)
    check_settings(OPERATION, 0, classes=classes)
    if classes and targets is not None:
        raise SaccadeError(f"Could not {OPERATION}: both targets and classes were given; leave classes at 0.")
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm=norm, mask=mask, batch_size=batch_size
    ) as search:
        everyone, radius = search.active, None if eps is None else per_picture(eps, search.x, "eps", OPERATION)
        for i, goal in enumerate(goals(search, classes)):
            rows = everyone if eps is None else search.active
            run_fab(search, radius, rows=rows, steps=steps, restarts=restarts, goal=goal, seed=mix(seed, i))
        return search.result()


def run_fab(
    search: Search,
    eps: Float[Tensor, "n 1 1 1"] | None,
    *,
    rows: Int[Tensor, " m"] | None = None,
    steps: int = 100,
    restarts: int = 1,
    goal: Int[Tensor, " n"] | None = None,
    seed: int = 0,
) -> None:
    """`fab` as a part of another search, on all or some of its pictures.

    goal: the class whose boundary each picture of the search is to cross; None is the nearest. Without `eps`, those of
    `rows` that have been fooled are tried again.
    """
    for restart in range(restarts):
        rows = standing(search, rows) if rows is None or eps is not None else rows
        if len(rows) == 0:
            return
        start = search.x[rows] if restart == 0 else _around(search, rows, eps, mix(seed, restart))
        approach(search, rows, start, eps, steps, None if goal is None else goal[rows])


def approach(
    search: Search,
    rows: Int[Tensor, " m"],
    z: Float[Tensor, "m c h w"],
    eps: Float[Tensor, "n 1 1 1"] | None,
    steps: int,
    goal: Int[Tensor, " m"] | None = None,
) -> None:
    """One run of FAB from the points `z`, to the boundary of the classes `goal` or the nearest.

    Points that fool, and are within `eps` if it is given, are kept.
    """
    gap, slope = _boundary(search, z, rows, goal)[1:]
    crossed = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        x, (low, high) = search.x[rows], search.box(rows)
        z = _hop(z, x, low, high, slope, gap, search.measure)
        if step + 1 == steps:
            scores = search.ask(z, rows)
        else:
            # A point that is across is left at once, and its gradient not needed; most that were across are so again.
            scores, gap, slope = _look_or_ask(search, z, rows, goal, gap, slope, crossed)
        guessed, crossed = crossed, search.fools(scores, rows)
        near = crossed if eps is None else crossed & (distance(z - x, search.measure) <= eps[rows].flatten())
        if near.any():
            search.offer(z[near], rows[near], scores[near])
            if eps is not None:
                rows, z, x, goal, gap, slope, guessed, crossed = kept(
                    ~near, rows, z, x, goal, gap, slope, guessed, crossed
                )
        if len(rows) == 0 or step + 1 == steps:
            break
        z = torch.where(crossed.view(-1, 1, 1, 1), x + RETREAT * (z - x), z)
        unseen = crossed | guessed
        if unseen.any():
            _, gap[unseen], slope[unseen] = _boundary(
                search, z[unseen], rows[unseen], None if goal is None else goal[unseen]
            )


def _look_or_ask(
    search: Search,
    z: Tensor,
    rows: Tensor,
    goal: Tensor | None,
    gap: Tensor,
    slope: Tensor,
    only_ask: Bool[Tensor, " m"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of all points; gaps and slopes too but of those to `only_ask` about, which keep the ones they have."""
    scores = torch.empty_like(search.scores[rows])
    on = ~only_ask
    if on.any():
        scores[on], gap[on], slope[on] = _boundary(search, z[on], rows[on], None if goal is None else goal[on])
    if only_ask.any():
        scores[only_ask] = search.ask(z[only_ask], rows[only_ask])
    return scores, gap, slope


def _boundary(
    search: Search, z: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"], goal: Int[Tensor, " m"] | None
) -> tuple[Float[Tensor, "m classes"], Float[Tensor, " m"], Float[Tensor, "m c h w"]]:
    """Scores, and the boundary to cross as gap (M,) and slope: where gap + slope * (point - z) is 0.

    It is that to the class `goal`; or to the targets of the search; or the nearest.
    """
    if goal is not None or search.targets is not None:
        look = look_toward(search, z, rows, goal, margin if goal is None else lead)
        return look.scores, look.loss.to(z), look.gradient
    others = runners_up(search.scores[rows], search.labels[rows], search.scores.shape[1])
    said, gaps, slopes = [], [], []
    for part in chunks(len(z), max(1, min(search.batch, HELD // (others.shape[1] * z[0].numel())))):
        scores, lead_by, slope_by = leads(search, z[part], rows[part], others[part])
        nearest = (lead_by.abs() / DUAL[search.measure](slope_by.flatten(2)).clamp_min(1e-12)).argmin(1)
        own = torch.arange(len(nearest), device=z.device)
        said.append(scores)
        gaps.append(lead_by[own, nearest])
        slopes.append(slope_by[own, nearest])
    return torch.cat(said), torch.cat(gaps), torch.cat(slopes)


def leads(
    search: Search, z: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"], classes: Int[Tensor, "m k"]
) -> tuple[Float[Tensor, "m classes"], Float[Tensor, "m k"], Float[Tensor, "m k c h w"]]:
    """Scores, those of some classes less the label's, and the gradients of these differences: K passes back."""
    labels = search.labels[rows, None]
    weights = F.one_hot(classes, search.scores.shape[1]) - F.one_hot(labels, search.scores.shape[1])
    scores, slopes = search.slopes(z, rows, weights.to(z))
    return scores, (scores.gather(1, classes) - scores.gather(1, labels)).to(z), slopes


DUAL: dict[Norm, Callable[[Tensor], Tensor]] = {
    "linf": lambda slope: slope.abs().sum(-1),
    "l2": lambda slope: torch.linalg.vector_norm(slope, dim=-1),
    "l1": lambda slope: slope.abs().amax(-1),
}
"""By how much a linear function with this slope (..., D) can change over a distance of 1."""


def _hop(z: Tensor, x: Tensor, low: Tensor, high: Tensor, slope: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The next point, between the projections of `z` and of `x` onto the boundary."""
    from_z = _to_plane(z, low, high, slope, gap, norm)
    from_x = _to_plane(x, low, high, slope, gap + (slope * (x - z)).flatten(1).sum(1), norm)
    far, near = distance(from_z, norm).clamp_min(1e-8), distance(from_x, norm).clamp_min(1e-8)
    bias = (far / (far + near)).clamp(max=BIAS).view(-1, 1, 1, 1)
    new = (1 - bias) * (z + OVERSHOOT * from_z) + bias * (x + OVERSHOOT * from_x)
    return torch.minimum(torch.maximum(new, low), high)


def _to_plane(z: Tensor, low: Tensor, high: Tensor, slope: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The least change d, in a norm, with gap + slope * d = 0 and z + d within [low, high], or the nearest to it."""
    uphill = -slope * gap.sign().view(-1, 1, 1, 1)
    return crossing(norm, z, uphill, gap.abs(), low, high) - z


def _around(search: Search, rows: Tensor, eps: Tensor | None, key: int) -> Tensor:
    """Random points at half of eps, or of the smallest change so far, from the pictures, clamped to their box."""
    x, norm = search.x[rows], search.measure
    far = x.new_full((len(rows),), EPS[norm]) if eps is None else eps[rows].flatten()
    far = torch.minimum(far, search.norm[rows]).view(-1, 1, 1, 1)
    drawn = generator(key)
    if norm == "linf":
        change = torch.rand(x.shape[1:], generator=drawn, dtype=torch.float64)[None] * 2 - 1
    else:
        change = torch.randn(x.shape[1:], generator=drawn, dtype=torch.float64)[None]
    low, high = search.box(rows)
    z = x + far / 2 * (change / distance(change, norm)).to(x)
    return torch.minimum(torch.maximum(z, low), high)
