"""What a style transfer reached, judged by a second program: a preset's objective, evaluated in float64.

Written from the papers, to be read against them in one sitting. It shares no step with the optimiser: it walks the
network, pads, pools, measures and compares in its own plain way, one picture at a time, and takes from a preset only
its numbers and names.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, pad

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.targets import check_input
from saccade.style.backbones import layers_of
from saccade.style.preset import Layers, Preset
from saccade.style.presets import find_preset
from saccade.style.statistics import Gram, GramMeanStd, MeanStd, Sliced, Statistic, Wasserstein

Masks = Sequence[Tensor] | Tensor
Summary = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Score:
    """The terms of an objective, each weighted as in the total: total = content + style + variation; float64 (N,).

    content_layers, style_layers: the parts of `content` and `style`, layer by layer.
    gradient: (N, 3, H, W), of each picture's total by its pixels in [0, 1]; None if it was not asked for.
    """

    content: Float[Tensor, " n"]
    style: Float[Tensor, " n"]
    variation: Float[Tensor, " n"]
    total: Float[Tensor, " n"]
    content_layers: tuple[Float[Tensor, " n"], ...]
    style_layers: tuple[Float[Tensor, " n"], ...]
    gradient: Float[Tensor, "n 3 h w"] | None = None


def score(
    pictures: Tensor,
    content: Tensor,
    styles: Sequence[Tensor],
    *,
    network: nn.Module,
    preset: str | Preset,
    layers: Layers | None = None,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Masks] | None = None,
    style_masks: Sequence[Masks] | None = None,
    gradient: bool = False,
) -> Score:
    """The objective of a preset at finished pictures, in float64.

    Gatys, Ecker, Bethge 2015, arXiv:1508.06576: the features of a picture are compared with those of the content place
    by place, and with those of the style by a statistic that knows no places. Several styles are one target between
    them; with masks, each style is the target of its own region (Gatys et al. 2017, arXiv:1611.07865).

    Args:
        pictures: (N, 3, H, W) in [0, 1].
        content: the same shape, or (1, 3, H, W) for all pictures.
        styles: pictures (1, 3, h, w) of any sizes.
        network: any that takes pictures (N, 3, H, W) in [0, 1]; a copy of it is used.
        preset: the objective: a name of `PRESETS`, or a `Preset`.
        layers: where the network is tapped, instead of where `layers_of(network, preset)` says.
        style_weights: one for each style, 1 if not given. Only their ratios matter, except with masks: there they
            multiply the distances of the regions.
        masks: for each style layer, for each style: where in the pictures it belongs, (H, W) in [0, 1], averaged down
            to the layer's map. `[masks] * 5` for five layers with the same masks.
        style_masks: the same for the places of each style that count.
        gradient: whether the gradient of the total by the pictures is wanted too. It is the true one, also for a preset
            with `normalise_gradients`, whose optimiser follows another.

    Raises:
        SaccadeError: sizes or numbers of pictures, layers, weights or masks do not fit together, a layer is not there
            or does not run, a mask is empty at a layer.
    """
    for one in (pictures, content, *styles):
        check_input(one, "score pictures")
    if content.shape[1:] != pictures.shape[1:] or len(content) not in (1, len(pictures)):
        raise SaccadeError(
            f"Could not score pictures: the content is {tuple(content.shape)}, the pictures {tuple(pictures.shape)}; "
            "one content of their size is expected, for each or for all. Resize the content."
        )
    preset = find_preset(preset)
    layers = layers_of(network, preset) if layers is None else layers
    taps, statistic = layers.style[: len(preset.style_weights)], preset.statistic
    factors = [1.0] * len(styles) if style_weights is None else list(style_weights)
    everywhere = [[torch.ones(1, 1)] * len(styles)] * len(taps)
    walls = everywhere if style_masks is None else style_masks
    regions = everywhere if masks is None else masks
    for what, given, wanted in (
        ("pictures in the styles", [len(style) for style in styles], [1] * len(styles)),
        ("weights of content layers", len(preset.content_weights), len(layers.content)),
        ("style weights", len(factors), len(styles)),
        ("masks at the style layers", [len(some) for some in regions], [len(styles)] * len(taps)),
        ("style masks at the style layers", [len(some) for some in walls], [len(styles)] * len(taps)),
    ):
        if given != wanted:
            raise SaccadeError(f"Could not score pictures: {given} {what}, expected {wanted}.")
    if not factors or min(factors) < 0 or sum(factors) == 0:
        raise SaccadeError(f"Could not score pictures: the style weights are {factors}, expected some above 0.")

    with torch.inference_mode(False), torch.enable_grad():
        device = torch.device("cpu") if pictures.device.type == "mps" else pictures.device  # MPS has no float64
        judge = _prepared(network, preset).to(device)
        pictures, content, *styles = (
            x.detach().to(device, torch.float64).clone() for x in (pictures, content, *styles)
        )
        seen = [_maps(judge, style, taps) for style in styles]
        targets = [
            [_summary(maps[tap], wall, statistic) for maps, wall in zip(seen, walls[k], strict=True)]
            for k, tap in enumerate(taps)
        ]
        if masks is None:  # one region, whose target lies between all styles
            targets = [[_blend(each, factors, statistic)] for each in targets]
            regions, factors = [each[:1] for each in everywhere], [1.0]
        rows: list[Tensor] = []
        slopes: list[Tensor] = []
        for i in range(len(pictures)):
            picture = pictures[i : i + 1].requires_grad_(gradient)
            now = _maps(judge, picture, (*layers.content, *taps))
            wished = _maps(judge, content[i % len(content)][None], layers.content)
            terms = []
            for tap, weight in zip(layers.content, preset.content_weights, strict=True):
                squares = (now[tap] - wished[tap]).square()
                if preset.content_relative:
                    squares = squares / wished[tap].square().mean().clamp(min=1e-12)
                mean = preset.content_mean or preset.content_relative
                terms.append(weight * (squares.mean() if mean else squares.sum()))
            for k, (tap, weight) in enumerate(zip(taps, preset.style_weights[: len(taps)], strict=True)):
                apart = torch.zeros((), dtype=torch.float64, device=device)
                for factor, where, target in zip(factors, regions[k], targets[k], strict=True):
                    apart = apart + factor * _distance(_summary(now[tap], where, statistic), target, statistic)
                terms.append(weight * apart)
            terms.append(preset.tv_weight * _variation(picture, judge, preset))
            row = torch.stack(terms)
            slopes += torch.autograd.grad(row.sum(), picture) if gradient else []
            rows.append(row.detach())
    table, split = torch.stack(rows, dim=1), len(layers.content)  # terms by pictures
    return Score(
        content=table[:split].sum(0),
        style=table[split:-1].sum(0),
        variation=table[-1],
        total=table.sum(0),
        content_layers=tuple(table[:split]),
        style_layers=tuple(table[split:-1]),
        gradient=torch.cat(slopes) if gradient else None,
    )


def _prepared(network: nn.Module, preset: Preset) -> nn.Module:
    """A frozen copy in float64, with the padding and the pools that the preset wants."""
    judge = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    first = next((layer for layer in judge.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and preset.padding != "zeros":
        first.padding_mode = preset.padding
    for layer in judge.modules():
        if isinstance(layer, nn.MaxPool2d) and preset.pooling != "max":
            layer.register_forward_hook(lambda pool, given, _: _pooled(given[0], pool, preset))
    return judge


def _pooled(maps: Tensor, pool: nn.MaxPool2d, preset: Preset) -> Tensor:
    """The mean, or the root of the sum of the squares, over the windows of a max pool.

    Rescaled by the factors of Crowson's style-transfer-pytorch, which keep the size of activations for 2 x 2 windows.
    """
    options = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, False)  # False: what pads does not count
    if preset.pooling == "average":
        pooled: Tensor = avg_pool2d(maps, *options)
        return pooled * 2 if preset.rescaled else pooled
    squares = avg_pool2d(maps.square(), *options) * math.prod(np.broadcast_to(pool.kernel_size, 2).tolist())
    pooled = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()  # flat at 0, where the root has no slope
    return pooled * 0.78 if preset.rescaled else pooled


class _Done(Exception):
    """All layers asked for have run."""


def _maps(judge: nn.Module, picture: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    """The maps (C, h, w) that the named layers give for a picture (1, 3, H, W), each when it first runs."""
    named = dict((judge.module if isinstance(judge, Network) else judge).named_modules())
    found: dict[str, Tensor] = {}

    def keeper(tap: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(layer: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG001 - PyTorch's signature
            found.setdefault(tap, output[0].clone())  # before a ReLU in place
            if found.keys() == set(taps):
                raise _Done

        return keep

    hooks = [named[tap].register_forward_hook(keeper(tap)) for tap in set(taps) if tap in named]
    try:
        if named.keys() >= set(taps):
            judge(picture)
    except _Done:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    for tap in taps:
        if tap not in found or found[tap].ndim != 3:
            raise SaccadeError(f"Could not score pictures: no layer {tap!r} of the network gives a map (N, C, h, w).")
    return found


def _summary(features: Tensor, mask: Tensor, statistic: Statistic) -> Summary:
    """Of a map (C, h, w), multiplied by the mask, so that a place counts by the mask's square.

    Sliced: projections (D, P) on random directions, sorted; how much of the distribution lies below each, half of its
    own share counted; that share. All others: the mean of f f^T over all places, and the means of f and of f f^T over
    those that count.
    """
    channels, h, w = features.shape
    counts = adaptive_avg_pool2d(mask.to(features)[None], (h, w)).square().flatten()
    if not counts.any():
        raise SaccadeError(f"Could not score pictures: a mask is empty at a map of {h} x {w}. Give it some place.")
    flat = features.flatten(1)
    if not isinstance(statistic, Sliced):
        products = (flat * counts) @ flat.T
        return products / (h * w), (flat * counts).sum(1) / counts.sum(), products / counts.sum()
    flat, counts = flat[:, counts > 0], counts[counts > 0]
    size = (statistic.directions or channels, channels)
    directions = torch.randn(size, generator=generator(statistic.seed), dtype=torch.float64).to(flat)
    values, order = (directions / directions.norm(dim=1, keepdim=True) @ flat).sort(dim=1, stable=True)
    shares = counts[order] / counts.sum()
    return values, shares.cumsum(1) - shares / 2, shares


def _blend(styles: Sequence[Summary], factors: Sequence[float], statistic: Statistic) -> Summary:
    """One target between several: the weighted mean of their moments; or of their quantiles, at as many levels as the
    largest of them has places."""
    parts = [(style, factor / sum(factors)) for style, factor in zip(styles, factors, strict=True) if factor]
    if isinstance(statistic, Sliced) and len(parts) > 1:
        shares = max((shares for (_, _, shares), _ in parts), key=lambda one: one.shape[1])
        shares = torch.full_like(shares, 1 / shares.shape[1])
        levels = shares.cumsum(1) - shares / 2
        parts = [((_quantiles(style, levels), levels, shares), factor) for style, factor in parts]
    first, second, third = (torch.stack([style[i] * factor for style, factor in parts]).sum(0) for i in range(3))
    return first, second, third


def _quantiles(of: Summary, levels: Tensor) -> Tensor:
    """The values of constant distributions (D, P) at levels (D, Q), linear between those known, flat beyond."""
    values, known, wanted = (one.detach().cpu().numpy() for one in (*of[:2], levels))
    rows = [np.interp(*row) for row in zip(wanted, known, values, strict=True)]
    return torch.from_numpy(np.stack(rows)).to(levels)


def _distance(now: Summary, target: Summary, statistic: Statistic) -> Tensor:
    """How far a style is from a constant target, as the paper of each statistic says."""
    if isinstance(statistic, Sliced):  # Heitz et al. 2021, arXiv:2006.07229
        values, levels, shares = now
        return ((values - _quantiles(target, levels)).square() * shares).sum(1).mean()
    (gram, mean, second), (gram_, mean_, second_) = now, target
    if isinstance(statistic, Gram):  # Gatys et al. 2015, arXiv:1508.06576; Johnson et al. 2016, arXiv:1603.08155
        scale = len(gram) if statistic.divide == "chw" else 1
        squares, size = ((one / scale).square() for one in (gram - gram_, gram_))
        apart = squares.mean() if statistic.reduce == "mean" else squares.sum()
        least = torch.finfo(apart.dtype).tiny  # of a target that is zero everywhere
        return squares.sum() / size.sum().clamp(min=least) if statistic.relative else apart
    if isinstance(statistic, GramMeanStd):  # Risser et al. 2017, arXiv:1701.08893
        return _distance(now, target, statistic.gram) + statistic.weight * _distance(now, target, statistic.mean_std)
    cov, cov_ = second - mean.outer(mean), second_ - mean_.outer(mean_)
    if isinstance(statistic, MeanStd):  # Huang and Belongie 2017, arXiv:1703.06868
        std, std_ = ((one.diagonal().clamp(min=0) + 1e-5).sqrt() for one in (cov, cov_))
        apart = (mean - mean_).square().mean() + (std - std_).square().mean()
        return apart / (mean_.square() + std_.square()).mean() if statistic.relative else apart
    if isinstance(statistic, Wasserstein):  # Mroueh 2019, arXiv:1905.12828
        cov, cov_ = (one + statistic.eps * torch.eye(len(mean)).to(one) for one in (cov, cov_))
        values, vectors = torch.linalg.eigh(cov_)
        root = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
        values = torch.linalg.eigvalsh(root @ cov @ root)
        trace: Tensor = (cov + cov_).trace() - 2 * values[values > 0].sqrt().sum()
        return ((mean - mean_).square().sum() + trace) / len(mean)
    raise SaccadeError(f"Could not score pictures: {type(statistic).__name__} is a statistic that score does not know.")


def _variation(picture: Tensor, judge: nn.Module, preset: Preset) -> Tensor:
    """Of a picture (1, 3, H, W), as `Preset` tells."""
    if preset.space == "normalised" and isinstance(judge, Network):
        picture = (picture - judge.mean) / judge.std
    elif preset.space == "bytes":
        picture = picture * 255
    down, across = picture.diff(dim=2), picture.diff(dim=3)
    if preset.tv == "squares":
        return down.square().sum() + across.square().sum()
    if preset.tv == "absolute":
        return down.abs().sum() + across.abs().sum()
    if preset.tv == "mean-squares":
        return down.square().sum() / max(1, down.numel()) + across.square().sum() / max(1, across.numel())
    around = pad(picture, (1, 1, 1, 1), mode="replicate")
    middle, right, below = around[..., 1:-1, 1:-1], around[..., 1:-1, 2:], around[..., 2:, 1:-1]
    falling, rising = around[..., 1:, 1:] - around[..., :-1, :-1], around[..., 1:, :-1] - around[..., :-1, 1:]
    straight = (right - middle).square().mean() + (below - middle).square().mean()
    return 2 / 3 * straight + (falling.square().mean() + rising.square().mean()) / 6
