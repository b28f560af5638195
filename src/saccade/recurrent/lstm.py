"""The long short-term memory (Hochreiter & Schmidhuber 1997; with forget gate, Gers et al. 2000), its backward pass
written by hand.

A step computes a = x Wx + h Wh + b (N, 4H), cut into four gates in the order input i, forget f, output o, candidate g:

    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)      g = tanh(a_g)
    c' = f c + i g                                          h' = o tanh(c')

Shapes: x (N, D), h and c (N, H), Wx (D, 4H), Wh (H, 4H), b (4H).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.recurrent.checks import check_options, check_sequence, check_step
from saccade.recurrent.packing import Packing, packing
from saccade.recurrent.rnn import before, bound


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
        gates = torch.addmm(b, x, wx)
        hidden = gates.new_empty(len(x), h0.shape[1])
        cell, squashed = torch.empty_like(hidden), torch.empty_like(hidden)  # squashed: tanh(cell)
        h, c, start = h0, c0, 0
        for n in plan.rows:
            now = slice(start, start + n)
            gates[now].addmm_(h[:n], wh)
            h, c = run_gates(gates[now], c[:n], hidden[now], cell[now], squashed[now])
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
        da = torch.empty_like(gates)
        slopes = Slopes.of(gates, before(c0, cell, plan), squashed)
        back = wh.T.contiguous()  # small products are much faster on a matrix that lies as they read it
        dh, dc = torch.zeros_like(h0), torch.zeros_like(c0)  # carried from the steps behind
        end = len(gates)
        for t in range(len(plan.rows) - 1, -1, -1):
            n = plan.rows[t]
            now = slice(end - n, end)
            if dhidden is not None:
                dh[:n] += dhidden[now]
            if dcell is not None:
                dc[:n] += dcell[now]
            slopes.back(now, dh[:n], dc[:n], out=da[now])
            torch.mm(da[now], back, out=dh[:n])
            bound(t, truncate, clip, dh, dc)
            end -= n
        both = torch.cat([x, before(h0, hidden, plan)], dim=1).T @ da
        dwx, dwh = both[: x.shape[1]], both[x.shape[1] :]
        return da @ wx.T, dh, dc, dwx, dwh, da.sum(0), None, None, None


def run_gates(a: Tensor, c: Tensor, hidden: Tensor, cell: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """`gated` in place: `a` (N, 4H) becomes the gates; the new states, and tanh of the cell, go to the rest."""
    width = c.shape[1]
    a[:, : 3 * width].sigmoid_()
    a[:, 3 * width :].tanh_()
    i, f, o, g = a.chunk(4, dim=1)
    torch.mul(f, c, out=cell).addcmul_(i, g)
    torch.tanh(cell, out=squashed)
    return torch.mul(o, squashed, out=hidden), cell


class Slopes(NamedTuple):
    """Backward of `run_gates`, with all that does not wait for a gradient computed for all S steps at once.

    gates: (S, 4, H), what each sum before a gate adds to the loss for a unit of what it acts on: the cell state for
    i, f and g, the hidden state for o. through: (S, H), from the hidden to the cell state. kept: (S, H), forget gates.
    """

    gates: Float[Tensor, "s 4 hidden"]
    through: Float[Tensor, "s hidden"]
    kept: Float[Tensor, "s hidden"]

    @classmethod
    def of(
        cls,
        gates: Float[Tensor, "s gates"],
        c_before: Float[Tensor, "s hidden"],
        squashed: Float[Tensor, "s hidden"],
    ) -> "Slopes":
        """From the gates, the cell state before each step, and tanh of the one after it."""
        i, f, o, g = gates.chunk(4, dim=1)
        slope = gates.new_empty(len(gates), 4, c_before.shape[1])
        sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
        sigmoid_backward(g, i, grad_input=slope[:, 0])
        sigmoid_backward(c_before, f, grad_input=slope[:, 1])
        sigmoid_backward(squashed, o, grad_input=slope[:, 2])
        torch.ops.aten.tanh_backward.grad_input(i, g, grad_input=slope[:, 3])
        return cls(slope, torch.ops.aten.tanh_backward(o, squashed), f)

    def back(self, now: slice, dh: Tensor, dc: Tensor, *, out: Tensor) -> None:
        """One step: writes the gradient of the sum before the gates to `out` (N, 4H), and turns `dc`, the gradient of
        the cell state after the step, into that of the one before it, in place."""
        slope, out = self.gates[now], out.view(len(out), 4, dh.shape[1])
        dc.addcmul_(dh, self.through[now])
        torch.mul(slope[:, :2], dc[:, None], out=out[:, :2])
        torch.mul(slope[:, 2], dh, out=out[:, 2])
        torch.mul(slope[:, 3], dc, out=out[:, 3])
        dc.mul_(self.kept[now])
