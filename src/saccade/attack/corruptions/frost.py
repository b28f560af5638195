"""Frost on a window: crystals that grow as ferns, generated."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack.corruptions.draws import Drawn, normal, uniform
from saccade.attack.corruptions.kernels import filtered, gaussian
from saccade.attack.corruptions.plasma import plasma

FERNS = 90
SPACING = 4.0
"""Between the branches of a fern, in pixels at 224 pixels a side; at least 2.5 at any, as they would merge."""
TINT = (0.84, 0.92, 1.0)


def frost(x: Float[Tensor, "n 3 h w"], drawn: Drawn, kept: float, ice: float) -> Float[Tensor, "n 3 h w"]:
    """The picture times `kept`, and a window's ice times `ice` added.

    Published are photographs of ice; this draws its own, so that figures for frost cannot be compared with published
    ones.
    """
    tint = torch.tensor(TINT, dtype=x.dtype, device=x.device).view(3, 1, 1)
    height, width = x.shape[-2:]
    return kept * x + ice * tint * window(drawn, height, width, x)[:, None]


def window(drawn: Drawn, height: int, width: int, like: Tensor) -> Float[Tensor, "n h w"]:
    """Ice on a window, from 0 (clear) to 1 (white): a haze in clouds with a rough surface, and ferns on it."""
    haze, rough = (plasma(drawn, height, width, decay, like) for decay in (2.5, 1.25))
    ferns = torch.stack([_ferns(one, height, width) for one in drawn]).to(like)
    side = min(height, width)
    sharp, soft = (filtered(ferns[:, None], gaussian(max(share * side, 0.4)))[:, 0] for share in (0.002, 0.03))
    crystals = (1 - torch.exp(-1.5 * sharp)) * (0.3 + 0.7 * haze)
    return (0.6 * haze.square() + 0.35 * haze * rough + 0.55 * crystals + 0.15 * soft).clamp(0, 1)


def _ferns(drawn: torch.Generator, height: int, width: int) -> Float[Tensor, "h w"]:
    """How much ice lies on each pixel: bent stems with branches to both sides, which get shorter, strewn as points."""
    none, side = torch.zeros((), dtype=torch.float64), min(height, width)
    at, far, turn, length = uniform([drawn], (4, FERNS, 1), none)[0]
    bend = 0.5 * normal([drawn], (FERNS, 1), none)[0]
    around = 2 * math.pi * at  # roots lie around the middle, the more of them the nearer to the borders
    root = torch.stack([torch.sin(around), torch.cos(around)], -1) * (0.2 + 0.5 * far.sqrt())[..., None]
    foot = (0.5 + root) * torch.tensor([height, width], dtype=torch.float64)
    stem = side * (0.1 + 0.25 * length.square())
    heading = around + math.pi + 2.4 * (turn - 0.5)

    def on_stem(share: Tensor) -> tuple[Tensor, Tensor]:
        """Places at shares of the stems, and where these head there."""
        bent = heading + bend * share
        return foot + (stem * share)[..., None] * _to(heading + bend * share / 2), bent

    count = max(3, round(0.35 * side / max(SPACING * side / 224, 2.5)))
    points = [on_stem(torch.linspace(0, 1, side, dtype=torch.float64))[0].flatten(0, 1)]
    weights = [torch.ones(FERNS * side, dtype=torch.float64)]
    out = torch.linspace(0, 1, max(8, round(0.2 * side)), dtype=torch.float64)
    for angle in (math.pi / 3, -math.pi / 3):  # as ice has six axes
        share = (torch.arange(count, dtype=torch.float64) + 1) / (count + 1) + torch.zeros_like(stem)
        start, bent = on_stem(share)
        grown, askew = uniform([drawn], (2, FERNS, count), none)[0]
        reach = 0.45 * stem * (1 - share) * (0.25 + 0.75 * grown)
        ends = (
            start[:, :, None]
            + (reach[..., None] * out)[..., None] * _to(bent + angle + 0.3 * (askew - 0.5))[:, :, None]
        )
        points.append(ends.flatten(0, 2))
        weights.append((1 - out).expand(FERNS, count, -1).flatten())
    rows, columns = torch.cat(points).round().long().unbind(1)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    lies = torch.bincount((rows * width + columns)[inside], torch.cat(weights)[inside], minlength=height * width)
    return lies.view(height, width).clamp(max=2.0)


def _to(angle: Float[Tensor, "ferns points"]) -> Float[Tensor, "ferns points 2"]:
    """Directions (down, right)."""
    return torch.stack([torch.sin(angle), torch.cos(angle)], -1)
