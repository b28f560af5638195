"""The attacks of Carlini and Wagner: Adam on the distance and a hinge of the margin, in a space without a box."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.balls import Norm, distance
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.losses import margin
from saccade.attack.polish import go_nearer
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with Carlini and Wagner's attack"
RATE = 0.2  # a step of the attack of linf, in units of tau, if `lr` is longer
STRETCH = 1.1  # of the tanh beyond the box


def carlini_wagner(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "l2",
    steps: int = 100,
    searches: int | None = None,
    lr: float = 0.01,
    confidence: float = 0.0,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture in a norm that fools the network, by Adam on the distance plus c times a hinge of the margin.

    l2: the squared distance. c is searched for each picture: tenfold until it is fooled, then halfway between the
    largest that failed and the smallest that did not. linf: by how much the values exceed tau, which falls to half the
    nearest change found, or halfway to the largest tau that failed; the last point is the next start. l0: the attack of
    l2 again and again, each time without the changed values that the margin needs least, until it fails.

    Pixels are centre + half * tanh(w), stretched by a tenth and clamped, so that pixels that are 0 or 1 have a finite w
    and can move; in the paper they are at infinity. c starts at twice what would do if the margin were linear, not at a
    constant, so that the scale of the scores does not matter. Carlini and Wagner 2017, arXiv:1608.04644.

    Args:
        network, pictures, labels, targets, mask, batch_size: as in `ddn`.
        norm: "l2", "linf" or "l0".
        steps: of Adam, of each search; a picture leaves a search when its objective stands still.
        searches: how many values of c (l2, by default 9), of tau (linf, 20), or sets of values (l0, 100).
        lr: learning rate, in units of w.
        confidence: how far the margin must be above 0.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    if norm not in SEARCHES:
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected one of {', '.join(SEARCHES)}.")
    count, solve = SEARCHES[norm]
    count = count if searches is None else searches
    check_settings(OPERATION, 0, steps=steps, searches=count, lr=lr, confidence=confidence)
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
        if len(rows) and steps:
            solve(search, rows, count, steps, lr, confidence)
        if polish:
            go_nearer(search, rows, confidence=confidence)
        return search.result()


@dataclass(frozen=True)
class Box:
    """Points within [low, high] as centre + half * tanh(w); where low is high, w does nothing."""

    low: Float[Tensor, "m c h w"]
    high: Float[Tensor, "m c h w"]

    def __getitem__(self, on: Tensor) -> "Box":
        """The boxes of some of the pictures."""
        return Box(self.low[on], self.high[on])

    def point(self, w: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """The pixels."""
        z = (self.low + self.high) / 2 + self._half * w.tanh()
        return torch.minimum(torch.maximum(z, self.low), self.high)

    def slope(self, w: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Of the pixels by w, as if they were not clamped, so that none is stuck at the border."""
        return self._half * (1 - w.tanh().square())

    def inverse(self, z: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """The w of pixels."""
        half = self._half
        return ((z - (self.low + self.high) / 2) / half.where(half > 0, 1)).atanh()

    @property
    def _half(self) -> Tensor:
        return STRETCH * (self.high - self.low) / 2


@dataclass(frozen=True)
class Descent:
    """Adam in progress, of M pictures: where it is, its two means, and how many steps were made."""

    w: Float[Tensor, "m c h w"]
    mean: Float[Tensor, "m c h w"]
    square: Float[Tensor, "m c h w"]
    count: int = 0

    def __getitem__(self, on: Tensor) -> "Descent":
        """Those of some of the pictures."""
        return Descent(self.w[on], self.mean[on], self.square[on], self.count)

    def at(self, w: Float[Tensor, "m c h w"]) -> "Descent":
        """The same, moved."""
        return replace(self, w=w)

    def step(self, gradient: Float[Tensor, "m c h w"], lr: float | Float[Tensor, "m 1 1 1"]) -> "Descent":
        """The next step down a gradient (Kingma and Ba 2015, arXiv:1412.6980)."""
        count = self.count + 1
        mean, square = 0.9 * self.mean + 0.1 * gradient, 0.999 * self.square + 0.001 * gradient.square()
        step = (mean / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-8)
        return Descent(self.w - lr * step, mean, square, count)


def descent(w: Float[Tensor, "m c h w"]) -> Descent:
    """Adam before its first step."""
    return Descent(w, torch.zeros_like(w), torch.zeros_like(w))


def first_constant(search: Search, rows: Int[Tensor, " m"]) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, " m"]]:
    """The slopes of the margin at the pictures, and c: twice that at which |change|^2 - c * margin would be least on
    the boundary, if the margin were linear.
    """
    look = search.look(search.x[rows], rows)
    square = look.gradient.double().flatten(1).square().sum(1)
    lead = torch.maximum(look.loss.abs(), search.rounding(look.scores)).double()
    return look.gradient, (4 * lead / square.where(square > 0, 1)).to(look.gradient)


