"""The sliced Wasserstein distance: the whole distribution of features, seen along many directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.style.statistics.moments import check_mask, wide
from saccade.style.statistics.quantiles import Quantiles, mix_quantiles, quantiles
from saccade.style.statistics.statistic import Statistic, Summary


@dataclass(frozen=True)
class Sliced(Statistic):
    """Mean over directions of the squared distance of sorted projections (Heitz et al. 2021, arXiv:2006.07229).

    directions: how many; as many as channels if not given, as in the paper. They are normal numbers by `seed`, scaled
    to length 1, and the same at each call, so that the distance is one function. Where the target has another number of
    places, or places count by a mask, its quantiles are read at the levels of those that are compared.
    """

    directions: int | None = None
    seed: int = 0
    additive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.directions is not None and self.directions < 1:
            raise SaccadeError(f"Could not compare styles: {self.directions} directions, expected 1 or more.")

    def measure(self, features: Float[Tensor, "n c h w"], mask: Float[Tensor, "m _ _"] | None = None) -> Quantiles:
        check_mask(features, mask)
        channels = features.shape[1]
        directions = unit_directions(self.directions or channels, channels, self.seed)
        with torch.autocast(features.device.type, enabled=False):
            flat = features.flatten(2).to(wide(features))
            projections = directions.to(flat) @ flat
        return quantiles(projections, None if mask is None else mask.to(flat).square().flatten(1))

    def distance(self, now: Summary, target: Summary) -> Float[Tensor, " n"]:
        if not isinstance(now, Quantiles) or not isinstance(target, Quantiles):
            raise SaccadeError("Could not compare styles: Sliced compares quantiles, as it measures.")
        (n, directions, _), theirs = now.values.shape, target.values.shape
        if directions != theirs[1] or theirs[0] not in (1, n):
            raise SaccadeError(
                f"Could not compare styles: (maps, directions) are {(n, directions)}, those of the target "
                f"{tuple(theirs[:2])}, expected as many directions and one target or one for each map."
            )
        squares = (now.values - target.at(now.levels)).square()
        return (squares * now.shares).sum(2).mean(1)

    def mix(self, targets: Sequence[Summary], weights: Sequence[float]) -> Quantiles:
        return mix_quantiles([target for target in targets if isinstance(target, Quantiles)], weights)


@lru_cache(maxsize=16)
def unit_directions(count: int, channels: int, seed: int) -> Float[Tensor, "count channels"]:
    """Directions drawn evenly from the sphere, in float64 on the CPU. Shared: not to be changed."""
    with torch.inference_mode(False):
        drawn = torch.randn(count, channels, generator=generator(seed), dtype=torch.float64)
        return drawn.div_(torch.linalg.vector_norm(drawn, dim=1, keepdim=True))
