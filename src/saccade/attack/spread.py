"""Steps that look beyond a pixel: gradients smoothed over the picture, and steps handed on to the pixels around."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.balls import Ball


def spread(values: Float[Tensor, "m c h w"], kernel: Float[Tensor, "k k"]) -> Float[Tensor, "m c h w"]:
    """Each channel convolved with a kernel of odd side, with zeros around."""
    channels, side = values.shape[1], len(kernel)
    weight = kernel.to(values).expand(channels, 1, side, side)
    return F.conv2d(values, weight, padding=side // 2, groups=channels)


def gaussian_kernel(side: int = 15, reach: float = 3.0) -> Float[Tensor, "side side"]:
    """A Gaussian over `side` pixels, `reach` deviations from the middle to the border, with a sum of 1."""
    line = torch.exp(-torch.linspace(-reach, reach, side, dtype=torch.float64).square() / 2)
    return torch.outer(line, line) / line.sum() ** 2


@dataclass(frozen=True)
class Patchwise:
    """The steps of PI-FGSM: `amplification` times as long, and by how much all of them together exceed eps goes, as a
    step of `share` of that length, to the eight pixels around. Gao and others 2020, arXiv:2007.06765.
    """

    amplification: float = 10.0
    share: float = 1.0

    def __call__(
        self,
        where: Ball,
        z: Float[Tensor, "m c h w"],
        alpha: Float[Tensor, "m 1 1 1"],
        gradient: Float[Tensor, "m c h w"],
        spent: Float[Tensor, "m c h w"],
    ) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m c h w"]]:
        """The next points, and the sum of all steps, from the last of both."""
        length = self.amplification * alpha
        step = length * gradient.sign()
        spent = spent + step
        excess = (spent.abs() - where.eps).clamp_min(0) * spent.sign()
        ring = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]) / 8
        given = self.share * length * spread(excess, ring).sign()
        return where.project(z + step + given), spent + given
