"""A frozen network as style transfer looks through it: the maps of some layers, and their losses under a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.engine.guards import frozen
from saccade.errors import SaccadeError
from saccade.networks.activations import activations, find_layer
from saccade.networks.lean import Lean
from saccade.style.backbones import layers_of
from saccade.style.preset import Preset
from saccade.style.statistics import Summary, normalise_gradient

Maps = dict[str, Tensor]

RESCALED = {"average": 2.0, "l2": 0.78}
"""What keeps the size of activations behind pools of 2 x 2 that are not max (Crowson's style-transfer-pytorch)."""


class Eye:
    """Pictures (N, 3, H, W) in [0, 1] -> the maps (N, C, h, w) of the preset's layers, by name; differentiable.

    The network runs frozen, in evaluation mode, no further than the last layer wanted, and is left as it was. A way
    back needs little memory, see `saccade.networks.lean`.

    dtype: torch.bfloat16 runs the network in it, which is faster on some processors. Given one, also that of the
    network, maps lie channels last, which is faster on a CPU. back: the dtype of gradients, and of maps that are used
    for nothing but sums over their places, where rounding averages out.
    """

    def __init__(
        self,
        network: nn.Module,
        preset: Preset,
        *,
        dtype: torch.dtype | None = None,
        back: torch.dtype | None = None,
    ) -> None:
        self.network, self.preset = network, preset
        self.layers = layers_of(network, preset)
        self.style_layers = self.layers.style[: len(preset.style_weights)]
        self.content_layers = self.layers.content
        if len(preset.content_weights) != len(self.content_layers):
            raise SaccadeError(
                f"Could not set up a style transfer: {len(self.content_layers)} content layers have "
                f"{len(preset.content_weights)} weights, expected one for each. Set those of the preset."
            )
        self.style_weights = preset.style_weights[: len(self.style_layers)]
        wanted = {name: w for name, w in zip(self.style_layers, self.style_weights, strict=True) if w}
        wanted |= {name: w for name, w in zip(self.content_layers, preset.content_weights, strict=True) if w}
        self.names = tuple(wanted)
        self._summarised = [name for name, w in zip(self.style_layers, self.style_weights, strict=True) if w]
        self.dtype, self._lean = dtype, Lean(dtype, back)
        summed = preset.statistic.additive and not preset.normalise_gradients
        self._low = [name for name in self._summarised if summed and name not in self.content_layers]
        self._changed = preset.pooling != "max" or preset.padding != "zeros"
        self._modules = list(network.modules())
        adds = any(hasattr(layer, "shortcut") or hasattr(layer, "downsample") for layer in self._modules)
        self._clone = adds  # a sum in place; ReLUs are not in place here
        self._shared = [] if adds else [find_layer(network, name) for name in self._summarised]

    def __call__(self, pictures: Float[Tensor, "n 3 h w"]) -> Maps:
        if self.dtype is not None:
            pictures = pictures.contiguous(memory_format=torch.channels_last)

        def run(pictures: Tensor) -> Maps:
            with _Changed(self.preset) if self._changed else nullcontext():
                return activations(self.network, pictures, self.names, clone=self._clone)

        with frozen(self.network) if any(layer.training for layer in self._modules) else nullcontext():
            try:
                return self._lean(run, pictures, shared=self._shared, low=self._low)
            except RuntimeError as error:
                if "size" not in str(error) and "pad" not in str(error).lower():
                    raise
                h, w = pictures.shape[2:]
                raise SaccadeError(
                    f"Could not look at a picture of {h} x {w} pixels: it is too small for the layers "
                    f"{', '.join(self.names)}. Make it larger, or name shallower layers."
                ) from error

    def style_of(
        self, pictures: Float[Tensor, "n 3 h w"], masks: Mapping[str, Sequence[Tensor | None]] | None = None
    ) -> dict[str, list[Summary]]:
        """The style of pictures at each style layer, without a graph; see `summaries`."""
        with torch.no_grad():
            return self.summaries(self(pictures), masks)

    def summaries(
        self, maps: Maps, masks: Mapping[str, Sequence[Tensor | None]] | None = None
    ) -> dict[str, list[Summary]]:
        """The style of maps at each style layer: a summary for every region, or one without masks.

        masks: (1 or N, h, w) for each region of each layer.
        """
        found = {}
        for name, weight in zip(self.style_layers, self.style_weights, strict=True):
            if weight:
                features = maps[name]
                if self.preset.normalise_gradients:
                    features = normalise_gradient(features, weight)
                regions = masks[name] if masks is not None else [None]
                found[name] = [self.preset.statistic.measure(features, mask) for mask in regions]
        return found

    def style_loss(
        self,
        now: Mapping[str, Sequence[Summary]],
        targets: Mapping[str, Sequence[Summary]],
        shares: Sequence[float] = (1,),
    ) -> Float[Tensor, " n"] | float:
        """The weighted distances of the style layers, 0.0 if none has a weight; regions are added by their shares."""
        loss: Any = 0.0
        for name, weight in zip(self.style_layers, self.style_weights, strict=True):
            if weight:
                for share, summary, target in zip(shares, now[name], targets[name], strict=True):
                    loss = loss + weight * share * self.preset.statistic.distance(summary, target)
        return loss  # type: ignore[no-any-return]

    def content_loss(self, maps: Maps, targets: Maps, *, whole: Maps | None = None) -> Float[Tensor, " n"] | float:
        """The weighted squared distances of the content layers, 0.0 if none has a weight.

        whole: the targets of the whole picture, if `maps` and `targets` are those of a part, whose share it then is.
        """
        loss: Any = 0.0
        for name, weight in zip(self.content_layers, self.preset.content_weights, strict=True):
            if weight:
                target = targets[name].to(torch.promote_types(targets[name].dtype, torch.float32))
                features = maps[name].to(target.dtype)
                if self.preset.normalise_gradients:
                    features = normalise_gradient(features, weight)
                apart = (features - target).square().sum((1, 2, 3))
                loss = loss + weight * apart / self._divisor(target if whole is None else whole[name])
        return loss  # type: ignore[no-any-return]

    def _divisor(self, target: Tensor) -> Any:
        """What the sum of squared differences is divided by."""
        if self.preset.content_relative:
            return target.square().sum((1, 2, 3)).clamp(min=1e-12)
        return target[0].numel() if self.preset.content_mean else 1


class _Changed(TorchFunctionMode):
    """Another pooling than max, another padding of the first convolution, while the network runs."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset, self.first = preset, True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.max_pool2d, torch.max_pool2d) and self.preset.pooling != "max":
            return self._pool(*args, **kwargs)
        if func is torch.conv2d and self.first:
            self.first = False
            if self.preset.padding != "zeros":
                return self._padded(*args, **kwargs)
        return func(*args, **kwargs)

    def _pool(
        self, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **more: Any
    ) -> Tensor:
        ceil = more.get("ceil_mode", rest[1] if len(rest) > 1 else False)
        factor = RESCALED[self.preset.pooling] if self.preset.rescaled else 1.0
        l2 = self.preset.pooling == "l2"
        sides = [kernel_size] * 2 if isinstance(kernel_size, int) else kernel_size
        mean = F.avg_pool2d(x.square() if l2 else x, kernel_size, stride, padding, ceil, False)
        if l2:  # the root has no slope at 0
            mean = (sides[0] * sides[1] * mean).clamp(min=1e-24).sqrt()
        return factor * mean

    def _padded(
        self, x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, *rest: Any, **more: Any
    ) -> Tensor:
        down, across = [padding] * 2 if isinstance(padding, int) else padding
        if down or across:
            x = F.pad(x, [across, across, down, down], mode=self.preset.padding)
        return torch.conv2d(x, weight, bias, stride, 0, *rest, **more)
