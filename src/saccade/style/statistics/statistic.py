"""What every statistic of style can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.style.statistics.moments import Moments, mix, moments
from saccade.style.statistics.quantiles import Quantiles

Summary = Moments | Quantiles
"""What is kept of the style of feature maps."""


class Statistic:
    """How the style of feature maps is measured and compared: by what does not change when its places change theirs.

    additive: whether the summary of a picture is the sum (`+`) of those of its tiles.
    """

    additive: ClassVar[bool]

    def measure(self, features: Float[Tensor, "n c h w"], mask: Float[Tensor, "m _ _"] | None = None) -> Summary:
        """The style of each map, under a mask in [0, 1] for each or one for all (m = 1)."""
        raise NotImplementedError

    def distance(self, now: Summary, target: Summary) -> Float[Tensor, " n"]:
        """How far each style is from its target, or from the one of all: 0 if equal. Differentiable in `now`."""
        raise NotImplementedError

    def mix(self, targets: Sequence[Summary], weights: Sequence[float]) -> Summary:
        """A target between several, nearer to those of larger weight; only the ratios of the weights matter."""
        raise NotImplementedError


class OfMoments(Statistic):
    """A statistic that is a function of moments. rough: of those that `moments` calls so."""

    additive: ClassVar[bool] = True
    rough: ClassVar[bool] = False

    def measure(self, features: Float[Tensor, "n c h w"], mask: Float[Tensor, "m _ _"] | None = None) -> Moments:
        return moments(features, mask, rough=self.rough)

    def distance(self, now: Summary, target: Summary) -> Float[Tensor, " n"]:
        if not isinstance(now, Moments) or not isinstance(target, Moments):
            raise SaccadeError(f"Could not compare styles: {type(self).__name__} compares moments, as it measures.")
        if now.total.shape[1] != target.total.shape[1] or len(target.total) not in (1, len(now.total)):
            raise SaccadeError(
                f"Could not compare styles: (maps, channels) are {tuple(now.total.shape)}, those of the target "
                f"{tuple(target.total.shape)}, expected as many channels and one target or one for each map."
            )
        return self.between(now, target)

    def between(self, now: Moments, target: Moments) -> Float[Tensor, " n"]:
        raise NotImplementedError

    def mix(self, targets: Sequence[Summary], weights: Sequence[float]) -> Moments:
        return mix([target for target in targets if isinstance(target, Moments)], weights)
