"""A convolution and what follows it as one step.

In evaluation mode a batch norm is a multiplication and an addition for each channel, which the convolution before it
does on the way if its weights are multiplied by the same (Jacob and others 2018, arXiv:1712.05877, section 3.2). On a
CPU, weights lie channels last, once for all runs, and wide convolutions of 3 x 3 follow Winograd.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from saccade.networks.winograd import Winograd, pays

TOGETHER = 16
"""Tiles of a run from which on Winograd's saves anything: the transformed weights are four times as many to be read."""


@dataclass
class Step:
    """A convolution with the batch norm and the ReLU that follow it and that nothing else sees.

    tiles: of 4 x 4 in its output for a picture. sources: what its weights are made of, and their versions then.
    behind: the rest, which is left out when it comes: the mean of a batch norm, and the word "relu".
    """

    weight: Tensor
    bias: Tensor | None
    tiles: int = 0
    norm: dict[str, Any] | None = None
    relu: bool = False
    closed: bool = False
    sources: list[tuple[Tensor, int]] = field(default_factory=list)
    winograd: Winograd | None = None

    @property
    def behind(self) -> list[Tensor | str]:
        norm = [] if self.norm is None else [self.norm["running_mean"]]
        return [*norm, *["relu"] * self.relu]

    def cut(self, length: int) -> None:
        """Something else sees what there is after `length` of the steps behind the convolution."""
        if length < len(self.behind):
            self.relu, self.norm = False, self.norm if length else None
        self.closed = True

    def fold(self, runs: int) -> None:
        """Make the weights of the whole."""
        parts = [self.weight, self.bias, *(self.norm or {}).values()]
        self.sources = [(part, part._version) for part in parts if isinstance(part, Tensor)]
        weight, bias = self.weight.detach(), self.bias
        if self.norm is not None:
            mean, scale, shift = self.norm["running_mean"], self.norm["weight"], self.norm["bias"]
            root = torch.rsqrt(self.norm["running_var"] + self.norm["eps"])
            factor = root if scale is None else scale * root
            weight = weight * factor.view(-1, 1, 1, 1)
            bias = (-mean if bias is None else bias - mean) * factor + (0 if shift is None else shift)
        self.bias = None if bias is None else bias.detach()
        self.weight = weight
        cout, cin, *kernel = weight.shape
        if weight.device.type == "cpu" and kernel == [3, 3] and pays(cin, cout, self.tiles * runs):
            self.winograd = Winograd(weight, self.bias)

    @cached_property
    def laid_out(self) -> Tensor:
        """The weights of the whole, as they run fastest."""
        layout = torch.channels_last if self.weight.device.type == "cpu" else torch.contiguous_format
        return self.weight.contiguous(memory_format=layout)

    def is_current(self) -> bool:
        return all(part._version == version for part, version in self.sources)

    def run(self, x: Tensor, settings: tuple[Any, ...], relu: bool) -> Tensor:
        """What comes out of the whole; settings: stride, padding, dilation and groups."""
        many = len(x) * self.tiles >= TOGETHER
        if self.winograd is not None and many and [_pair(value) for value in settings] == [(1, 1)] * 4:
            return self.winograd(x, relu)
        found = torch.conv2d(x, self.laid_out, self.bias, *settings)
        return found.relu_() if relu else found


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Step | None:
    """The step that begins with a convolution, if it can be one."""
    usual = x.ndim == 4 and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    usual = usual and not torch.is_autocast_enabled(x.device.type)
    return Step(weight, bias) if usual and _fixed(weight, bias) else None


def settings_of(
    x: Tensor,  # noqa: ARG001 - PyTorch's signature
    weight: Tensor,  # noqa: ARG001
    bias: Tensor | None = None,  # noqa: ARG001
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    return stride, padding, dilation, groups


def norm_of(
    x: Tensor,  # noqa: ARG001 - PyTorch's signature
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> dict[str, Any] | None:
    """What a batch norm is made of, if it does not look at the batch."""
    if training or running_mean is None or running_var is None or not _fixed(running_mean, running_var, weight, bias):
        return None
    return {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias, "eps": eps}


def _fixed(*weights: Tensor | None) -> bool:
    """Whether these are not trained, and tell if they are changed."""
    given = [weight for weight in weights if weight is not None]
    return not any(weight.is_inference() or (torch.is_grad_enabled() and weight.requires_grad) for weight in given)


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else tuple(value)
