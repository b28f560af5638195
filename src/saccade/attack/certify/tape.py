"""What a network computes, step by step: affine maps, monotone functions and maxima, from pictures to scores.

`record` runs the network once and notes every operation that its pictures go through, however the network calls it, as
a layer, as a function or in place. Bounds need to know of each no more than this: an affine map with its absolute
value, a function that never falls, or a maximum. Anything else is refused, as a step that is left out would make every
certificate wrong.
"""

# ruff: noqa: ARG001 - rules have the signatures of the operations they stand for
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.errors import SaccadeError

Map = Callable[..., Tensor]


@dataclass(frozen=True)
class Affine:
    """linear(*inputs) + shift. The parts take any number of rows and treat each alone.

    size: the same with the absolute value of the matrix: what it makes of radii.
    shift: (1, ...) or of fewer dimensions; None is zero. shift_size: at least |shift|, and as large as the numbers it
    is summed from. terms: how many rounded products and sums one output takes; 0 for what is exact.
    """

    inputs: tuple[int, ...]
    linear: Map
    size: Map
    shift: Tensor | None = None
    shift_size: Tensor | None = None
    terms: int = 0


@dataclass(frozen=True)
class Monotone:
    """A function of each value that never falls. leak: its slope below 0 if it is x above and `leak` x below."""

    inputs: tuple[int, ...]
    function: Map
    leak: float | None = None


@dataclass(frozen=True)
class Maximum:
    """The largest value in each of many windows."""

    inputs: tuple[int, ...]
    function: Map


Step = Affine | Monotone | Maximum


