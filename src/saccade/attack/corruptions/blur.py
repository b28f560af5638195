"""Blurs: a lens out of focus, glass with a rough surface, a camera that moves, and one that moves forwards."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.corruptions.draws import Drawn, normal, uniform
from saccade.attack.corruptions.kernels import disc, filtered, gaussian, streaks


def defocus_blur(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, radius: float, sigma: float) -> Float[Tensor, "n 3 h w"]:
    """Each point a disc of `radius`, and then a bell of `sigma`, in pixels.

    As published, but for the disc's edge, which covers pixels in part.
    """
    return filtered(filtered(x, disc(radius)), gaussian(sigma))


def glass_blur(x: Float[Tensor, "n 3 h w"], drawn: Drawn, sigma: float, reach: float) -> Float[Tensor, "n 3 h w"]:
    """A bell of `sigma`, each pixel then taken from near by, and the bell again.

    How far away a pixel is taken from is normal, of deviation `reach` in pixels each way, and rounded. Published are
    pixels that change places within a square, one pair after the other, once to three times; `reach` is the deviation
    of that many such steps.
    """
    height, width = x.shape[-2:]
    moves = (reach * normal(drawn, (2, height, width), x)).round().long()
    rows = (torch.arange(height, device=x.device)[:, None] + moves[:, 0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) + moves[:, 1]).clamp(0, width - 1)
    places = (rows * width + columns).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    scattered = filtered(x, gaussian(sigma)).flatten(2).gather(2, places).view(x.shape)
    return filtered(scattered, gaussian(sigma))


def motion_blur(x: Float[Tensor, "n 3 h w"], drawn: Drawn, radius: float, sigma: float) -> Float[Tensor, "n 3 h w"]:
    """Each point a streak in a direction of its picture, within 45 degrees of the horizontal; see `streaks`."""
    angles = uniform(drawn, (), x.new_zeros((), dtype=torch.float64, device="cpu"), -math.pi / 4, math.pi / 4)
    return filtered(x, streaks(radius, sigma, angles.tolist()))


def zoom_blur(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, largest: float) -> Float[Tensor, "n 3 h w"]:
    """The mean of the picture and of enlargements of its middle, by 1, 1.01, ... up to `largest`, bilinear.

    Published are steps of 0.02 and 0.03 for some severities.
    """
    steps = max(1, round((largest - 1) / 0.01))
    total = 2 * x
    for step in range(1, steps + 1):
        shown = 1 / (1 + (largest - 1) * step / steps)
        theta = torch.tensor([[shown, 0.0, 0.0], [0.0, shown, 0.0]]).to(x)[None]
        grid = F.affine_grid(theta, [1, *x.shape[1:]], align_corners=False).expand(len(x), -1, -1, -1)
        total = total + F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return total / (steps + 2)
