"""What a style transfer minimises, as a value: a preset says all that makes two programs' objectives differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saccade.style.statistics import Gram, Statistic

Variation = Literal["squares", "absolute", "nine-point", "mean-squares"]


@dataclass(frozen=True)
class Layers:
    """Where a network is tapped: dotted names of layers."""

    content: tuple[str, ...]
    style: tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """An objective: content + style + total variation, to be minimised.

    content_weights: one for each content layer. content_mean: the mean of the squared differences of two maps instead
    of their sum. style_weights: one for each style layer; where there are more of one, the first of each count.
    statistic: how the style of a map is measured and compared. tv_weight, tv: the total variation, in `space`:

        "squares"       sum of squared differences of neighbours, down and across
        "absolute"      sum of absolute differences of neighbours, down and across
        "mean-squares"  mean of squared differences down + mean of squared differences across
        "nine-point"    mean over pixels and colours of the squared differences, see `variation.nine_point`

    space: in which numbers the picture is charged for its variation: "pixels" in [0, 1], "normalised" as the network's
    module sees it, "bytes" in [0, 255].
    pooling, rescaled: what stands for the network's max pools ("max", "average", "l2") and whether the others are
    scaled to keep the size of activations. padding: of the first convolution ("zeros" as the network has it,
    "replicate", "reflect"). layers: where a network of a named architecture is tapped, instead of its usual layers.
    content_relative: the squared differences over the squares of the wanted map, so that the weight means the same on
    any network. normalise_gradients: the gradient of every loss, where it enters its layer, is scaled to an L1 length
    that is its weight; the picture then follows no loss exactly.
    """

    content_weights: tuple[float, ...] = (1.0,)
    style_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    statistic: Statistic = field(default_factory=Gram)
    content_mean: bool = True
    tv_weight: float = 0.0
    tv: Variation = "squares"
    space: Literal["pixels", "normalised", "bytes"] = "pixels"
    pooling: Literal["max", "average", "l2"] = "max"
    rescaled: bool = False
    padding: Literal["zeros", "replicate", "reflect"] = "zeros"
    layers: Mapping[str, Layers] = field(default_factory=dict)
    content_relative: bool = False
    normalise_gradients: bool = False
