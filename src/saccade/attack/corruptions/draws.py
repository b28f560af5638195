"""Random numbers, from one generator a picture, so that no picture's depend on the others of its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

Drawn = Sequence[torch.Generator]
"""One generator a picture, on the CPU: the same numbers on every device."""


def normal(drawn: Drawn, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers (N, *shape), on the device of `like` and of its dtype."""
    return torch.stack([torch.randn(tuple(shape), generator=one, dtype=torch.float64) for one in drawn]).to(like)


def uniform(drawn: Drawn, shape: Sequence[int], like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers (N, *shape) from `low` to `high`, on the device of `like` and of its dtype."""
    rows = [torch.rand(tuple(shape), generator=one, dtype=torch.float64) for one in drawn]
    return (low + (high - low) * torch.stack(rows)).to(like)
