"""Numbers as colours: heat maps, signed maps, and either of them over a photograph."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures.check import check_pictures
from saccade.pictures.geometry import resize


def luminance(pictures: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch 1 h w"]:
    """Grey of sRGB pictures: 0.2126 R + 0.7152 G + 0.0722 B of the stored values (luma, ITU-R BT.709)."""
    weights = torch.tensor([0.2126, 0.7152, 0.0722], dtype=pictures.dtype, device=pictures.device)
    return (pictures * weights[:, None, None]).sum(-3, keepdim=True)


def heat(
    map: Tensor,
    *,
    colormap: str | None = None,
    signed: bool = False,
    low: float | None = None,
    high: float | None = None,
    clip: float = 0.0,
) -> Float[Tensor, "*batch 3 h w"]:
    """Colour a map (H, W) as a picture (3, H, W), or maps (N, H, W) as (N, 3, H, W).

    Unsigned, `low` (default: the map's smallest value) takes the first colour and `high` (its largest) the
    last. Signed, zero takes the middle colour and -`high` and `high` (default: the largest magnitude) the two
    ends: blue is negative, red positive, white nothing. `clip` is the fraction of the largest values or
    magnitudes that may saturate; gradients have such long tails that 0.01 often shows more. Each map is
    scaled by itself.

    `colormap` is any of matplotlib's names: "inferno" (the default), "viridis", "gray", "hot", ...; signed
    "RdBu_r". Raises `SaccadeError` for another name or shape, and for values that are not finite.
    """
    values = _scale(map, signed=signed, low=low, high=high, clip=clip)
    return _paint(values, colormap or ("RdBu_r" if signed else "inferno"))


def overlay(
    picture: Tensor,
    map: Tensor,
    *,
    alpha: float = 0.7,
    colormap: str | None = None,
    signed: bool = False,
    low: float | None = None,
    high: float | None = None,
    clip: float = 0.0,
) -> Float[Tensor, "*batch 3 h w"]:
    """Lay a map (h, w) over a picture (3, H, W), or maps (N, h, w) over (N, 3, H, W).

    The map is enlarged smoothly to the picture's size. The picture turns grey, so that every colour means a
    value, and shows through where the map is low (near zero, if `signed`); where it is highest, the colour
    covers it by `alpha` in [0, 1]. The other settings are those of `heat`.
    """
    base = check_pictures(picture, "overlay a map")
    if map.ndim != base.ndim - 1 or (base.ndim == 4 and len(map) != len(base)):
        raise SaccadeError(
            f"Could not overlay a map: picture {tuple(base.shape)} and map {tuple(map.shape)} do not belong "
            "together, expected (3, H, W) with (h, w), or (n, 3, H, W) with (n, h, w)."
        )
    if not 0 <= alpha <= 1:
        raise SaccadeError(f"Could not overlay a map: alpha is {alpha}, expected a number in [0, 1].")
    values = _scale(map, signed=signed, low=low, high=high, clip=clip)
    size = (base.shape[-2], base.shape[-1])
    values = resize(values.unsqueeze(-3), size, method="bilinear").squeeze(-3)
    strength = (2 * values - 1).abs() if signed else values
    weight = alpha * strength.unsqueeze(-3)
    grey = luminance(base).expand_as(base)
    return (1 - weight) * grey + weight * _paint(values, colormap or ("RdBu_r" if signed else "inferno"))


def _scale(map: Tensor, *, signed: bool, low: float | None, high: float | None, clip: float) -> Tensor:
    """The map as positions in its colour table, float32 in [0, 1] on the CPU; signed, zero lies at 0.5."""
    if map.ndim not in (2, 3) or map.numel() == 0:
        raise SaccadeError(
            f"Could not colour a map: its shape is {tuple(map.shape)}, expected (height, width) or (n, "
            "height, width). Sum or take the maximum over the channels of a gradient first."
        )
    if not 0 <= clip < 1:
        raise SaccadeError(f"Could not colour a map: clip is {clip}, expected a fraction in [0, 1).")
    values = map.detach().to("cpu", torch.float32)
    if not values.isfinite().all():
        raise SaccadeError("Could not colour a map: it has values that are not finite (NaN or infinity).")
    flat = values.abs().flatten(-2) if signed else values.flatten(-2)
    rank = max(1, round((1 - clip) * flat.shape[-1]))
    top = flat.kthvalue(rank).values if high is None else torch.full(flat.shape[:-1], float(high))
    bottom = flat.amin(-1) if low is None else torch.full(flat.shape[:-1], float(low))
    bottom = -top if signed else bottom
    if (low is not None or high is not None) and bool((top < bottom).any()):
        raise SaccadeError(
            f"Could not colour a map: its range would be {float(bottom.max()):.4g} to "
            f"{float(top.min()):.4g}, expected low below high. Set both, or neither."
        )
    span = (top - bottom)[..., None, None]
    nothing = 0.5 if signed else 0.0  # a constant map shows nothing
    scaled = (values - bottom[..., None, None]) / torch.where(span > 0, span, 1.0)
    return torch.where(span > 0, scaled, nothing).clamp(0, 1)


def _paint(values: Tensor, colormap: str) -> Tensor:
    table, position = _table(colormap), values * 255
    below = position.floor().long().clamp(max=254)
    colours = torch.lerp(table[below], table[below + 1], (position - below)[..., None])  # (..., h, w, 3)
    return colours.movedim(-1, -3).contiguous()


@lru_cache
def _table(colormap: str) -> Float[Tensor, "256 3"]:
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise SaccadeError(
            f"Could not colour a map: colormap is {colormap!r}, expected a name of matplotlib's such as "
            "inferno, hot, viridis, gray or RdBu_r."
        )
    return torch.from_numpy(colormaps[colormap](np.linspace(0, 1, 256))[:, :3].astype(np.float32))
