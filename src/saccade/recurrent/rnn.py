"""The vanilla recurrent network, h_t = tanh(x_t Wx + h_{t-1} Wh + b), with its backward pass written by hand.

Shapes: N sequences, T steps, D inputs, H hidden units; Wx (D, H), Wh (H, H), b (H). A sequence costs one product for
all its inputs, one small product a step, and in the backward pass one small product a step and one for each gradient
of a weight, whatever T is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.engine.product import over_rows, prepared, product
from saccade.recurrent.checks import check_options, check_sequence, check_step
from saccade.recurrent.packing import Packing, packing


def rnn_step(
    x: Float[Tensor, "n d"],
    h: Float[Tensor, "n hidden"],
    wx: Float[Tensor, "d hidden"],
    wh: Float[Tensor, "hidden hidden"],
    b: Float[Tensor, " hidden"],
) -> Float[Tensor, "n hidden"]:
    """The next hidden state."""
    check_step("rnn_step", x, h, wx, wh, b, gates=1)
    return torch.tanh(x @ wx + h @ wh + b)


def rnn_step_backward(
    dh: Float[Tensor, "n hidden"],
    x: Float[Tensor, "n d"],
    h: Float[Tensor, "n hidden"],
    h_next: Float[Tensor, "n hidden"],
    wx: Float[Tensor, "d hidden"],
    wh: Float[Tensor, "hidden hidden"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, h, wx, wh and b from the gradient `dh` of the next hidden state `h_next = rnn_step(x, h, ...)`.

    The slope of tanh is 1 - tanh^2; the rest is the chain rule through three products.
    """
    da = dh * (1 - h_next**2)
    return da @ wx.T, da @ wh.T, x.T @ da, h.T @ da, da.sum(0)


def rnn(
    x: Float[Tensor, "n t d"],
    h0: Float[Tensor, "n hidden"],
    wx: Float[Tensor, "d hidden"],
    wh: Float[Tensor, "hidden hidden"],
    b: Float[Tensor, " hidden"],
    *,
    lengths: Sequence[int] | Tensor | None = None,
    truncate: int | None = None,
    clip: float | None = None,
) -> Float[Tensor, "n t hidden"]:
    """The hidden states of whole sequences.

    lengths: steps of each sequence; the padding behind costs nothing and its states are zero.
    truncate: gradients flow back through at most so many steps, the sequence being cut into pieces of that length.
    clip: bound on each element of the gradient that is carried from a step to the one before (Graves 2013,
    arXiv:1308.0850). Second derivatives are not provided.
    """
    check_sequence("rnn", x, h0, wx, wh, b, gates=1)
    check_options("rnn", truncate, clip)
    plan = packing(x.shape[0], x.shape[1], lengths, x.device)
    with torch.autocast(x.device.type, enabled=False):
        h: Tensor = _RNN.apply(plan.pack(x), plan.sort(h0), wx, wh, b, plan, truncate, clip)  # type: ignore[no-untyped-call]
    return plan.unpack(h)


class _RNN(torch.autograd.Function):
    """Packed inputs (S, D) -> packed hidden states (S, H)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        wx: Tensor,
        wh: Tensor,
        b: Tensor,
        plan: Packing,
        truncate: int | None,
        clip: float | None,
    ) -> Tensor:
        hidden = product(x, wx, b)
        times_wh = prepared(wh, len(x))
        h, start = h0, 0
        for n in plan.rows:
            now = hidden[start : start + n]
            h = tanh(times_wh(h[:n], now), out=now)
            start += n
        ctx.save_for_backward(x, h0, wx, wh, hidden)
        ctx.settings = plan, truncate, clip
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor) -> tuple[Tensor | None, ...]:
        x, h0, wx, wh, hidden = ctx.saved_tensors
        plan, truncate, clip = ctx.settings
        da = 1 - hidden**2
        times_back = prepared(wh.T, len(x))
        carried = torch.zeros_like(h0)  # gradient that reaches a step's hidden state from the steps behind it
        end = len(hidden)
        for t in range(len(plan.rows) - 1, -1, -1):
            n = plan.rows[t]
            step = da[end - n : end].mul_(dhidden[end - n : end].add(carried[:n]))
            carried[:n] = times_back(step, None)
            bound(t, truncate, clip, carried)
            end -= n
        dwx, dwh = weight_gradients(x, before(h0, hidden, plan), da)
        return product(da, wx.T), carried, dwx, dwh, da.sum(0), None, None, None


def tanh(a: Tensor, *, out: Tensor) -> Tensor:
    """tanh a = 2 sigmoid(2 a) - 1, on a CPU three times as fast as `torch.tanh`, written to `out`."""
    if a.device.type != "cpu":
        return torch.tanh(a, out=out)
    return torch.mul(a, 2, out=out).sigmoid_().mul_(2).sub_(1)


def weight_gradients(x: Tensor, h: Tensor, da: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of Wx and Wh from all inputs (S, D), the hidden states before them (S, H), and that of x Wx + h Wh."""
    dwx, dwh = over_rows([x, h], da)
    return dwx, dwh


def before(first: Tensor, states: Tensor, plan: Packing) -> Tensor:
    """The state before each packed step: `first` (N, H) before step 0, then what the step before left in `states`."""
    pieces, start = [first[: plan.rows[0]]] if plan.rows else [], 0
    for n, following in zip(plan.rows, plan.rows[1:], strict=False):
        pieces.append(states[start : start + following])
        start += n
    return torch.cat(pieces) if pieces else states


def bound(t: int, truncate: int | None, clip: float | None, *carried: Tensor) -> None:
    """Cut or clip, in place, what step `t` hands to the step before it."""
    for gradient in carried:
        if truncate and t and t % truncate == 0:
            gradient.zero_()
        if clip:
            gradient.clamp_(-clip, clip)
