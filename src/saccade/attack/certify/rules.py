"""Which step an operation of PyTorch is; one rule each, and a table of them."""

# ruff: noqa: ARG001 - rules have the signatures of the operations they stand for
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.attack.certify.steps import Affine, Map, Maximum, Monotone, Step


class Unknown(Exception):
    """An operation is known, but not with these arguments."""


@dataclass(frozen=True)
class Tracked:
    nodes: dict[int, int]

    def __call__(self, *values: Any) -> tuple[int, ...]:
        """The nodes of tensors, all of which must depend on the pictures."""
        if not all(id(value) in self.nodes for value in values):
            raise Unknown
        return tuple(self.nodes[id(value)] for value in values)

    def constant(self, *values: Any) -> None:
        """Refuse a tensor that depends on the pictures."""
        if any(id(value) in self.nodes for value in values):
            raise Unknown


def _same(inputs: tuple[int, ...], function: Map, terms: int = 0) -> Affine:
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
    if training or mean is None or var is None:
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
    if (x + shift).shape != x.shape:
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
    if (x * scale).shape != x.shape:
        raise Unknown
    return Affine(inputs, lambda v: v * scale, lambda v: v * scale.abs(), terms=3)


def _constant(value: Any, x: Tensor) -> Tensor:
    """A number or a tensor that is the same for every picture, as a tensor."""
    constant = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if constant.ndim == x.ndim and len(constant) != 1:
        raise Unknown
    return constant


def _neg(of: Tracked, x: Tensor) -> Affine:
    return Affine(of(x), lambda v: -v, lambda v: v)


def _mean(of: Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return _same(of(x), lambda v: v.mean(dims, keepdim), terms + 2)


def _sum(of: Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return _same(of(x), lambda v: v.sum(dims, keepdim), terms)


def _dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    """Dimensions counted from the front, of which the batch must be none."""
    dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim or (0,)))
    if 0 in dims:
        raise Unknown
    return dims


def _avg_pool2d(of: Tracked, x: Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Affine:
    terms = kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1]
    return _same(of(x), lambda v: F.avg_pool2d(v, kernel_size, *args, **kwargs), terms + 2)


def _adaptive_avg_pool2d(of: Tracked, x: Tensor, output_size: Any) -> Affine:
    return _same(of(x), lambda v: F.adaptive_avg_pool2d(v, output_size), x.shape[2] * x.shape[3] + 2)


def _max_pool2d(of: Tracked, x: Tensor, *args: Any, return_indices: bool = False, **kwargs: Any) -> Maximum:
    if return_indices:
        raise Unknown
    return Maximum(of(x), lambda v: F.max_pool2d(v, *args, **kwargs))


def _reshaped(name: str) -> Callable[..., Affine]:
    """A rearrangement that leaves every picture its own row, whatever batch size it was written for."""

    def rule(of: Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
        made = getattr(torch.empty_like(x), name)(*args, **kwargs)
        shape = made.shape
        if shape[0] != 2 or made.dtype != x.dtype:
            raise Unknown
        return _same(of(x), lambda v: v.reshape(len(v), *shape[1:]))

    return rule


def _permute(of: Tracked, x: Tensor, *dims: Any) -> Affine:
    order = tuple(d % x.ndim for d in (dims[0] if len(dims) == 1 else dims))
    if order[0] != 0:
        raise Unknown
    return _same(of(x), lambda v: v.permute(order))


def _transpose(of: Tracked, x: Tensor, a: int, b: int) -> Affine:
    if 0 in (a % x.ndim, b % x.ndim):
        raise Unknown
    return _same(of(x), lambda v: v.transpose(a, b))


def _getitem(of: Tracked, x: Tensor, index: Any) -> Affine:
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, (slice, int)) for i in index) or index[0] != slice(None):
        raise Unknown
    return _same(of(x), lambda v: v[index])


def _pad(of: Tracked, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Affine:
    if value or len(pad) > 2 * (x.ndim - 1):
        raise Unknown
    return _same(of(x), lambda v: F.pad(v, tuple(pad), mode))


def _cat(of: Tracked, tensors: Any, dim: int = 0) -> Affine:
    if dim % tensors[0].ndim == 0:
        raise Unknown
    return _same(of(*tensors), lambda *v: torch.cat(v, dim))


def _same_values(of: Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
    return _same(of(x), lambda v: v)


def _dropout(of: Tracked, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Affine:
    if training and p > 0:
        raise Unknown
    return _same_values(of, x)


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


ABOUT = {"__get__", "size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_contiguous", "stride"}
ABOUT |= {"__len__", "get_device", "is_complex", "element_size", "__hash__"}
"""What tells of a tensor only its shape, kind or place."""

INPLACE = {"relu_", "leaky_relu_", "elu_", "sigmoid_", "tanh_", "clamp_", "hardtanh_", "neg_"}
INPLACE |= {"add_", "sub_", "mul_", "div_"}

RULES: dict[str, Callable[..., Step]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "mean": _mean,
    "sum": _sum,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "permute": _permute,
    "transpose": _transpose,
    "__getitem__": _getitem,
    "pad": _pad,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "clamp": _clamp,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _matmul),
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), _add),
    **dict.fromkeys(("sub", "__sub__", "__isub__"), _sub),
    **dict.fromkeys(("__rsub__", "rsub"), _rsub),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "__imul__"), _mul),
    **dict.fromkeys(("div", "__div__", "__truediv__", "__itruediv__"), _div),
    **dict.fromkeys(("neg", "__neg__"), _neg),
    **dict.fromkeys(("max_pool2d", "_max_pool2d"), _max_pool2d),
    **{name: _reshaped(name) for name in ("view", "reshape", "flatten", "squeeze", "unsqueeze")},
    **dict.fromkeys(("cat", "concat"), _cat),
    **dict.fromkeys(("clone", "contiguous"), _same_values),
    "dropout": _dropout,
}
