"""The rules of what is affine: convolutions, linear layers, norms, sums, products with constants, means."""

# ruff: noqa: ARG001 - rules have the signatures of the operations they stand for
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.networks.bounds.ball import wide
from saccade.networks.bounds.steps import Affine, Map
from saccade.networks.bounds.tracked import Rule, Tracked, Unknown


def same(inputs: tuple[int, ...], function: Map, terms: int = 0) -> Affine:
    """A linear map without negative weights."""
    return Affine(inputs, function, function, terms=terms)


def _weighted(inputs: tuple[int, ...], run: Callable[[Tensor, Tensor], Tensor], weight: Tensor, bias: Any) -> Affine:
    """A linear map by a weight whose first dimension are the outputs."""
    return Affine(
        inputs, lambda v: run(v, weight), lambda v: run(v, weight.abs()), bias, _abs(bias), weight[0].numel() + 2
    )


def _abs(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.abs()


def _conv2d(
    of: Tracked,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Affine:
    of.constant(weight, bias)
    bias = None if bias is None else bias.view(-1, 1, 1)
    return _weighted(of(x), lambda v, w: F.conv2d(v, w, None, stride, padding, dilation, groups), weight, bias)


def _linear(of: Tracked, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Affine:
    of.constant(weight, bias)
    return _weighted(of(x), F.linear, weight, bias)


def _matmul(of: Tracked, x: Tensor, other: Tensor) -> Affine:
    of.constant(other)
    if other.ndim != 2:
        raise Unknown
    return _weighted(of(x), F.linear, other.T, None)


def _batch_norm(
    of: Tracked,
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Affine:
    if training and of.batch:
        over = (0, *range(2, x.ndim))
        mean, var = wide(x).mean(over), wide(x).var(over, correction=0)
    elif training or mean is None or var is None:
        raise Unknown
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    moved = mean * scale
    shift, size = (-moved, moved.abs()) if bias is None else (bias - moved, bias.abs() + moved.abs())
    scale, shift, size = (v.view(shape) for v in (scale, shift, size))
    return Affine(of(x), lambda v: v * scale, lambda v: v * scale.abs(), shift, size, 6)


def _add(of: Tracked, x: Any, other: Any, *, alpha: float = 1, sign: float = 1) -> Affine:
    """x + sign * alpha * other, either of which may be a constant."""
    alpha = sign * alpha
    fixed = [v for v in (x, other) if id(v) not in of.nodes]
    if not fixed:
        if x.shape != other.shape:
            raise Unknown
        return Affine(of(x, other), lambda a, b: a + alpha * b, lambda a, b: a + abs(alpha) * b, terms=2)
    if fixed[0] is other:
        return _shifted(of(x), x, 1, _constant(other, x) * alpha)
    return _shifted(of(other), other, alpha, _constant(x, other))


def _shifted(inputs: tuple[int, ...], x: Tensor, scale: float, shift: Tensor) -> Affine:
    if _spread(x, shift) != x.shape:
        raise Unknown
    return Affine(inputs, lambda v: v * scale, lambda v: v * abs(scale), shift, shift.abs(), 2)


def _sub(of: Tracked, x: Any, other: Any, *, alpha: float = 1) -> Affine:
    return _add(of, x, other, alpha=alpha, sign=-1)


def _rsub(of: Tracked, x: Any, other: Any) -> Affine:
    return _add(of, other, x, sign=-1)


def _mul(of: Tracked, x: Any, other: Any) -> Affine:
    if id(x) not in of.nodes:
        x, other = other, x
    of.constant(other)
    return _scaled(of(x), x, _constant(other, x))


def _div(of: Tracked, x: Any, other: Any) -> Affine:
    of.constant(other)
    return _scaled(of(x), x, 1 / _constant(other, x))


def _scaled(inputs: tuple[int, ...], x: Tensor, scale: Tensor) -> Affine:
    if _spread(x, scale) != x.shape:
        raise Unknown
    return Affine(inputs, lambda v: v * scale, lambda v: v * scale.abs(), terms=3)


def _constant(value: Any, x: Tensor) -> Tensor:
    """A number or a tensor that is the same for every picture, as a tensor."""
    constant = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if constant.ndim == x.ndim and len(constant) != 1:
        raise Unknown
    return constant


def _spread(x: Tensor, other: Tensor) -> torch.Size:
    """The shape of a sum of the two."""
    shape: torch.Size = torch.broadcast_shapes(x.shape, other.shape)  # type: ignore[no-untyped-call]
    return shape


def _neg(of: Tracked, x: Tensor) -> Affine:
    return Affine(of(x), lambda v: -v, lambda v: v)


def _mean(of: Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return same(of(x), lambda v: v.mean(dims, keepdim), terms + 2)


def _sum(of: Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return same(of(x), lambda v: v.sum(dims, keepdim), terms)


def _dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    """Dimensions counted from the front, of which the batch must be none."""
    dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim or (0,)))
    if 0 in dims:
        raise Unknown
    return dims


def _avg_pool2d(of: Tracked, x: Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Affine:
    terms = kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1]
    return same(of(x), lambda v: F.avg_pool2d(v, kernel_size, *args, **kwargs), terms + 2)


def _adaptive_avg_pool2d(of: Tracked, x: Tensor, output_size: Any) -> Affine:
    return same(of(x), lambda v: F.adaptive_avg_pool2d(v, output_size), x.shape[2] * x.shape[3] + 2)


AFFINE: dict[str, Rule] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "mean": _mean,
    "sum": _sum,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _matmul),
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), _add),
    **dict.fromkeys(("sub", "__sub__", "__isub__"), _sub),
    **dict.fromkeys(("__rsub__", "rsub"), _rsub),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "__imul__"), _mul),
    **dict.fromkeys(("div", "__div__", "__truediv__", "__itruediv__"), _div),
    **dict.fromkeys(("neg", "__neg__"), _neg),
}
