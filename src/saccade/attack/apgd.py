"""Auto-PGD: projected gradient ascent that chooses its step sizes itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.balls import NORMS, Ball, Norm
from saccade.attack.engine import Look, Result, Search, Views, kept, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import Loss, find_loss, runners_up, toward
from saccade.attack.question import Budget, check_settings, per_picture
from saccade.attack.views import Repeats, chained
from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator, mix
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with APGD"
MOMENTUM = 0.75  # the share of a step that is new
RHO = 0.75  # the share of steps that must raise the loss for their length to stay
WIDE = ((3, 0.3), (2, 0.3), (1, 0.4))  # radii in units of eps, and their shares of the steps


def apgd(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    steps: int = 100,
    restarts: int = 1,
    loss: str | Loss = "ce",
    classes: int = 0,
    wide: bool = False,
    eot: int = 1,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """Ascent with momentum from steps of 2 eps on, which are halved, back at the best point, wherever they stop paying.

    After shares of 0.22, 0.41, 0.57, ... of the steps, a picture's step is halved if fewer than three in four of its
    steps since the last check raised the loss, or if neither its step nor its highest loss has changed since then.
    Croce and Hein 2020, arXiv:2003.01690. For l1 the steps go along the steepest values alone, as many as the best
    point so far needed: Croce and Hein 2021, arXiv:2103.01208.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: "linf", "l2" or "l1".
        eps: the radius of the ball, one or one for each picture, in pixel units; by default 8/255, 0.5 or 12.
        steps: of each start.
        restarts: how many random starts; a picture leaves as soon as it is fooled.
        loss: see `LOSSES`, or a function; "dlr" does not change with the scale of the scores.
        classes: go toward so many other classes in turn, those of the highest scores first, by the targeted form of the
            loss; 0 goes away from the label. APGD-T is loss="dlr", classes=9.
        wide: start in a ball of 3 eps, and go on in one of 2 eps; what l1 is usually attacked with.
        eot: gradients are means over so many passes, for networks that are not deterministic; what fools them then
            must do so in a second pass.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_norm(norm, OPERATION)
    check_settings(OPERATION, 1, steps=steps, restarts=restarts, eot=eot)
    check_settings(OPERATION, 0, classes=classes)
    if classes and targets is not None:
        raise SaccadeError(f"Could not {OPERATION}: both targets and classes were given; leave classes at 0.")
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm=norm,
        mask=mask,
        batch_size=batch_size,
        random=eot > 1,
    ) as search:
        radius = per_picture(EPS[norm] if eps is None else eps, search.x, "eps", OPERATION)
        for i, goal in enumerate(goals(search, classes)):
            run_apgd(
                search,
                radius,
                loss=find_loss(loss),
                steps=steps,
                restarts=restarts,
                goal=goal,
                wide=wide,
                eot=eot,
                seed=mix(seed, i),
            )
        return search.result()


def run_apgd(
    search: Search,
    eps: Float[Tensor, "n 1 1 1"],
    *,
    rows: Int[Tensor, " m"] | None = None,
    loss: Loss,
    steps: int = 100,
    restarts: int = 1,
    goal: Int[Tensor, " n"] | None = None,
    wide: bool = False,
    eot: int = 1,
    seed: int = 0,
) -> None:
    """`apgd` as a part of another search, on all or some of its pictures.

    goal: the class that each picture of the search is to go toward; None is away from its label.
    """
    for restart in range(restarts):
        rows, key = standing(search, rows), mix(seed, restart)
        if len(rows) == 0:
            return
        aim = None if goal is None else goal[rows]
        z = None
        for factor, share in WIDE[:-1] if wide else ():
            z = climb(search, rows, factor * eps, loss, round(share * steps), key, aim, eot, z, judged=False)
        climb(search, rows, eps, loss, round(WIDE[-1][1] * steps) if wide else steps, key, aim, eot, z)


def goals(search: Search, classes: int) -> Sequence[Int[Tensor, " n"] | None]:
    """The other classes to go toward in turn, those of the highest scores first; None, once, for away from the label.

    There are `classes` of them, or as many as the network has.
    """
    return runners_up(search.scores, search.labels, classes).unbind(1) if classes else [None]


def check_norm(norm: Norm, operation: str) -> None:
    """Raise `SaccadeError` unless there is a ball of this norm that these attacks are made for."""
    if norm not in NORMS:
        raise SaccadeError(f"Could not {operation}: norm is {norm!r}, expected one of {', '.join(NORMS)}.")