def next_constant(
    c: Float[Tensor, " m"], lower: Float[Tensor, " m"], upper: Float[Tensor, " m"], fooled: Bool[Tensor, " m"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """The next c of each picture, and its bounds: the largest that failed and the smallest that fooled."""
    lower, upper = (
        torch.where(fooled, lower, torch.maximum(lower, c)),
        torch.where(fooled, torch.minimum(upper, c), upper),
    )
    return torch.where(upper < torch.inf, (lower + upper) / 2, 10 * c), lower, upper


def _look(
    search: Search, z: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"], confidence: float
) -> tuple[Bool[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, "m c h w"]]:
    """Who is fooled with confidence, which is kept; the hinge; and its slopes."""
    look = search.look(z, rows)
    sure = search.fools(look.scores, rows) & (look.loss >= confidence)
    if sure.any():
        search.offer(z[sure], rows[sure], look.scores[sure])
    return sure, (confidence - look.loss).clamp_min(0).to(z), -look.gradient


def _masked(values: Float[Tensor, "m c h w"], on: Bool[Tensor, " m"]) -> Float[Tensor, "m c h w"]:
    return values * on.view(-1, 1, 1, 1)


def _start(search: Search, rows: Int[Tensor, " m"]) -> tuple[Tensor, Box, Tensor]:
    """The pictures, their boxes, and their w."""
    x = search.x[rows]
    low, high = search.box(rows)
    box = Box(low.expand_as(x), high.expand_as(x))
    return x, box, box.inverse(x)


def _l2(search: Search, rows: Tensor, searches: int, steps: int, lr: float, confidence: float) -> None:
    """Adam from the picture for each c, and the search for c."""
    x, box, w = _start(search, rows)
    _, c = first_constant(search, rows)
    lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
    for _ in range(searches):
        fooled = torch.zeros_like(rows, dtype=torch.bool)
        on, adam, here, last = torch.arange(len(rows), device=rows.device), descent(w), box, upper * torch.inf
        for step in range(steps):
            z = here.point(adam.w)
            sure, hinge, pull = _look(search, z, rows[on], confidence)
            fooled[on[sure]] = True
            change, share = z - x[on], c[on]
            gradient = 2 * change + _masked(share.view(-1, 1, 1, 1) * pull, ~sure)
            adam = adam.step(here.slope(adam.w) * gradient, lr)
            if step % max(steps // 10, 1) == 0:
                objective = change.flatten(1).square().sum(1) + share * hinge
                going = objective < 0.9999 * last
                on, adam, here, last = kept(going, on, adam, here, objective)
                if len(on) == 0:
                    break
        c, lower, upper = next_constant(c, lower, upper, fooled)


def _linf(search: Search, rows: Tensor, searches: int, steps: int, lr: float, confidence: float) -> None:
    """Adam on what exceeds tau, from where the last search ended, and the search for tau."""
    x, box, w = _start(search, rows)
    slopes, _ = first_constant(search, rows)
    total = slopes.flatten(1).abs().sum(1).clamp_min(1e-12)
    lead = -margin(search.scores[rows], search.aim(rows)).to(total)
    tau, c, lower = lead / total, 2 * x[0].numel() / total, torch.zeros_like(total)
    for _ in range(searches):
        on, adam, here = torch.arange(len(rows), device=rows.device), descent(w), box
        for _ in range(steps):
            z = here.point(adam.w)
            sure, _, pull = _look(search, z, rows[on], confidence)
            size, change = tau[on].view(-1, 1, 1, 1), z - x[on]
            gradient = change.sign() * (change.abs() > size) + _masked(c[on].view(-1, 1, 1, 1) * pull, ~sure)
            adam = adam.step(here.slope(adam.w) * gradient, (RATE * size).clamp(max=lr))
            w[on] = adam.w
            on, adam, here = kept(~(sure & (distance(change, "linf") <= tau[on])), on, adam, here)
            if len(on) == 0:
                break
        upper = search.norm[rows]
        inside = upper <= tau * 1.0001
        c, lower = torch.where(inside, c, 2 * c), torch.where(inside, lower, torch.maximum(lower, tau))
        going = (upper > 1.01 * lower) & (lower < 1)
        rows, x, box, w, c, lower, upper = kept(going, rows, x, box, w, c, lower, upper)
        if len(rows) == 0:
            break
        tau = torch.where(upper < torch.inf, (lower + upper) / 2, 2 * lower)


def _l0(search: Search, rows: Tensor, searches: int, steps: int, lr: float, confidence: float) -> None:
    """The attack of l2 until the picture is fooled, and the choice of the values that it may still change.

    A quarter of them leaves at once, the least needed first; where the attack then fails, half as many are tried.
    """
    x, box, w = _start(search, rows)
    _, c = first_constant(search, rows)
    most, share = 1000 * c, torch.full_like(c, 0.25)
    free, worth, good = box.high > box.low, torch.zeros_like(x), w
    ever = torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(searches):
        on, adam, here = torch.arange(len(rows), device=rows.device), descent(w), box
        done = torch.zeros_like(ever)
        for _ in range(steps):
            z = here.point(adam.w)
            sure, _, pull = _look(search, z, rows[on], confidence)
            change, hit = z - x[on], on[sure]
            done[hit], worth[hit], good[hit] = True, (change * pull).abs()[sure], adam.w[sure]
            adam = adam.step(here.slope(adam.w) * (2 * change + c[on].view(-1, 1, 1, 1) * pull), lr)
            on, adam, here = kept(~sure, on, adam, here)
            if len(on) == 0:
                break
        ever |= done
        free = torch.where(done.view(-1, 1, 1, 1), box.high > box.low, free)
        left = free.flatten(1).sum(1)
        going = torch.where(done, left > 1, torch.where(ever, share * left >= 1, c < most))
        share, c = torch.where(done | ~ever, share, share / 2), torch.where(done, c, (10 * c).minimum(most))
        rows, x, c, most, share, ever, free, worth, good, left = kept(
            going, rows, x, c, most, share, ever, free, worth, good, left
        )
        if len(rows) == 0:
            break
        least = worth.flatten(1).where(free.flatten(1), torch.inf)
        fewer = torch.maximum(share * left, (least == 0).sum(1)).floor().clamp_min(1).minimum(left - 1) * ever
        keep = (least.argsort(dim=1, stable=True).argsort(dim=1) >= fewer[:, None]).view_as(x) & free
        low, high = search.box(rows)
        box, w = Box(torch.where(keep, low, x), torch.where(keep, high, x)), torch.where(keep, good, 0)


SEARCHES: dict[Norm, tuple[int, Any]] = {"l2": (9, _l2), "linf": (20, _linf), "l0": (100, _l0)}
