"""One-dimensional distributions: the projections of a feature map, sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.style.statistics.moments import shares_of, sum_of


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Projections of N feature maps on D directions, sorted.

    values: ascending over the P places. shares: how much of its distribution each value is; they add to 1, or are all 0
    where no place counts. levels: how much of it lies below a value, half of the value's own share counted.
    """

    values: Float[Tensor, "n d p"]
    levels: Float[Tensor, "#n #d p"]
    shares: Float[Tensor, "#n #d p"]

    def at(self, levels: Float[Tensor, "m e q"]) -> Float[Tensor, "k d q"]:
        """The values at other levels of as many maps or of one for all: linear between those known, constant beyond."""
        if levels is self.levels:
            return self.values
        n, d = (max(ours, theirs) for ours, theirs in zip(self.levels.shape[:2], levels.shape[:2], strict=True))
        known, wanted = (some.to(self.values).expand(n, d, -1).contiguous() for some in (self.levels, levels))
        above = torch.searchsorted(known, wanted).clamp(max=known.shape[2] - 1)
        below = (above - 1).clamp(min=0)
        low, high = known.gather(2, below), known.gather(2, above)
        part = ((wanted - low) / (high - low).clamp(min=1e-30)).clamp(0, 1)
        values = self.values.expand(max(n, len(self.values)), -1, -1)
        shape = (*values.shape[:2], -1)
        low, high = (values.gather(2, places.expand(shape)) for places in (below, above))
        return torch.lerp(low, high, part.expand(shape))


def quantiles(projections: Float[Tensor, "n d p"], weight: Float[Tensor, "m p"] | None = None) -> Quantiles:
    """Sort projections; a place counts by its weight, 1 if there is none, and not at all where it is 0."""
    if weight is None:
        return Quantiles(projections.sort(dim=2).values, *_even(projections.shape[2], projections))
    weight = weight[:, None].expand_as(projections)
    counts = weight > 0
    largest = projections.detach().masked_fill(~counts, -torch.inf).amax(2, keepdim=True)
    values, order = projections.masked_fill(~counts, torch.inf).sort(
        dim=2, stable=True
    )  # what does not count comes last ...
    values = values.where(values < torch.inf, largest)  # ... and repeats the largest that does
    values = values.where(largest > -torch.inf, torch.zeros_like(values))
    shares = weight.gather(2, order)
    shares = shares / shares.sum(2, keepdim=True).clamp(min=1e-30)
    return Quantiles(values, shares.cumsum(2) - shares / 2, shares)


def mix_quantiles(several: Sequence[Quantiles], weights: Sequence[float]) -> Quantiles:
    """The distribution whose quantiles are the weighted means of theirs (the barycentre by optimal transport).

    Raises:
        SaccadeError: there is not one weight for each, one is negative, or all are 0.
    """
    parts = shares_of(len(several), weights)
    if 1.0 in parts:
        return several[parts.index(1.0)]
    levels, shares = _even(max(one.values.shape[2] for one in several), several[0].values)
    return Quantiles(sum_of([one.at(levels) for one in several], parts), levels, shares)


def _even(places: int, like: Tensor) -> tuple[Float[Tensor, "1 1 p"], Float[Tensor, "1 1 p"]]:
    """Levels and shares of places that count alike; the same tensors at each call, so that they are known as equal."""
    return _even_on(places, like.dtype, like.device)


@lru_cache(maxsize=64)
def _even_on(places: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        levels = (torch.arange(places, dtype=dtype, device=device) + 0.5)[None, None] / places
        return levels, torch.full_like(levels, 1 / places)
