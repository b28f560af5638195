"""Square Attack: random search with squares, by the scores alone."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.apgd import check_norm, standing
from saccade.attack.balls import Ball, Norm, moved
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import cross_entropy, margin
from saccade.attack.near import Near
from saccade.attack.question import Budget, per_picture
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target
from saccade.networks.windowed import Window

OPERATION = "attack with Square"
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # after so many of 10,000 queries the area is halved


def square(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    queries: int = 5000,
    restarts: int = 1,
    area: float = 0.8,
    scaled: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """Random search: a square of the picture is changed as much as the budget allows, and kept if the margin rises.

    For linf each of its channels goes to one end of the ball; for l2 and l1 what another square had changed moves into
    it, in the shape of two opposite bumps. The squares shrink. No gradient is used, so nothing can mask it.
    Andriushchenko and others 2020, arXiv:1912.00049; for l1 Croce and Hein 2021, arXiv:2103.01208.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each, by the cross entropy; None for any but the label.
        norm: "linf", "l2" or "l1".
        eps: the radius of the ball, one or one for each picture, in pixel units; by default 8/255, 0.5 or 12.
        queries: how many squares each start tries; of large ones that would change nothing the network is not asked.
        restarts: how many starts; a picture leaves as soon as it is fooled.
        area: the share of the picture that the first squares cover; it is halved after 10, 50, 200, 500, 1000, 2000,
            4000, 6000 and 8000 queries.
        scaled: halve it after as many of `queries` as these are of 10,000.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_norm(norm, OPERATION)
    if queries < 0 or restarts < 1 or not 0 < area <= 1:
        raise SaccadeError(
            f"Could not {OPERATION}: queries, restarts and area are {queries}, {restarts} and {area}, expected 0 or "
            "more, 1 or more, and a share in (0, 1]."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm=norm, mask=mask, batch_size=batch_size
    ) as search:
        radius = per_picture(EPS[norm] if eps is None else eps, search.x, "eps", OPERATION)
        settings: dict[str, Any] = {"queries": queries, "restarts": restarts, "area": area, "scaled": scaled}
        run_square(search, radius, seed=seed, **settings)
        return search.result()


def run_square(
    search: Search,
    eps: Float[Tensor, "n 1 1 1"],
    *,
    rows: Int[Tensor, " m"] | None = None,
    queries: int = 5000,
    restarts: int = 1,
    area: float = 0.8,
    scaled: bool = False,
    seed: int = 0,
) -> None:
    """`square` as a part of another search, on all or some of its pictures."""
    loss = margin if search.targets is None else cross_entropy
    for restart in range(restarts):
        rows, drawn = standing(search, rows), generator(seed, restart)
        if len(rows) == 0:
            return
        where = search.ball(rows, eps)
        start, propose = PROPOSALS[where.norm]
        z = start(where, drawn)
        highest = torch.full((len(rows),), -torch.inf, dtype=search.scores.dtype, device=z.device)
        new, differs, window, near = z, None, None, Near(search)
        for query in range(queries + 1):
            if query:
                share = _share(area, query - 1, queries if scaled else 10_000)
                new, differs, window = propose(where, z, share, drawn)
            search.learn(rows)
            said = near.ask(z, new, rows, window)
            some = slice(None) if said is not None or differs is None or bool(differs.all()) else differs
            on = rows[some]
            if len(on) == 0:
                continue
            asked = new[some]
            scores = search.ask(asked, on) if said is None else said
            value = loss(scores, search.aim(on))
            fooled = search.offer(asked, on, scores)
            better = torch.zeros_like(rows, dtype=torch.bool)
            better[some] = value > highest[some]
            z = new if query == 0 else z
            z[better] = new[better]
            near.keep(better)
            highest[some] = torch.maximum(highest[some], value)
            if fooled.any():
                off = torch.zeros_like(better)
                off[some] = fooled
                rows, where, z, highest = kept(~off, rows, where, z, highest)
                near.forget()
                if len(rows) == 0:
                    return


def _share(area: float, query: int, total: int) -> float:
    """The share of the picture that the square of a query covers."""
    return area / (1 << sum(query * 10_000 > after * total for after in HALVED))


