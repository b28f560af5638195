"""Where an attack may go: the ball of a norm around each picture, and the box of its pixels, both at once.

Everything here is exact, and rounded inwards: no change is longer than its budget, also in float32.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

Norm = str
"""A key of `ORDERS`."""

ORDERS = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}
NORMS = ("linf", "l2", "l1")
"""The norms that are norms, with convex balls; that of l0 holds all pictures with at most eps values changed."""


@dataclass(frozen=True)
class Ball:
    """What M pictures may become: at most `eps` from `x` in a norm, and within [low, high]; made by `ball`.

    For linf the box is already that of the ball.
    """

    norm: Norm
    x: Float[Tensor, "m c h w"]
    eps: Float[Tensor, "m 1 1 1"]
    low: Float[Tensor, "m c h w"]
    high: Float[Tensor, "m c h w"]

    def __getitem__(self, rows: Tensor) -> "Ball":
        """The balls of some of the pictures, by a mask (M,) or by indices."""
        return replace(self, **{key: getattr(self, key)[rows] for key in ("x", "eps", "low", "high")})

    def project(self, z: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """The nearest point (L2) of the ball and the box at once."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(z, self.low), self.high)
        change = z - self.x
        size, room, eps = self._flat(change)
        if self.norm == "l0":
            kept = torch.minimum(size, room)
            length = kept * _largest(size.square() - (size - kept).square(), self.eps)
        elif self.norm == "l2":
            length = torch.minimum(_stretch(size, room, eps).clamp(max=1) * size, room)
        else:
            length = torch.minimum((size - _threshold(size, room, eps)).clamp_min(0), room)
        return self._moved(change, length)

    def best(self, gradient: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """The point that a linear function with this gradient is highest at; where it is zero, nothing moves."""
        if self.norm == "linf":
            return torch.where(gradient > 0, self.high, torch.where(gradient < 0, self.low, self.x))
        size, room, eps = self._flat(gradient)
        if self.norm == "l0":
            length = room * _largest(size * room, self.eps)
        elif self.norm == "l2":
            length = torch.where(size > 0, torch.minimum(_stretch(size, room, eps) * size, room), 0)
        else:
            order = size.argsort(dim=1, descending=True, stable=True)
            sorted_room = room.where(size > 0, 0).gather(1, order)
            spent = sorted_room.cumsum(1) - sorted_room
            length = torch.zeros_like(room).scatter(1, order, torch.minimum((eps - spent).clamp_min(0), sorted_room))
        return self._moved(gradient, length)

    def climb(
        self, z: Float[Tensor, "m c h w"], gradient: Float[Tensor, "m c h w"], alpha: Float[Tensor, "m 1 1 1"]
    ) -> Float[Tensor, "m c h w"]:
        """A step of length `alpha` from `z` up the gradient, projected.

        Along `steepest`; for l1, where that would be a single value, towards `best`, which spends eps on as many of the
        steepest values as it lasts for.
        """
        if self.norm == "l1":
            return self.project(z + alpha / self.eps.clamp_min(1e-12) * (self.best(gradient) - self.x))
        return self.project(z + alpha * steepest(gradient, self.norm))

    def random(self, *keys: int) -> Float[Tensor, "m c h w"]:
        """A point drawn uniformly from the ball, then clamped to the box; the draw is the same for every picture.

        keys: name the random numbers, as in `saccade.engine.seeding.generator`.
        """
        shape, drawn = self.x.shape[1:], generator(*keys)
        if self.norm == "linf":
            change = torch.rand(shape, generator=drawn, dtype=torch.float64) * 2 - 1
        else:
            change = torch.randn(shape, generator=drawn, dtype=torch.float64)
            if self.norm == "l1":
                even = torch.rand(shape, generator=drawn, dtype=torch.float64)
                change = change.sign() * -torch.log1p(-even)
            order = 1 if self.norm == "l1" else 2
            reach = torch.rand((), generator=drawn, dtype=torch.float64) ** (1 / change.numel())
            change = change * reach / change.norm(order)
        z = moved(self.x, change.to(self.x) * self.eps)
        return torch.minimum(torch.maximum(z, self.low), self.high)

    def _flat(self, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sizes of a change (M, D), the room (M, D) that the box leaves in its direction, eps (M, 1), in float64."""
        size, room = _size_and_room(change, self.x, self.low, self.high)
        return size, room, wide(self.eps).flatten(1) * (1 - 1e-7)  # for the rounding of lengths to float32

    def _moved(self, direction: Tensor, length: Tensor) -> Tensor:
        """x moved by `length` (M, D) along the signs of `direction`."""
        return _along(self.x, direction, length, self.low, self.high)


def ball(
    norm: Norm, x: Float[Tensor, "m c h w"], eps: Float[Tensor, "m 1 1 1"], low: Tensor, high: Tensor, operation: str
) -> Ball:
    """The balls of radius `eps` around `x`, within [low, high] as `x` is; raises `SaccadeError` for another norm."""
    if norm not in ORDERS:
        raise SaccadeError(f"Could not {operation}: norm is {norm!r}, expected one of {', '.join(ORDERS)}.")
    low, high = low.expand_as(x), high.expand_as(x)
    if norm == "linf":
        low, high = torch.maximum(moved(x, -eps), low), torch.minimum(moved(x, eps), high)
    return Ball(norm, x, eps, low, high)


def crossing(
    norm: Norm,
    x: Float[Tensor, "m c h w"],
    gradient: Float[Tensor, "m c h w"],
    gain: Float[Tensor, " m"],
    low: Tensor,
    high: Tensor,
) -> Float[Tensor, "m c h w"]:
    """The nearest points, in a norm and within [low, high], at which linear functions have risen by `gain`.

    Where none in the box has risen so much, the highest. For l0 and l1 all values but one change as far as they may.
    """
    size, room = _size_and_room(gradient, x, low, high)
    need = wide(gain)[:, None].clamp_min(0)
    if norm in ("l0", "l1"):
        order = (size * room if norm == "l0" else size).argsort(dim=1, descending=True, stable=True)
        sorted_size, sorted_room = size.gather(1, order), room.gather(1, order)
        most = sorted_size * sorted_room
        left = (need - (most.cumsum(1) - most)).clamp_min(0)
        share = torch.minimum(left / sorted_size.where(sorted_size > 0, 1), sorted_room).where(sorted_size > 0, 0)
        length = torch.zeros_like(room).scatter(1, order, share)
    else:
        weight = torch.ones_like(size) if norm == "linf" else size
        length = torch.minimum(_rise(size, weight, room, need) * weight, room).where(size > 0, 0)
    return _along(x, gradient, length, low, high)


def steepest(gradient: Float[Tensor, "m c h w"], norm: Norm) -> Float[Tensor, "m c h w"]:
    """The direction of a step: the signs of the gradient for linf, otherwise the gradient at an L2 length of 1.

    Of a gradient that is zero it is zero.
    """
    if norm == "linf":
        return gradient.sign()
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)  # first, so that no square underflows
    gradient = gradient / largest.where(largest > 0, 1)
    length: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / length.clamp_min(1)


def distance(change: Float[Tensor, "m c h w"], norm: Norm) -> Float[Tensor, " m"]:
    """The size of changes in a norm; l0 counts the values that changed."""
    size: Tensor = torch.linalg.vector_norm(wide(change), ord=ORDERS[norm], dim=(1, 2, 3))
    return size.to(change.dtype)


def wide(values: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return values if values.device.type == "mps" else values.double()


def moved(x: Tensor, change: Tensor) -> Tensor:
    """x + change, rounded towards x, so that the result is never farther from it than `change` says."""
    z = x + change
    back = z - x
    error = (x - (z - back)) + (change - back)  # exactly x + change - z (Knuth's two-sum)
    return torch.where(error.sign() * change.sign() < 0, torch.nextafter(z, x.expand_as(z)), z)


def _size_and_room(change: Tensor, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes of a change (M, D), and the room (M, D) that the box leaves in its direction, in float64."""
    room = torch.where(change > 0, high - x, x - low)
    return wide(change).abs().flatten(1), wide(room).flatten(1)


def _along(x: Tensor, direction: Tensor, length: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x moved by `length` (M, D) along the signs of `direction`, within the box."""
    z = moved(x, direction.sign() * length.view_as(direction).to(direction))
    return torch.minimum(torch.maximum(z, low), high)


def _largest(gain: Tensor, eps: Tensor) -> Bool[Tensor, "m d"]:
    """Which of each row's gains are among the floor(eps) largest; of equal ones the first count."""
    order = gain.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(gain.shape[1], device=gain.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, rank) < eps.flatten(1).floor()


def _rise(size: Tensor, weight: Tensor, room: Tensor, need: Tensor) -> Float[Tensor, "m 1"]:
    """The t at which size * min(t * weight, room) sums to `need`, or the largest that still adds to it.

    The sum is concave and piecewise linear in t, so Newton's steps from below end at the root.
    """
    t, rate, most = torch.zeros_like(need), size * weight, size * room
    for _ in range(100):
        full = t * weight >= room
        left = need - torch.where(full, most, 0).sum(1, keepdim=True)
        free = torch.where(full, 0, rate).sum(1, keepdim=True)
        new = torch.maximum(torch.where(free > 0, left / free, t), t)
        if torch.equal(new, t):
            break
        t = new
    return t


def _stretch(size: Tensor, room: Tensor, eps: Tensor) -> Float[Tensor, "m 1"]:
    """The s for which min(s * size, room) has the L2 norm eps, infinite if it is always shorter.

    The square of the norm is concave and piecewise linear in s * s, so Newton's steps from below end at the root.
    """
    square, limit, budget = size.square(), room.square(), eps.square()
    share = torch.zeros_like(budget)
    for _ in range(100):
        full = share * square >= limit
        left = budget - torch.where(full, limit, 0).sum(1, keepdim=True)
        free = torch.where(full, 0, square).sum(1, keepdim=True)
        new = torch.maximum(torch.where(free > 0, left / free, torch.inf), share)
        if torch.equal(new, share):
            break
        share = new
    return share.sqrt()


def _threshold(size: Tensor, room: Tensor, eps: Tensor) -> Float[Tensor, "m 1"]:
    """The t of 0 or more for which min(max(size - t, 0), room) sums to eps, 0 if it is always less.

    The sum is piecewise linear in t: between the sorted points where an entry begins to count or is full.
    """
    points, order = torch.cat([size, size - room], 1).sort(1, descending=True)
    growing = torch.where(order < size.shape[1], 1.0, -1.0).to(size).cumsum(1)  # entries that grow below each point
    steps = growing[:, :-1] * (points[:, :-1] - points[:, 1:])
    sums = torch.cat([torch.zeros_like(eps), steps.cumsum(1)], 1)  # at each point
    before = (sums < eps).sum(1, keepdim=True).clamp_min(1) - 1  # the last point with a sum below eps
    found = points.gather(1, before) - (eps - sums.gather(1, before)) / growing.gather(1, before).clamp_min(1)
    full = torch.minimum(size, room).sum(1, keepdim=True) <= eps
    return torch.where(full, 0, found).clamp_min(0)