@dataclass(frozen=True)
class Tape:
    """The steps in running order. Node 0 is the pictures, node i + 1 what step i gives; the last is the scores.

    shapes: of one picture's part of every node, without the batch.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]


def record(network: nn.Module, pictures: Float[Tensor, "n c h w"], operation: str) -> Tape:
    """The tape of `network` for pictures of this size. Gradients reach its weights where they are turned on.

    Raises `SaccadeError` that names what of the network has no bounds here: operations between pictures, products and
    quotients of features, functions that rise and fall, batch norm in train mode.
    """
    pair = pictures[:1].detach().repeat(2, 1, 1, 1)  # two, so that what mixes pictures shows in its shape
    recorder = _Recorder(operation)
    recorder.note(pair, 0)
    with recorder.naming(network), recorder:
        scores = network(pair)
    node = recorder.find(scores) if isinstance(scores, Tensor) else None
    if node is None or scores.ndim != 2:
        raise SaccadeError(f"Could not {operation}: the network gave no scores (n, classes) that depend on its input.")
    steps, shapes = recorder.steps[:node], recorder.shapes[: node + 1]
    return Tape(tuple(steps), tuple(shapes))


class _Recorder(TorchFunctionMode):
    """Runs every operation as it is, and appends a step for each that has a noted tensor among its arguments."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.steps: list[Step] = []
        self.shapes: list[tuple[int, ...]] = []
        self.layers: list[str] = []
        self._nodes: dict[int, tuple[Tensor, int, int]] = {}

    def note(self, tensor: Tensor, node: int) -> None:
        self._nodes[id(tensor)] = (tensor, node, tensor._version)  # the tensor is kept so that no other gets its id
        self.shapes.append(tuple(tensor.shape[1:]))

    def find(self, value: Any) -> int | None:
        """The node that a tensor holds; None for a constant."""
        kept = self._nodes.get(id(value))
        if kept is None:
            return None
        if kept[0]._version != kept[2]:
            raise self.refusal("a tensor that was changed in place through another one")
        return kept[1]

    def refusal(self, what: str) -> SaccadeError:
        where = f" in {self.layers[-1]}" if self.layers else ""
        return SaccadeError(
            f"Could not {self.operation}: the network runs {what}{where}, for which there are no bounds; bounds exist "
            "for convolutions, linear layers, batch norm in eval mode, sums, monotone activations and pools."
        )

    @contextmanager
    def naming(self, network: nn.Module) -> Iterator[None]:
        """While it is entered, the layer that runs is known by its name and kind."""

        def begin(name: str) -> Any:
            return lambda layer, given: self.layers.append(f"{name or 'the network'} ({type(layer).__name__})")

        def end(layer: nn.Module, given: Any, output: Any) -> None:
            self.layers.pop()

        hooks = [h for name, layer in network.named_modules() for h in _hooks(layer, begin(name), end)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        flat = [v for value in given for v in (value if isinstance(value, (list, tuple)) else [value])]
        if not any(isinstance(value, Tensor) and id(value) in self._nodes for value in flat):
            return func(*args, **kwargs)
        if func.__name__ in _ABOUT:
            out = func(*args, **kwargs)
            if isinstance(out, Tensor):
                raise self.refusal(f"an access to {getattr(func, '__self__', func)}")
            return out
        nodes = {id(value): self.find(value) for value in flat if isinstance(value, Tensor)}
        known = {key: node for key, node in nodes.items() if node is not None}
        rule = _RULES.get(func.__name__.rstrip("_") if func.__name__ in _INPLACE else func.__name__)
        if rule is None or "out" in kwargs:
            raise self.refusal(f"{func.__name__!r}")
        tracked = _Tracked(known)
        try:
            made = rule(tracked, *args, **kwargs)
        except (_Unknown, TypeError):
            made = None
        if made is None:
            raise self.refusal(f"{func.__name__!r} with such arguments")
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != 2:
            raise self.refusal(f"{func.__name__!r}, which mixes pictures,")
        self.steps.append(made)
        self.note(out, len(self.steps))
        return out


class _Unknown(Exception):
    """An operation is known, but not with these arguments."""


@dataclass(frozen=True)
class _Tracked:
    nodes: dict[int, int]

    def __call__(self, *values: Any) -> tuple[int, ...]:
        """The nodes of tensors, all of which must depend on the pictures."""
        if not all(id(value) in self.nodes for value in values):
            raise _Unknown
        return tuple(self.nodes[id(value)] for value in values)

    def constant(self, *values: Any) -> None:
        """Refuse a tensor that depends on the pictures."""
        if any(id(value) in self.nodes for value in values):
            raise _Unknown


def _hooks(layer: nn.Module, begin: Any, end: Any) -> list[Any]:
    return [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]


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
    of: _Tracked,
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


def _linear(of: _Tracked, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Affine:
    of.constant(weight, bias)
    return _weighted(of(x), F.linear, weight, bias)


def _matmul(of: _Tracked, x: Tensor, other: Tensor) -> Affine:
    of.constant(other)
    if other.ndim != 2:
        raise _Unknown
    return _weighted(of(x), F.linear, other.T, None)


def _batch_norm(
    of: _Tracked,
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
        raise _Unknown
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    moved = mean * scale
    shift, size = (-moved, moved.abs()) if bias is None else (bias - moved, bias.abs() + moved.abs())
    scale, shift, size = (v.view(shape) for v in (scale, shift, size))
    return Affine(of(x), lambda v: v * scale, lambda v: v * scale.abs(), shift, size, 6)


def _add(of: _Tracked, x: Any, other: Any, *, alpha: float = 1, sign: float = 1) -> Affine:
    """x + sign * alpha * other, either of which may be a constant."""
    alpha = sign * alpha
    fixed = [v for v in (x, other) if id(v) not in of.nodes]
    if not fixed:
        if x.shape != other.shape:
            raise _Unknown
        return Affine(of(x, other), lambda a, b: a + alpha * b, lambda a, b: a + abs(alpha) * b, terms=2)
    if fixed[0] is other:
        return _shifted(of(x), x, 1, _constant(other, x) * alpha)
    return _shifted(of(other), other, alpha, _constant(x, other))


def _shifted(inputs: tuple[int, ...], x: Tensor, scale: float, shift: Tensor) -> Affine:
    if (x + shift).shape != x.shape:
        raise _Unknown
    return Affine(inputs, lambda v: v * scale, lambda v: v * abs(scale), shift, shift.abs(), 2)


def _sub(of: _Tracked, x: Any, other: Any, *, alpha: float = 1) -> Affine:
    return _add(of, x, other, alpha=alpha, sign=-1)


def _rsub(of: _Tracked, x: Any, other: Any) -> Affine:
    return _add(of, other, x, sign=-1)


def _mul(of: _Tracked, x: Any, other: Any) -> Affine:
    if id(x) not in of.nodes:
        x, other = other, x
    of.constant(other)
    return _scaled(of(x), x, _constant(other, x))


def _div(of: _Tracked, x: Any, other: Any) -> Affine:
    of.constant(other)
    return _scaled(of(x), x, 1 / _constant(other, x))


def _scaled(inputs: tuple[int, ...], x: Tensor, scale: Tensor) -> Affine:
    if (x * scale).shape != x.shape:
        raise _Unknown
    return Affine(inputs, lambda v: v * scale, lambda v: v * scale.abs(), terms=3)


def _constant(value: Any, x: Tensor) -> Tensor:
    """A number or a tensor that is the same for every picture, as a tensor."""
    constant = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if constant.ndim == x.ndim and len(constant) != 1:
        raise _Unknown
    return constant


def _neg(of: _Tracked, x: Tensor) -> Affine:
    return Affine(of(x), lambda v: -v, lambda v: v)


def _mean(of: _Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return _same(of(x), lambda v: v.mean(dims, keepdim), terms + 2)


def _sum(of: _Tracked, x: Tensor, dim: Any = None, keepdim: bool = False) -> Affine:
    dims = _dims(x, dim)
    terms = int(torch.tensor([x.shape[d] for d in dims]).prod())
    return _same(of(x), lambda v: v.sum(dims, keepdim), terms)


def _dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    """Dimensions counted from the front, of which the batch must be none."""
    dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim or (0,)))
    if 0 in dims:
        raise _Unknown
    return dims


def _avg_pool2d(of: _Tracked, x: Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Affine:
    terms = kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1]
    return _same(of(x), lambda v: F.avg_pool2d(v, kernel_size, *args, **kwargs), terms + 2)


def _adaptive_avg_pool2d(of: _Tracked, x: Tensor, output_size: Any) -> Affine:
    return _same(of(x), lambda v: F.adaptive_avg_pool2d(v, output_size), x.shape[2] * x.shape[3] + 2)


def _max_pool2d(of: _Tracked, x: Tensor, *args: Any, return_indices: bool = False, **kwargs: Any) -> Maximum:
    if return_indices:
        raise _Unknown
    return Maximum(of(x), lambda v: F.max_pool2d(v, *args, **kwargs))


def _reshaped(name: str) -> Callable[..., Affine]:
    """A rearrangement that leaves every picture its own row, whatever batch size it was written for."""

    def rule(of: _Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
        made = getattr(torch.empty_like(x), name)(*args, **kwargs)
        shape = made.shape
        if shape[0] != 2 or made.dtype != x.dtype:
            raise _Unknown
        return _same(of(x), lambda v: v.reshape(len(v), *shape[1:]))

    return rule


def _permute(of: _Tracked, x: Tensor, *dims: Any) -> Affine:
    order = tuple(d % x.ndim for d in (dims[0] if len(dims) == 1 else dims))
    if order[0] != 0:
        raise _Unknown
    return _same(of(x), lambda v: v.permute(order))


def _transpose(of: _Tracked, x: Tensor, a: int, b: int) -> Affine:
    if 0 in (a % x.ndim, b % x.ndim):
        raise _Unknown
    return _same(of(x), lambda v: v.transpose(a, b))


def _getitem(of: _Tracked, x: Tensor, index: Any) -> Affine:
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, (slice, int)) for i in index) or index[0] != slice(None):
        raise _Unknown
    return _same(of(x), lambda v: v[index])


def _pad(of: _Tracked, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Affine:
    if value or len(pad) > 2 * (x.ndim - 1):
        raise _Unknown
    return _same(of(x), lambda v: F.pad(v, tuple(pad), mode))


def _cat(of: _Tracked, tensors: Any, dim: int = 0) -> Affine:
    if dim % tensors[0].ndim == 0:
        raise _Unknown
    return _same(of(*tensors), lambda *v: torch.cat(v, dim))


def _same_values(of: _Tracked, x: Tensor, *args: Any, **kwargs: Any) -> Affine:
    return _same(of(x), lambda v: v)


def _dropout(of: _Tracked, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Affine:
    if training and p > 0:
        raise _Unknown
    return _same_values(of, x)


def _relu(of: _Tracked, x: Tensor, inplace: bool = False) -> Monotone:
    return Monotone(of(x), torch.relu, 0.0)


def _leaky_relu(of: _Tracked, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Monotone:
    if not 0 <= negative_slope <= 1:
        raise _Unknown
    return Monotone(of(x), lambda v: F.leaky_relu(v, negative_slope), negative_slope)


def _elu(of: _Tracked, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Monotone:
    if alpha < 0:
        raise _Unknown
    return Monotone(of(x), lambda v: F.elu(v, alpha))


def _softplus(of: _Tracked, x: Tensor, beta: float = 1, threshold: float = 20) -> Monotone:
    if beta <= 0:
        raise _Unknown
    return Monotone(of(x), lambda v: F.softplus(v, beta, threshold))


def _hardtanh(of: _Tracked, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Monotone:
    return Monotone(of(x), lambda v: v.clamp(min_val, max_val))


def _clamp(of: _Tracked, x: Tensor, min: Any = None, max: Any = None) -> Monotone:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise _Unknown
    return Monotone(of(x), lambda v: v.clamp(min, max), 0.0 if min == 0 and max is None else None)


def _relu6(of: _Tracked, x: Tensor, inplace: bool = False) -> Monotone:
    return Monotone(of(x), lambda v: v.clamp(0, 6))


def _plain(function: Map) -> Callable[..., Monotone]:
    return lambda of, x: Monotone(of(x), function)


_ABOUT = {"__get__", "size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_contiguous", "stride"}
_ABOUT |= {"__len__", "get_device", "is_complex", "element_size", "__hash__"}
"""What tells of a tensor only its shape, kind or place."""

_INPLACE = {"relu_", "leaky_relu_", "elu_", "sigmoid_", "tanh_", "clamp_", "hardtanh_", "neg_"}
_INPLACE |= {"add_", "sub_", "mul_", "div_"}

_RULES: dict[str, Callable[..., Step]] = {
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