def standing(search: Search, rows: Int[Tensor, " m"] | None) -> Int[Tensor, " k"]:
    """Those of all or some pictures that have not been fooled."""
    return search.active if rows is None else rows[~search.success[rows]]


def climb(
    search: Search,
    rows: Int[Tensor, " m"],
    eps: Float[Tensor, "n 1 1 1"],
    loss: Loss,
    steps: int,
    key: int,
    goal: Int[Tensor, " m"] | None = None,
    eot: int = 1,
    start: Float[Tensor, "m c h w"] | None = None,
    *,
    judged: bool = True,
) -> Float[Tensor, "k c h w"]:
    """One run of APGD from `start` or a random point, toward the classes `goal` or away from the labels.

    Returns the points of the highest loss. judged: pictures that are fooled are kept and leave, and then the points of
    the others alone are returned; False in a ball larger than what counts.
    """
    where = search.ball(rows, eps)
    z = _random(where, key) if start is None else where.project(start)
    drawn = start is None and judged  # in a wider ball, what was drawn says how sparse it should be
    pace: _Halved | _Sparse = _Halved.first(where) if where.norm != "l1" else _Sparse.first(where, z, drawn)
    checks = set(pace.checks(steps))
    old = best = best_gradient = z
    highest = previous = torch.full_like(where.eps.flatten(), -torch.inf)
    since = 0
    for step in range(steps + 1):
        if judged and step == steps:
            _offer(search, z, rows, search.ask(z, rows), eot)
            break
        views = None if eot == 1 else chained([Repeats(eot)], key, step)
        look = look_toward(search, z, rows, goal, loss, views=views, stop=judged)
        value, gradient = look.loss.to(z), look.gradient
        if judged:
            on = ~_offer(search, z, rows, look.scores, eot)
            rows, where, goal, z, old, value, gradient, best, best_gradient, highest, previous, pace = kept(
                on, rows, where, goal, z, old, value, gradient, best, best_gradient, highest, previous, pace
            )
            if len(rows) == 0:
                break
        better = _wide(value > highest)
        best, best_gradient = torch.where(better, z, best), torch.where(better, gradient, best_gradient)
        highest = torch.maximum(highest, value)
        if step:
            since += 1
            pace = pace.noted(value > previous)
        previous = value
        if step in checks:
            pace, back = pace.checked(since, highest, best, where)
            z, gradient = torch.where(_wide(back), best, z), torch.where(_wide(back), best_gradient, gradient)
            since = 0
        if step < steps:
            z, old = pace.step(where, z, z - old if step else None, gradient), z
    return best


