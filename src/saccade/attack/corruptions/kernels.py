"""Pictures convolved with kernels of any size, and the kernels of blurs: each has a sum of 1."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FINE = 16
"""So many points across a pixel decide how much of it a disc covers."""


def filtered(x: Float[Tensor, "n c h w"], kernels: Float[Tensor, "m k k"]) -> Float[Tensor, "n c h w"]:
    """Each picture convolved with its kernel (or all with one) of odd side, what lies outside being as the border.

    By Fourier transforms, as kernels may be half as wide as pictures.
    """
    reach = kernels.shape[-1] // 2
    around = F.pad(x, [reach] * 4, mode="replicate")
    height, width = around.shape[-2:]
    spectrum = torch.fft.rfft2(around) * torch.fft.rfft2(kernels.to(x), s=(height, width))[:, None]
    whole: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return whole[..., 2 * reach :, 2 * reach :]


def gaussian(sigma: float) -> Float[Tensor, "1 k k"]:
    """A bell of deviation `sigma` in pixels, out to four of them."""
    reach = math.ceil(4 * sigma)
    line = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * sigma**2))
    return (torch.outer(line, line) / line.sum() ** 2)[None]


def disc(radius: float) -> Float[Tensor, "1 k k"]:
    """A disc of `radius` pixels: the share of each pixel that it covers."""
    reach = math.ceil(radius + 0.5) - 1  # no pixel farther out is touched
    across = (torch.arange((2 * reach + 1) * FINE, dtype=torch.float64) + 0.5) / FINE - reach - 0.5
    inside = (across[:, None].square() + across.square() <= radius**2).double()
    covered = F.avg_pool2d(inside[None], FINE)
    return covered / covered.sum()


def streaks(radius: float, sigma: float, angles: Sequence[float]) -> Float[Tensor, "n k k"]:
    """One line a picture, from the middle outwards at an angle (radians; downwards from the right), that fades as a
    bell of deviation `sigma` and ends after twice the `radius`, all in pixels."""
    along = torch.arange(math.ceil(min(2 * radius, 4 * sigma)) + 1, dtype=torch.float64)
    weight = torch.exp(-along.square() / (2 * sigma**2))
    reach = len(along)
    kernels = torch.zeros(len(angles), 2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for kernel, angle in zip(kernels, angles, strict=True):
        down, right = reach + along * math.sin(angle), reach + along * math.cos(angle)
        top, left = down.floor(), right.floor()
        for row, tall in ((top, 1 - (down - top)), (top + 1, down - top)):
            for column, wide in ((left, 1 - (right - left)), (left + 1, right - left)):
                kernel.index_put_((row.long(), column.long()), weight * tall * wide, accumulate=True)
    return kernels / kernels.sum((1, 2), keepdim=True)
