"""Means and standard deviations of channels, alone and beside the Gram matrix."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.style.statistics.gram import Gram
from saccade.style.statistics.moments import Moments
from saccade.style.statistics.statistic import OfMoments


@dataclass(frozen=True)
class MeanStd(OfMoments):
    """Mean squared difference of the channels' means plus that of their standard deviations.

    Huang and Belongie 2017 (AdaIN), arXiv:1703.06868, equation 13. A deviation is sqrt(variance + 1e-5), where the
    variance is the mean square about the mean. relative: the distance over that of the target from zero.
    """

    relative: bool = False

    def between(self, now: Moments, target: Moments) -> Float[Tensor, " n"]:
        wanted = self._numbers(target)
        distance = _size(self._numbers(now) - wanted)
        if self.relative:
            distance = distance / _size(wanted)
        return distance

    def _numbers(self, of: Moments) -> Float[Tensor, "n 2 c"]:
        return torch.stack([of.mean, (of.variance + 1e-5).sqrt()], dim=1)


@dataclass(frozen=True)
class GramMeanStd(OfMoments):
    """The distance of Gram matrices plus `weight` times that of means and standard deviations.

    A Gram matrix alone does not tell a strong mean from a large variance; the sum is steadier at high resolution
    (Risser et al. 2017, arXiv:1701.08893). Both are relative, which makes them comparable.
    """

    weight: float = 1.0
    gram: Gram = Gram(relative=True)  # noqa: RUF009 - frozen
    mean_std: MeanStd = MeanStd(relative=True)

    def between(self, now: Moments, target: Moments) -> Float[Tensor, " n"]:
        return self.gram.between(now, target) + self.weight * self.mean_std.between(now, target)


def _size(numbers: Float[Tensor, "n 2 c"]) -> Float[Tensor, " n"]:
    return numbers.square().mean(2).sum(1)