@dataclass(frozen=True)
class _Halved:
    """The steps of M pictures for linf and l2. length: of the next. ups: how many raised the loss since the last check.
    last: the highest loss then; halved: whether the step was halved then.
    """

    length: Float[Tensor, "m 1 1 1"]
    ups: Int[Tensor, " m"]
    last: Float[Tensor, " m"]
    halved: Bool[Tensor, " m"]

    @classmethod
    def first(cls, where: Ball) -> "_Halved":
        each = where.eps.flatten()
        ups, halved = torch.zeros_like(each, dtype=torch.int64), torch.ones_like(each, dtype=torch.bool)
        return cls(2 * where.eps, ups, each, halved)  # as if it had been halved, so that the first check counts alone

    def __getitem__(self, on: Tensor) -> "_Halved":
        return _Halved(self.length[on], self.ups[on], self.last[on], self.halved[on])

    @staticmethod
    def checks(steps: int) -> list[int]:
        """After how many steps to check, in the paper's shares of a hundred, rounded up."""
        shares, gap = [22], 22
        while shares[-1] < 100:
            gap = max(gap - 3, 6)
            shares.append(shares[-1] + gap)
        return [-(-share * steps // 100) for share in shares]

    def noted(self, rose: Bool[Tensor, " m"]) -> "_Halved":
        """After a step."""
        return replace(self, ups=self.ups + rose)

    def checked(
        self,
        since: int,
        highest: Float[Tensor, " m"],
        best: Tensor,  # noqa: ARG002
        where: Ball,  # noqa: ARG002
    ) -> tuple["_Halved", Bool[Tensor, " m"]]:
        """The next steps, and who goes back to the best point."""
        halve = (self.ups < RHO * since) | (~self.halved & (self.last == highest))
        length = torch.where(_wide(halve), self.length / 2, self.length)
        return _Halved(length, torch.zeros_like(self.ups), highest, halve), halve

    def step(self, where: Ball, z: Tensor, before: Tensor | None, gradient: Tensor) -> Tensor:
        """From `z` along the gradient, and a little as before."""
        new = where.climb(z, gradient, self.length)
        if before is None:
            return new
        return where.project(z + MOMENTUM * (new - z) + (1 - MOMENTUM) * before)


@dataclass(frozen=True)
class _Sparse:
    """The steps of M pictures for l1. share: of the values that the next changes. size: how many values the best point
    had changed at the last check.
    """

    length: Float[Tensor, "m 1 1 1"]
    share: Float[Tensor, " m"]
    size: Int[Tensor, " m"]

    @classmethod
    def first(cls, where: Ball, z: Tensor, drawn: bool) -> "_Sparse":
        size, values = _changed(z, where), where.x[0].numel()
        if drawn:
            return cls(where.eps, torch.full_like(where.eps.flatten(), 0.2), torch.full_like(size, values))
        return cls(where.eps, (size / values / 1.5).to(where.eps), size)

    def __getitem__(self, on: Tensor) -> "_Sparse":
        return _Sparse(self.length[on], self.share[on], self.size[on])

    @staticmethod
    def checks(steps: int) -> range:
        """After how many steps to check."""
        gap = max(int(0.04 * steps), 1)
        return range(gap, steps + 1, gap)

    def noted(self, rose: Tensor) -> "_Sparse":  # noqa: ARG002
        return self

    def checked(
        self,
        since: int,  # noqa: ARG002
        highest: Tensor,  # noqa: ARG002
        best: Tensor,
        where: Ball,
    ) -> tuple["_Sparse", Bool[Tensor, " m"]]:
        """The next steps, and who goes back to the best point: those whose best point grew sparser."""
        size = _changed(best, where)
        sparser = size < 0.95 * self.size
        length = torch.where(_wide(sparser), where.eps, torch.maximum(self.length / 1.5, where.eps / 10))
        return _Sparse(length, (size / best[0].numel() / 1.5).to(best), size), sparser

    def step(self, where: Ball, z: Tensor, before: Tensor | None, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """From `z` along the signs of the steepest values."""
        steep = gradient.abs().flatten(1)
        values = steep.shape[1]
        first = ((1 - self.share) * values).clamp(0, values - 1).long()
        least = steep.sort(1).values.gather(1, first[:, None])
        signs = torch.where(steep >= least, gradient.sign().flatten(1), 0)
        change = self.length.flatten(1) * signs / signs.abs().sum(1, keepdim=True).clamp_min(1)
        return where.project(z + change.view_as(z))


def look_toward(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    classes: Int[Tensor, " m"] | None,
    loss: Loss,
    *,
    views: Views | None = None,
    stop: bool = False,
) -> Look:
    """`Search.look`, up a loss toward one class for each picture, or as the search is aimed if there are none."""
    if classes is None:
        return search.look(z, rows, loss=loss, views=views, stop=stop)
    looks = [
        search.look(z[part], rows[part], loss=toward(loss, classes[part]), views=views, stop=stop)
        for part in chunks(len(z), search.batch)
    ]
    return Look(*(torch.cat([getattr(one, key) for one in looks]) for key in ("scores", "loss", "gradient")))


def _offer(search: Search, z: Tensor, rows: Tensor, scores: Tensor, eot: int) -> Bool[Tensor, " m"]:
    """`Search.offer`; where a network is not deterministic, only of what fools it twice."""
    if eot == 1:
        return search.offer(z, rows, scores)
    fooled = search.fools(scores, rows)
    if fooled.any():
        hits = fooled.nonzero()[:, 0]
        fooled[hits] = search.offer(z[hits], rows[hits], search.ask(z[hits], rows[hits]))
    return fooled


def _random(where: Ball, key: int) -> Tensor:
    """Where a run begins: uniform in the ball; for l1 the projection of normal numbers, which is sparse."""
    if where.norm != "l1":
        return where.random(key)
    drawn = torch.randn(where.x.shape[1:], generator=generator(key), dtype=torch.float64)
    return where.project(where.x + drawn.to(where.x))


def _changed(z: Tensor, where: Ball) -> Int[Tensor, " m"]:
    return (z != where.x).flatten(1).sum(1)


def _wide(each: Tensor) -> Tensor:
    return each.view(-1, 1, 1, 1)
