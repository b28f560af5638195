"""The pointing game: does the largest value lie on the object, and how much of the map does?

Zhang, Lin, Brandt, Shen, Sclaroff 2016, "Top-down Neural Attention by Excitation Backprop", arXiv:1608.00507 (the
pointing game; here without its margin of 15 pixels); Arras, Osman, Samek 2022, arXiv:2003.07258 (relevance mass).
Objects lie in the middle of most pictures, so each number stands beside that of a blob that looks at nothing; and an
object need not be what the network goes by.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.explain.controls import centre_map
from saccade.explain.reduce import How, as_map


@dataclass(frozen=True, eq=False)
class Pointing:
    """hit: 1 if the largest value lies in the mask (where several are largest, the share of them that does), (N,).
    mass: the share of the positive values that lies in the mask, (N,). centre_hit, centre_mass: the same of a blob on
    the middle. area: the share of the picture that is mask, which both get if the map is constant or nowhere positive.
    """

    hit: Float[Tensor, " n"]
    mass: Float[Tensor, " n"]
    centre_hit: Float[Tensor, " n"]
    centre_mass: Float[Tensor, " n"]
    area: Float[Tensor, " n"]


def pointing(attribution: Tensor, masks: Tensor, *, how: How = "sum") -> Pointing:
    """Compare maps with the exact places of the objects.

    Args:
        attribution: (N, 3, H, W) or (N, H, W).
        masks: bool (N, H, W), True where the object is; each holds a pixel or more.
        how: how an attribution of colours becomes a map, see `as_map`.

    Raises:
        SaccadeError: shapes that do not belong together, an empty mask, values that are not finite.
    """
    maps = as_map(attribution, how)
    if masks.dtype != torch.bool or masks.shape != maps.shape:
        raise SaccadeError(
            f"Could not score by pointing: the masks are {masks.dtype} of shape {tuple(masks.shape)}, expected bool "
            f"{tuple(maps.shape)}, as the maps."
        )
    if not torch.isfinite(maps).all():
        raise SaccadeError("Could not score by pointing: the maps hold values that are not finite (NaN or infinity).")
    if not masks.flatten(1).any(1).all():
        raise SaccadeError("Could not score by pointing: a mask is empty; leave that picture out.")
    masks = masks.to(maps.device)
    centre = centre_map(torch.nn.Identity(), maps[:, None].expand(-1, 3, -1, -1), 0)
    area = masks.to(maps.dtype).flatten(1).mean(1)
    return Pointing(*_inside(maps, masks), *_inside(centre, masks), area)


def _inside(maps: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> tuple[Tensor, Tensor]:
    """Whether the largest value, and which share of the positive ones, lies in the mask."""
    flat, mask = maps.flatten(1), masks.flatten(1).to(maps.dtype)
    largest = (flat == flat.amax(1, keepdim=True)).to(maps.dtype)
    positive = flat.clamp(min=0)
    total = positive.sum(1)
    mass = torch.where(total > 0, (positive * mask).sum(1) / total, mask.mean(1))
    return (largest * mask).sum(1) / largest.sum(1), mass
