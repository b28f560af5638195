"""The long short-term memory (Hochreiter & Schmidhuber 1997; with forget gate, Gers et al. 2000), its backward pass
written by hand.

A step computes a = x Wx + h Wh + b (N, 4H), cut into four gates in the order input i, forget f, output o, candidate g:

    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)      g = tanh(a_g)
    c' = f c + i g                                          h' = o tanh(c')

Shapes: x (N, D), h and c (N, H), Wx (D, 4H), Wh (H, 4H), b (4H).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.engine.product import prepared, product
from saccade.recurrent.checks import check_options, check_sequence, check_step
from saccade.recurrent.packing import Packing, packing
from saccade.recurrent.rnn import before, bound, tanh, weight_gradients


def lstm_step(
    x: Float[Tensor, "n d"],
    h: Float[Tensor, "n hidden"],
    c: Float[Tensor, "n hidden"],
    wx: Float[Tensor, "d gates"],
    wh: Float[Tensor, "hidden gates"],
    b: Float[Tensor, " gates"],
) -> tuple[Float[Tensor, "n hidden"], Float[Tensor, "n hidden"]]:
    """The next hidden and cell state."""
    check_step("lstm_step", x, h, wx, wh, b, gates=4)
    return gated(x @ wx + h @ wh + b, c)


def gated(a: Float[Tensor, "n gates"], c: Float[Tensor, "n hidden"]) -> tuple[Tensor, Tensor]:
    """Hidden and cell state after a step, from the sum `a` before the gates and the cell state before."""
    i, f, o, g = a.chunk(4, dim=1)
    c_next = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c_next.tanh(), c_next


def lstm(
    x: Float[Tensor, "n t d"],
    h0: Float[Tensor, "n hidden"],
    wx: Float[Tensor, "d gates"],
    wh: Float[Tensor, "hidden gates"],
    b: Float[Tensor, " gates"],
    *,
    c0: Float[Tensor, "n hidden"] | None = None,
    lengths: Sequence[int] | Tensor | None = None,
    truncate: int | None = None,
    clip: float | None = None,
) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "n t hidden"]]:
    """Hidden and cell states of whole sequences; c0 is zero unless given.

    lengths, truncate and clip are those of `rnn`. Second derivatives are not provided.
    """
    check_sequence("lstm", x, h0, wx, wh, b, gates=4)
    check_options("lstm", truncate, clip)
    plan = packing(x.shape[0], x.shape[1], lengths, x.device)
    c0 = torch.zeros_like(h0) if c0 is None else c0
    with torch.autocast(x.device.type, enabled=False):
        h, c = _LSTM.apply(plan.pack(x), plan.sort(h0), plan.sort(c0), wx, wh, b, plan, truncate, clip)  # type: ignore[no-untyped-call]
    return plan.unpack(h), plan.unpack(c)


class _LSTM(torch.autograd.Function):
    """Packed inputs (S, D) -> packed hidden and cell states (S, H)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        wx: Tensor,
        wh: Tensor,
        b: Tensor,
        plan: Packing,
        truncate: int | None,
        clip: float | None,
    ) -> tuple[Tensor, Tensor]:
        gates = product(x, wx, b)
        times_wh = prepared(wh, len(x))
        hidden = gates.new_empty(len(x), h0.shape[1])
        cell, squashed = torch.empty_like(hidden), torch.empty_like(hidden)  # squashed: tanh(cell)
        h, c, start = h0, c0, 0
        for n in plan.rows:
            now = slice(start, start + n)
            a = times_wh(h[:n], gates[now])
            h, c = run_gates(a, c[:n], gates[now], hidden[now], cell[now], squashed[now])
            start += n
        ctx.save_for_backward(x, h0, c0, wx, wh, gates, hidden, cell, squashed)
        ctx.settings = plan, truncate, clip
        ctx.set_materialize_grads(False)
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor | None, dcell: Tensor | None) -> tuple[Tensor | None, ...]:
        x, h0, c0, wx, wh, gates, hidden, cell, squashed = ctx.saved_tensors
        plan, truncate, clip = ctx.settings
        da = for_gradients(gates)
        times_back = prepared(wh.T, len(x))
        dh, dc = torch.zeros_like(h0), torch.zeros_like(c0)  # carried from the steps behind
        end = len(gates)
        for t in range(len(plan.rows) - 1, -1, -1):
            n = plan.rows[t]
            now, then = slice(end - n, end), end - n - (plan.rows[t - 1] if t else 0)
            c = cell[then : then + n] if t else c0[:n]
            if dhidden is not None:
                dh[:n] += dhidden[now]
            if dcell is not None:
                dc[:n] += dcell[now]
            back_gates(gates[now], c, squashed[now], dh[:n], dc[:n], out=da[now])
            dh[:n] = times_back(da[now], None)
            bound(t, truncate, clip, dh, dc)
            end -= n
        dwx, dwh = weight_gradients(x, before(h0, hidden, plan), da)
        return product(da, wx.T), dh, dc, dwx, dwh, da.sum(0), None, None, None


def run_gates(
    a: Tensor, c: Tensor, gates: Tensor, hidden: Tensor, cell: Tensor, squashed: Tensor
) -> tuple[Tensor, Tensor]:
    """`gated`, with the gates of the sums `a` (N, 4H), the new states and tanh of the cell written to the rest.

    `gates` may be `a`.
    """
    width = c.shape[1]
    torch.sigmoid(a[:, : 3 * width], out=gates[:, : 3 * width])
    tanh(a[:, 3 * width :], out=gates[:, 3 * width :])
    i, f, o, g = gates.chunk(4, dim=1)
    torch.mul(f, c, out=cell).addcmul_(i, g)
    tanh(cell, out=squashed)
    return torch.mul(o, squashed, out=hidden), cell


def for_gradients(gates: Tensor) -> Tensor:
    """Memory for the gradients of the saved `gates`: their own if nobody can read them again, else new.

    They are read again if the graph is kept. Whether it is has no public name; without it, memory is taken anew, and
    the largest block of a training step comes page by page from the system, unless the process keeps what it frees.
    """
    try:
        kept = torch._C._autograd._get_current_graph_task_keep_graph()
    except (AttributeError, RuntimeError):
        kept = True
    return torch.empty_like(gates) if kept else gates


def back_gates(gates: Tensor, c: Tensor, squashed: Tensor, dh: Tensor, dc: Tensor, *, out: Tensor) -> None:
    """Backward of `run_gates`, from the gates, the cell state before the step and tanh of the one after it.

    Writes the gradient of the sums before the gates to `out` (N, 4H), which may be `gates`, and turns `dc`, the
    gradient of the cell state after the step, into that of the one before it, in place. A step at a time, so that it
    stays in the cache.
    """
    i, f, o, g = gates.chunk(4, dim=1)
    di, df, do, dg = out.chunk(4, dim=1)
    sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
    tanh_backward = torch.ops.aten.tanh_backward
    dc += tanh_backward(dh * o, squashed)
    at_i, at_f, at_g = dc * g, dc * c, dc * i
    dc *= f
    sigmoid_backward(at_i, i, grad_input=di)
    sigmoid_backward(at_f, f, grad_input=df)
    sigmoid_backward(torch.mul(dh, squashed, out=at_i), o, grad_input=do)
    tanh_backward.grad_input(at_g, g, grad_input=dg)
