"""The operations of which `saccade.networks.lean` knows how little the way back needs.

Each is a function of the tape and of what PyTorch's operation is given. It gives the same result, and tells the tape
the way back; or it gives None, and the operation is left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.networks.lean_tape import Back, Tape


def _conv2d(
    tape: Tape,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str):
        sides = [_pair(dilation)[i] * (weight.shape[2 + i] - 1) * (padding == "same") for i in range(2)]
        padding = None if any(side % 2 for side in sides) else [side // 2 for side in sides]
    if padding is None or x.ndim != 4:
        return None
    lean, given = tape.lean, x
    if lean.dtype is not None and groups == 1:
        x, weight = x.to(lean.dtype), lean.weight(weight, lean.dtype)
        bias = lean.weight(bias, lean.dtype) if bias is not None else None
    elif lean.dtype is not None:
        x = x.to(weight.dtype)
    settings = (_pair(stride), _pair(padding), _pair(dilation), groups)
    found = torch.conv2d(x, weight, bias, *settings)
    found = found if lean.dtype is None else found.to(lean.dtype)
    if groups == 1 and lean.back is not None:
        weight = lean.weight(weight, lean.back)
    return tape.add(found, given, _back_of_conv(_shape(x), weight, settings, lean.back or given.dtype))


def _back_of_conv(
    shape: Callable[[torch.dtype], Tensor], weight: Tensor, settings: tuple[Any, ...], dtype: torch.dtype
) -> Back:
    stride, padding, dilation, groups = settings
    halved = weight.dtype == torch.bfloat16
    few = min(stride) > 1 and stride[0] == stride[1] and dilation == [1, 1] and groups == 1 and weight.shape[1] < 8

    def back(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor]:  # noqa: ARG001
        gradient, blank = gradients[0].to(weight.dtype), shape(weight.dtype)
        if halved and few:
            found = back_by_strides(gradient, weight, stride[0], padding, (blank.shape[2], blank.shape[3]))
        else:
            found = torch.ops.aten.convolution_backward(
                gradient, blank, weight, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
            )[0]
        return [found.to(dtype)]

    return back


def back_by_strides(gradient: Tensor, weight: Tensor, stride: int, padding: list[int], size: tuple[int, int]) -> Tensor:
    """The gradient of a convolution by its input, (N, c, *size), with strides and few channels c.

    Of each block of stride x stride places every one depends on the same outputs, so they are the channels of a plain
    convolution, and put in their places afterwards: with few channels there are then more of them for vector units.
    """
    c, reach = weight.shape[1], [-(-side // stride) for side in weight.shape[2:]]
    wide = F.pad(weight, [0, reach[1] * stride - weight.shape[3], 0, reach[0] * stride - weight.shape[2]])
    split = wide.view(-1, c, reach[0], stride, reach[1], stride).permute(1, 3, 5, 0, 2, 4)
    turned = split.reshape(c * stride * stride, -1, *reach).flip(2, 3).contiguous(memory_format=torch.channels_last)
    found = F.pixel_shuffle(torch.conv2d(gradient, turned, None, 1, [side - 1 for side in reach]), stride)
    missing = [max(0, pad + side - have) for pad, side, have in zip(padding, size, found.shape[2:], strict=True)]
    found = F.pad(found, [0, missing[1], 0, missing[0]]) if any(missing) else found
    return found[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _relu(tape: Tape, x: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001 - never in place here
    shared, tape.shared = tape.shared, False
    found = torch.relu(x)
    if not tape.recording:
        return found
    # 16 bits are kept as they are: the next convolution does not keep them, and a mask would take longer
    whole = found.detach() if tape.lean.back is None else found.detach().to(tape.lean.back)
    kept = whole if shared or whole.element_size() <= 2 else found > 0
    return tape.add(found, x, _back_of_relu, kept)


def _back_of_relu(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor]:  # noqa: ARG001
    if kept[0].dtype != torch.bool:
        return [torch.ops.aten.threshold_backward(gradients[0].to(kept[0].dtype), kept[0], 0)]
    return [gradients[0] * kept[0]]


def _max_pool2d(
    tape: Tape,
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
    stride, padding, dilation = _pair(stride) if stride else kernel, _pair(padding), _pair(dilation)
    found, places = torch.ops.aten.max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode)
    if not tape.recording:
        return found  # type: ignore[no-any-return]
    shape = _shape(x)

    def back(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor]:  # noqa: ARG001
        (gradient,), places = gradients, kept[0].long()
        return [
            torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, shape(gradient.dtype), kernel, stride, padding, dilation, ceil_mode, places
            )
        ]

    return tape.add(found, x, back, places.int())  # 64 bits would take twice the memory


def _pad(tape: Tape, x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor | None:  # noqa: ARG001
    if mode not in ("reflect", "replicate") or x.ndim != 4 or len(pad) != 4:
        return None
    sides, shape = list(pad), _shape(x)
    name = "reflection_pad2d_backward" if mode == "reflect" else "replication_pad2d_backward"

    def back(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor]:  # noqa: ARG001
        (gradient,) = gradients
        if mode == "reflect" and gradient.dtype == torch.bfloat16:
            return [folded(gradient if fresh else gradient.clone(), sides)]
        return [getattr(torch.ops.aten, name)(gradient, shape(gradient.dtype), sides)]

    return tape.add(F.pad(x, sides, mode=mode), x, back)


def folded(gradient: Tensor, pad: list[int]) -> Tensor:
    """The inside of a gradient, onto which its borders are folded. The corners are summed in another order."""
    left, right, top, bottom = pad
    h, w = gradient.shape[2] - top - bottom, gradient.shape[3] - left - right
    for dim, before, inside, behind in ((2, top, h, bottom), (3, left, w, right)):
        for by in range(1, before + 1):
            gradient.select(dim, before + by).add_(gradient.select(dim, before - by))
        last = before + inside - 1
        for by in range(1, behind + 1):
            gradient.select(dim, last - by).add_(gradient.select(dim, last + by))
    return gradient[:, :, top : top + h, left : left + w]


def _batch_norm(
    tape: Tape,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return None
    scale = torch.rsqrt(running_var + eps) * (weight if weight is not None else 1)
    shift = (bias if bias is not None else 0) - running_mean * scale
    shape = (1, -1, *[1] * (x.ndim - 2))
    dtype = x.dtype if tape.lean.dtype is None else tape.lean.dtype
    scale, shift = scale.to(dtype).view(shape), shift.to(dtype).view(shape)
    return tape.add(x * scale + shift, x, lambda gradients, kept, fresh: [gradients[0] * scale.to(gradients[0].dtype)])


def _cat(tape: Tape, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    if not tape.recording or any(tape.place(one) is None for one in tensors):
        return None
    sizes = [one.shape[dim] for one in tensors]

    def back(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor]:  # noqa: ARG001
        return gradients[0].split(sizes, dim)  # type: ignore[no-any-return]

    return tape.join(torch.cat(list(tensors), dim), tensors, back)


def _shape(x: Tensor) -> Callable[[torch.dtype], Tensor]:
    """Makes a tensor like x of whose values nothing is wanted: its memory is never touched."""
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    shape, device = x.shape, x.device
    return lambda dtype: torch.empty(shape, dtype=dtype, device=device, memory_format=layout)


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]


OWN: dict[Any, Callable[..., Tensor | None]] = {
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
    torch.cat: _cat,
}
