"""The Gram matrix: which channels are active together, and how strongly."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.style.statistics.moments import Moments
from saccade.style.statistics.statistic import OfMoments


@dataclass(frozen=True)
class Gram(OfMoments):
    """The squared difference of Gram matrices (Gatys et al. 2015, arXiv:1508.06576).

    divide: what sums of products are divided by: "chw" (Johnson et al. 2016) or "hw" (Gatys' code), where all places
    count, masked or not. reduce: the sum of the squared differences or their mean over the C x C entries. relative: the
    distance over that of the target from zero, so that a weight means the same in any layer of any network.
    """

    divide: Literal["chw", "hw"] = "chw"
    reduce: Literal["mean", "sum"] = "mean"
    relative: bool = False
    rough: ClassVar[bool] = True

    def between(self, now: Moments, target: Moments) -> Float[Tensor, " n"]:
        wanted = self._matrix(target)
        distance = self._size(self._matrix(now) - wanted)
        if self.relative:
            distance = distance / self._size(wanted).clamp(min=torch.finfo(distance.dtype).tiny)
        return distance

    def _matrix(self, of: Moments) -> Float[Tensor, "n c c"]:
        return of.gram / (of.places * (of.gram.shape[1] if self.divide == "chw" else 1))

    def _size(self, matrix: Float[Tensor, "n c c"]) -> Float[Tensor, " n"]:
        squares = matrix.square().flatten(1)
        return squares.mean(1) if self.reduce == "mean" else squares.sum(1)
