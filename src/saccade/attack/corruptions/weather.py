"""Weather: snow that falls, fog, and more light. Frost has a file of its own."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.corruptions.draws import Drawn, normal, uniform
from saccade.attack.corruptions.kernels import filtered, streaks
from saccade.attack.corruptions.plasma import plasma
from saccade.pictures.colour import luminance


def snow(
    x: Float[Tensor, "n 3 h w"],
    drawn: Drawn,
    mean: float,
    std: float,
    size: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
) -> Float[Tensor, "n 3 h w"]:
    """Flakes that fall, twice, and a picture that is paler by as much as its colours are not `kept`.

    Flakes are where normal noise of `mean` and `std`, in grains of `size` pixels, is above `threshold`; each is drawn
    out into a streak (`streaks`), down and to a side.
    """
    height, width = x.shape[-2:]
    size = max(size, 1.0)
    coarse = mean + std * normal(drawn, (1, math.ceil(height / size), math.ceil(width / size)), x)
    full = [max(height, round(size * coarse.shape[2])), max(width, round(size * coarse.shape[3]))]
    flakes = F.interpolate(coarse, size=full, mode="bilinear", align_corners=False)[..., :height, :width]
    flakes = flakes.where(flakes >= threshold, 0.0).clamp(0, 1)
    angles = uniform(drawn, (), torch.zeros((), dtype=torch.float64), math.pi / 4, 3 * math.pi / 4)
    flakes = filtered(flakes, streaks(radius, sigma, angles.tolist()))
    pale = torch.maximum(x, 1.5 * luminance(x) + 0.5)
    return kept * x + (1 - kept) * pale + flakes + flakes.rot90(2, (2, 3))


def fog(x: Float[Tensor, "n 3 h w"], drawn: Drawn, thickness: float, decay: float) -> Float[Tensor, "n 3 h w"]:
    """Clouds up to `thickness` added, and all darkened until white is white again; `decay` as in `plasma`."""
    height, width = x.shape[-2:]
    clouds = plasma(drawn, height, width, decay**2, x)[:, None]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * clouds) * brightest / (brightest + thickness)


def brightness(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, more: float) -> Float[Tensor, "n 3 h w"]:
    """The value of each colour (its largest channel, as in HSV) raised by `more`, at most to 1; hue and saturation
    stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised)
