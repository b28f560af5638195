"""Run a frozen network so that the way back needs little memory, and little time.

Autograd keeps for the gradient of a convolution by its input that whole input, of which nothing but the shape is
needed when the weights are frozen; for a ReLU all values, of which one bit each is needed; for a max pool the input
and the places as 64-bit numbers; for padding and batch norm the input again. `Lean` computes the same values and the
same gradients from what is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Lean(TorchFunctionMode):
    """While it is entered, operations with frozen weights keep for the way back what it needs, and no more.

    Convolutions, batch norm in evaluation mode, ReLUs, max pools and padding, as modules or functions, in place (then
    out of place instead) or layers used twice; values and gradients are bit for bit those of PyTorch's own operations,
    but for batch norm, which becomes one multiplication and one addition. Whatever else a network does is left alone,
    and so is everything that has weights to train. First derivatives only.

    dtype: torch.bfloat16 runs convolutions and all that follows them in it, with weights converted once; grouped ones
    in float32, as their gradient in 16 bits is slow on the CPU.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype
        self.shared = False  # the next ReLU is one of those that share
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own = _OWN.get(func)
        found = own(self, *args, **kwargs) if own is not None else None
        return func(*args, **kwargs) if found is None else found

    @contextmanager
    def sharing(self, layers: Iterable[nn.Module]) -> Iterator[None]:
        """While it is entered, ReLUs among `layers` keep their output itself: the caller keeps it, too."""

        def begin(layer: nn.Module, given: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            self.shared = True

        hooks = [layer.register_forward_pre_hook(begin) for layer in layers if isinstance(layer, nn.ReLU)]
        try:
            yield
        finally:
            self.shared = False
            for hook in hooks:
                hook.remove()

    def weight(self, weight: Tensor) -> Tensor:
        """A frozen weight in the dtype of the features, channels last. Converted once."""
        if id(weight) not in self._weights:
            made = weight.detach().to(self.dtype).contiguous(memory_format=torch.channels_last)
            self._weights[id(weight)] = (weight, made)  # the first is kept so that no other gets its id
        return self._weights[id(weight)][1]


def _conv2d(
    lean: Lean,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if _trained(weight, bias) or isinstance(padding, str) or x.ndim != 4:
        return None
    if lean.dtype is not None and groups == 1:
        x, weight = x.to(lean.dtype), lean.weight(weight)
        bias = bias.to(lean.dtype) if bias is not None else None
    elif lean.dtype is not None:
        x = x.to(weight.dtype)
    settings = (_pair(stride), _pair(padding), _pair(dilation), groups)
    found: Tensor = _Conv.apply(x, weight, bias, settings)  # type: ignore[no-untyped-call]
    return found if lean.dtype is None else found.to(lean.dtype)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
        ctx.blank, ctx.settings = _blank(x), settings
        ctx.save_for_backward(weight)
        stride, padding, dilation, groups = settings
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        back = torch.ops.aten.convolution_backward(
            gradient,
            ctx.blank(),
            weight,
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [True, False, False],
        )
        return back[0], None, None, None


def _relu(lean: Lean, x: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: ARG001 - never in place here
    shared, lean.shared = lean.shared, False
    found: Tensor = _Relu.apply(x, shared)  # type: ignore[no-untyped-call]
    return found


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shared: bool) -> Tensor:
        found = torch.relu(x)
        # 16 bits are kept as they are: the next convolution does not keep them, and a mask would take longer
        ctx.save_for_backward(found if shared or found.element_size() <= 2 else found > 0)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        if kept.dtype != torch.bool:
            return torch.ops.aten.threshold_backward(gradient, kept, 0), None
        return gradient * kept, None


def _max_pool2d(
    lean: Lean,  # noqa: ARG001
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    if return_indices or x.ndim != 4:
        return None
    kernel = _pair(kernel_size)
    settings = (kernel, _pair(stride) if stride else kernel, _pair(padding), _pair(dilation), ceil_mode)
    found: Tensor = _MaxPool.apply(x, settings)  # type: ignore[no-untyped-call]
    return found


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, settings: Any) -> Tensor:
        ctx.blank, ctx.settings = _blank(x), settings
        found, places = torch.ops.aten.max_pool2d_with_indices(x, *settings)
        width, (kernel, stride, padding, dilation, _) = x.shape[3], settings
        wide = (kernel[0] - 1) * dilation[0] * width + (kernel[1] - 1) * dilation[1] > 32767
        within = places.int().sub_(_corners(found, width, stride, padding))  # 64 bits would take twice as long
        ctx.save_for_backward(within if wide else within.short())
        return found  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (within,) = ctx.saved_tensors
        blank, (_, stride, padding, _, _) = ctx.blank(), ctx.settings
        places = (within.int() + _corners(gradient, blank.shape[3], stride, padding)).long()
        return torch.ops.aten.max_pool2d_with_indices_backward(gradient, blank, *ctx.settings, places), None


def _corners(pooled: Tensor, width: int, stride: list[int], padding: list[int]) -> Tensor:
    """The place in its plane, of rows of `width`, of the first value of each window, (h, w)."""
    rows, columns = (
        torch.arange(count, device=pooled.device, dtype=torch.int32) * step - pad
        for count, step, pad in zip(pooled.shape[2:], stride, padding, strict=True)
    )
    return rows[:, None] * width + columns


def _pad(lean: Lean, x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor | None:  # noqa: ARG001
    if mode not in ("reflect", "replicate") or x.ndim != 4 or len(pad) != 4:
        return None
    found: Tensor = _Pad.apply(x, list(pad), mode)  # type: ignore[no-untyped-call]
    return found


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: list[int], mode: str) -> Tensor:
        ctx.blank, ctx.pad, ctx.mode = _blank(x), pad, mode
        return F.pad(x, pad, mode=mode)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        name = "reflection_pad2d_backward" if ctx.mode == "reflect" else "replication_pad2d_backward"
        return getattr(torch.ops.aten, name)(gradient, ctx.blank(), ctx.pad), None, None


def _batch_norm(
    lean: Lean,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None or _trained(weight, bias):
        return None
    scale = torch.rsqrt(running_var + eps) * (weight if weight is not None else 1)
    shift = (bias if bias is not None else 0) - running_mean * scale
    shape = (1, -1, *[1] * (x.ndim - 2))
    dtype = x.dtype if lean.dtype is None else lean.dtype
    return x * scale.to(dtype).view(shape) + shift.to(dtype).view(shape)


def _blank(x: Tensor) -> Callable[[], Tensor]:
    """Makes a tensor like x of whose values nothing is wanted: its memory is never touched."""
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    shape, dtype, device = x.shape, x.dtype, x.device
    return lambda: torch.empty(shape, dtype=dtype, device=device, memory_format=layout)


def _trained(*weights: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(weight is not None and weight.requires_grad for weight in weights)


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]


_OWN: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _conv2d,
    F.conv2d: _conv2d,
    F.relu: _relu,
    F.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    Tensor.relu: _relu,
    Tensor.relu_: _relu,
    F.max_pool2d: _max_pool2d,
    torch.max_pool2d: _max_pool2d,
    F.pad: _pad,
    F.batch_norm: _batch_norm,
    torch.batch_norm: _batch_norm,
}
