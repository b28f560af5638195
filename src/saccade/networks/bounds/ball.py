"""Intervals as a centre and a radius, for training: in 16 bits the radius keeps its precision, where the difference of
two ends would lose it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ball:
    """All values within `radius` of `centre`, of one shape and dtype."""

    centre: Tensor
    radius: Tensor

    @property
    def lower(self) -> Tensor:
        return wide(self.centre) - wide(self.radius)

    @property
    def upper(self) -> Tensor:
        return wide(self.centre) + wide(self.radius)


def relu(ball: Ball) -> Ball:
    """What a ReLU makes of it, in few passes over memory."""
    return Ball(*_ReLU.apply(ball.centre, ball.radius))  # type: ignore[no-untyped-call]


class _ReLU(torch.autograd.Function):
    """(c, r) -> the centre and the radius of [max(c - r, 0), max(c + r, 0)].

    The radius is (min(c, r) + r) / 2, or 0 where that is less, and the lower end the rest of the centre: no difference
    of large numbers is taken. The gradient is that of the two ends, in operations that are fast in 16 bits.
    """

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(centre, radius)
        half = torch.minimum(centre, radius).add_(radius).clamp_(min=0).mul_(0.5)
        return (centre - radius).clamp_(min=0).add_(half), half

    @staticmethod
    def backward(ctx: Any, by_centre: Tensor, by_radius: Tensor) -> tuple[Tensor, Tensor]:
        centre, radius = ctx.saved_tensors
        upper = torch.ops.aten.threshold_backward((by_centre + by_radius).mul_(0.5), centre + radius, 0)
        lower = torch.ops.aten.threshold_backward((by_centre - by_radius).mul_(0.5), centre - radius, 0)
        return upper + lower, upper - lower


def wide(value: Tensor) -> Tensor:
    """In float32, or float64 where it is."""
    return value if value.dtype == torch.float64 else value.float()
