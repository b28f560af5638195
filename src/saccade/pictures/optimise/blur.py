"""Gaussian blur, for objectives and projections."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d


def gaussian_blur(pictures: Float[Tensor, "n c h w"], sigma: float) -> Float[Tensor, "n c h w"]:
    """Blur along rows and columns; `sigma` in pixels, cut at 4 sigma, mirrored at the border with the edge repeated.

    The same as `scipy.ndimage.gaussian_filter`. Differentiable.
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return pictures
    n, c, h, w = pictures.shape
    kernel = torch.tensor([math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)], dtype=torch.float64)
    kernel = (kernel / kernel.sum()).to(pictures)
    out = pictures.reshape(n * c, 1, h, w)
    out = conv2d(out.index_select(2, _mirrored(h, radius, out.device)), kernel.view(1, 1, -1, 1))
    out = conv2d(out.index_select(3, _mirrored(w, radius, out.device)), kernel.view(1, 1, 1, -1))
    return out.view(n, c, h, w)


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Where to read a line that is mirrored at both ends: ... 1 0 | 0 1 2 ... last | last ..."""
    place = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(place, 2 * length - 1 - place)
