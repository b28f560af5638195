"""The rules of functions that never fall, and of maxima."""

# ruff: noqa: ARG001 - rules have the signatures of the operations they stand for
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.networks.bounds.steps import Map, Maximum, Monotone
from saccade.networks.bounds.tracked import Rule, Tracked, Unknown


def _relu(of: Tracked, x: Tensor, inplace: bool = False) -> Monotone:
    return Monotone(of(x), torch.relu, 0.0)


def _leaky_relu(of: Tracked, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Monotone:
    if not 0 <= negative_slope <= 1:
        raise Unknown
    return Monotone(of(x), lambda v: F.leaky_relu(v, negative_slope), negative_slope)


def _elu(of: Tracked, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Monotone:
    if alpha < 0:
        raise Unknown
    return Monotone(of(x), lambda v: F.elu(v, alpha))


def _softplus(of: Tracked, x: Tensor, beta: float = 1, threshold: float = 20) -> Monotone:
    if beta <= 0:
        raise Unknown
    return Monotone(of(x), lambda v: F.softplus(v, beta, threshold))


def _hardtanh(of: Tracked, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Monotone:
    return Monotone(of(x), lambda v: v.clamp(min_val, max_val))


def _clamp(of: Tracked, x: Tensor, min: Any = None, max: Any = None) -> Monotone:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise Unknown
    return Monotone(of(x), lambda v: v.clamp(min, max), 0.0 if min == 0 and max is None else None)


def _relu6(of: Tracked, x: Tensor, inplace: bool = False) -> Monotone:
    return Monotone(of(x), lambda v: v.clamp(0, 6))


def _plain(function: Map) -> Callable[..., Monotone]:
    return lambda of, x: Monotone(of(x), function)


def _max_pool2d(of: Tracked, x: Tensor, *args: Any, return_indices: bool = False, **kwargs: Any) -> Maximum:
    if return_indices:
        raise Unknown
    return Maximum(of(x), lambda v: F.max_pool2d(v, *args, **kwargs))


MONOTONE: dict[str, Rule] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "clamp": _clamp,
    **dict.fromkeys(("max_pool2d", "_max_pool2d"), _max_pool2d),
}