def _place(shape: torch.Size, side: int, drawn: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square drawn at random in a picture (C, H, W)."""
    top, left = (int(torch.randint(0, length - side + 1, (), generator=drawn)) for length in shape[-2:])
    return slice(top, top + side), slice(left, left + side)


def _signs(*shape: int, drawn: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=drawn) * 2.0 - 1


def _stripes(where: Ball, drawn: torch.Generator) -> Tensor:
    """Each column of each channel at one end of the ball."""
    channels, _, width = where.x.shape[1:]
    up = _signs(channels, 1, width, drawn=drawn).to(where.x) > 0
    return torch.where(up, where.high, where.low)


def _square(where: Ball, z: Tensor, share: float, drawn: torch.Generator) -> tuple[Tensor, Bool[Tensor, " m"], Window]:
    """A square whose channels go to one end of the ball each, which of the pictures it changes, and where."""
    channels, height, width = where.x.shape[1:]
    side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
    rows, columns = _place(where.x.shape, side, drawn)
    up = _signs(channels, 1, 1, drawn=drawn).to(z) > 0
    inside = torch.where(up, where.high[..., rows, columns], where.low[..., rows, columns])
    new = z.clone()
    new[..., rows, columns] = inside
    window = Window(rows.start, rows.stop, columns.start, columns.stop)
    return new, (inside != z[..., rows, columns]).flatten(1).any(1), window


def _bumps(where: Ball, drawn: torch.Generator) -> Tensor:
    """The picture tiled with pairs of bumps."""
    channels, height, width = where.x.shape[1:]
    side = max(min(height, width) // 5, 1)
    change = torch.zeros(channels, height, width)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            tile = _pair(side, _power(where.norm), drawn)
            change[:, top : top + side, left : left + side] += tile * _signs(channels, 1, 1, drawn=drawn)
    return _within(where, change.to(where.x)[None])


def _exchange(where: Ball, z: Tensor, share: float, drawn: torch.Generator) -> tuple[Tensor, None, None]:
    """What one square had changed moves, with what is left of the budget, into a pair of bumps in another."""
    power, (channels, height, width) = _power(where.norm), where.x.shape[1:]
    side = max(round(math.sqrt(share * height * width)), 3)
    side = min(side + (side % 2 == 0), height, width)
    into, out = ((..., *_place(where.x.shape, side, drawn)) for _ in range(2))
    change = z - where.x
    both = torch.zeros(height, width, dtype=torch.bool, device=z.device)
    both[into] = both[out] = True
    energy = (change * both).abs().pow(power).sum((2, 3), keepdim=True)  # of each channel
    unspent = (where.eps**power - change.abs().pow(power).sum((1, 2, 3), keepdim=True)).clamp_min(0) / channels
    pair = _pair(side, power, drawn) * _signs(channels, 1, 1, drawn=drawn)
    made = pair.to(z) + _unit(change[into], power)
    made = _unit(made, power) * (unspent + energy) ** (1 / power)
    if where.norm == "l1":
        made = made * channels  # more than there is, so that the projection makes the whole sparse
    change[out] = 0
    change[into] = made
    return _within(where, change), None, None


def _within(where: Ball, change: Tensor) -> Tensor:
    """The pictures changed by all of the budget."""
    if where.norm == "l1":
        return where.project(where.x + change)
    size = change.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    z = moved(where.x, change * (where.eps * (1 - 1e-6) / size))
    return torch.minimum(torch.maximum(z, where.low), where.high)


def _pair(side: int, power: int, drawn: torch.Generator) -> Tensor:
    """A bump and its negative side by side (side, side), of size 1; upright or lying."""
    pair = torch.cat([_bump(side // 2, side, power), -_bump(side - side // 2, side, power)])
    pair = pair / pair.abs().pow(power).sum() ** (1 / power)
    return pair if torch.rand((), generator=drawn) < 0.5 else pair.T


def _bump(height: int, width: int, power: int) -> Tensor:
    """Rectangles on top of each other around the middle, each smaller by a pixel a side, of size 1.

    The n-th from within is 1 / n^2 high for l2, 1 / n^4 for l1.
    """
    bump = torch.zeros(height, width)
    y, x = height // 2, width // 2
    for n in range(max(y, x) + 1):
        bump[max(y - n, 0) : y + n + 1, max(x - n, 0) : x + n + 1] += 1 / (n + 1) ** (4 / power)
    return bump / bump.pow(power).sum().clamp_min(1e-12) ** (1 / power)


def _unit(change: Tensor, power: int) -> Tensor:
    """Each channel at a size of 1; one that is zero stays so."""
    size = change.abs().pow(power).sum((2, 3), keepdim=True) ** (1 / power)
    return change / size.clamp_min(1e-12)


def _power(norm: Norm) -> int:
    return 1 if norm == "l1" else 2


Start = Callable[[Ball, torch.Generator], Tensor]
Propose = Callable[[Ball, Tensor, float, torch.Generator], tuple[Tensor, Bool[Tensor, " m"] | None, Window | None]]
PROPOSALS: dict[Norm, tuple[Start, Propose]] = {
    "linf": (_stripes, _square),
    "l2": (_bumps, _exchange),
    "l1": (_bumps, _exchange),
}
"""How a search begins, and what it tries next; with which of the pictures that changes, and where; None for all."""
