"""What a style transfer minimises, at one size of picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.style.eye import Eye, Maps
from saccade.style.masks import masks_for_layer
from saccade.style.preset import Preset
from saccade.style.statistics import Summary
from saccade.style.variation import VARIATIONS

Known = dict[Any, dict[str, Summary]]
"""Styles of pictures that were measured before."""


Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Losses:
    """What pictures cost, (N,) each: content, style, variation and their sum."""

    content: Float[Tensor, " n"]
    style: Float[Tensor, " n"]
    variation: Float[Tensor, " n"]

    @property
    def total(self) -> Float[Tensor, " n"]:
        return self.content + self.style + self.variation


class Objective:
    """Pictures (N, 3, H, W) -> minus their loss, (N,), to be maximised by `saccade.pictures.optimise`.

    Targets are computed once, without a graph.

    Args:
        eye: the network and the preset.
        content: (N or 1, 3, H, W).
        styles: pictures (1, 3, h, w) of any size.
        shares: the weight of each style; without masks only their ratios count, and the target lies between them.
        masks: (R, H, W) in [0, 1], for each style the places it is for; their weights then multiply their losses.
        style_masks: for each style (1, h, w), the places of it that count.
        erode: pixels by which masks are eroded, so that no place counts that also sees another region.
        known: where the styles' summaries are kept, by place among the styles and size, for other contents.
    """

    def __init__(
        self,
        eye: Eye,
        content: Float[Tensor, "m 3 h w"],
        styles: Sequence[Tensor],
        shares: Sequence[float] | None = None,
        *,
        masks: Float[Tensor, "r h w"] | None = None,
        style_masks: Sequence[Tensor | None] | None = None,
        erode: int = 0,
        known: Known | None = None,
    ) -> None:
        shares = [1.0] * len(styles) if shares is None else list(shares)
        if len(shares) != len(styles) or not styles or min(shares) < 0 or sum(shares) <= 0:
            raise SaccadeError(
                f"Could not set up a style transfer: {len(styles)} styles have the weights {shares}, expected one for "
                "each, 0 or more and not all 0."
            )
        if masks is not None and len(masks) != len(styles):
            raise SaccadeError(
                f"Could not set up a style transfer: there are {len(masks)} masks for {len(styles)} styles, expected "
                "one for each."
            )
        self.eye, self.size = eye, (content.shape[2], content.shape[3])
        self.content, sizes = self._look(content)
        self.masks = None if masks is None else _by_layer(eye, sizes, masks, erode)
        targets: dict[str, list[Summary]] = {}
        known = {} if known is None else known
        for place, (style, mask) in enumerate(zip(styles, style_masks or [None] * len(styles), strict=True)):
            key = (place, tuple(style.shape), eye.dtype)
            if key not in known:
                known[key] = self._style(style, mask)
            for name, summary in known[key].items():
                targets.setdefault(name, []).append(summary)
        if masks is None:
            self.shares = [1.0]
            mix = eye.preset.statistic.mix
            self.style = {name: [mix(each, shares)] for name, each in targets.items()}
        else:
            self.shares, self.style = shares, targets

    def __call__(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        return -self.losses(pictures).total

    def losses(self, pictures: Float[Tensor, "n 3 h w"]) -> Losses:
        """The losses of pictures, differentiable."""
        if (pictures.shape[2], pictures.shape[3]) != self.size:
            raise SaccadeError(
                f"Could not compare pictures of {pictures.shape[2]} x {pictures.shape[3]} pixels with a content of "
                f"{self.size[0]} x {self.size[1]}, expected the same size."
            )
        return Losses(*self._terms(pictures), variation(self.eye, pictures))

    def _terms(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Content and style loss."""
        maps = self.eye(pictures)
        zero = pictures.new_zeros(len(pictures))
        content = zero + self.eye.content_loss(maps, self.content)
        style = zero + self.eye.style_loss(self.eye.summaries(maps, self.masks), self.style, self.shares)
        return content, style

    def _look(self, content: Tensor) -> tuple[Maps, Sizes]:
        """The maps of the content layers, and the sizes of those of the style layers."""
        with torch.no_grad():
            maps = self.eye(content)
        kept = {name: maps[name].clone() for name in self.eye.content_layers if name in maps}
        return kept, {
            name: (maps[name].shape[2], maps[name].shape[3]) for name in self.eye.style_layers if name in maps
        }

    def _style(self, style: Tensor, mask: Tensor | None) -> dict[str, Summary]:
        """The summary of a style at each style layer."""
        with torch.no_grad():
            maps = self.eye(style)
        sizes = {name: (map.shape[2], map.shape[3]) for name, map in maps.items()}
        by_layer = None if mask is None else _by_layer(self.eye, sizes, mask.to(style), 0)
        return {name: each[0] for name, each in self.eye.summaries(maps, by_layer).items()}


def variation(eye: Eye, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The weighted total variation of pictures, in the numbers that the preset says."""
    preset: Preset = eye.preset
    if not preset.tv_weight:
        return pictures.new_zeros(len(pictures))
    if preset.space == "bytes":
        pictures = 255 * pictures
    elif preset.space == "normalised" and isinstance(eye.network, Network):
        pictures = pictures / eye.network.std.to(pictures)  # the mean does not vary
    return preset.tv_weight * VARIATIONS[preset.tv](pictures)


def _by_layer(eye: Eye, sizes: Sizes, masks: Float[Tensor, "r h w"], erode: int) -> dict[str, list[Tensor]]:
    """The masks at the size of every style layer, each (1, h, w)."""
    return {
        name: [mask[None] for mask in masks_for_layer(masks, sizes[name], erode=erode)]
        for name in eye.style_layers
        if name in sizes
    }
