"""The rules of what only moves values to other places."""

# ruff: noqa: ARG001 - rules have the signatures of the operations they stand for
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.networks.bounds.affine_rules import same
from saccade.networks.bounds.steps import Affine
from saccade.networks.bounds.tracked import Rule, Tracked, Unknown


def _reshaped(name: str) -> Callable[..., Affine]:
    """A rearrangement that leaves every picture its own row, whatever batch size it was written for."""

    def rule(of: Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
        made = getattr(torch.empty_like(x, device="meta"), name)(*args, **kwargs)
        shape = made.shape
        if shape[0] != len(x) or made.dtype != x.dtype:
            raise Unknown
        return same(of(x), lambda v: v.reshape(len(v), *shape[1:]))

    return rule


def _permute(of: Tracked, x: Tensor, *dims: Any) -> Affine:
    order = tuple(d % x.ndim for d in (dims[0] if len(dims) == 1 else dims))
    if order[0] != 0:
        raise Unknown
    return same(of(x), lambda v: v.permute(order))


def _transpose(of: Tracked, x: Tensor, a: int, b: int) -> Affine:
    if 0 in (a % x.ndim, b % x.ndim):
        raise Unknown
    return same(of(x), lambda v: v.transpose(a, b))


def _getitem(of: Tracked, x: Tensor, index: Any) -> Affine:
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, (slice, int)) for i in index) or index[0] != slice(None):
        raise Unknown
    return same(of(x), lambda v: v[index])


def _pad(of: Tracked, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Affine:
    if value or len(pad) > 2 * (x.ndim - 1):
        raise Unknown
    return same(of(x), lambda v: F.pad(v, tuple(pad), mode))


def _cat(of: Tracked, tensors: Any, dim: int = 0) -> Affine:
    if dim % tensors[0].ndim == 0:
        raise Unknown
    return same(of(*tensors), lambda *v: torch.cat(v, dim))


def _same_values(of: Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
    return same(of(x), lambda v: v)


def _dropout(of: Tracked, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Affine:
    if training and p > 0:
        raise Unknown
    return _same_values(of, x)


SHAPES: dict[str, Rule] = {
    "permute": _permute,
    "transpose": _transpose,
    "__getitem__": _getitem,
    "pad": _pad,
    **{name: _reshaped(name) for name in ("view", "reshape", "flatten", "squeeze", "unsqueeze")},
    **dict.fromkeys(("cat", "concat"), _cat),
    **dict.fromkeys(("clone", "contiguous"), _same_values),
    "dropout": _dropout,
}
