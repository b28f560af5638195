"""The LSTM that looks at a picture: at each step it reads a grid of features, weighted by how well each fits its
hidden state, and the reading joins the input (EECS 498-007, assignment 4, part 2). Backward pass written by hand.

Shapes: A (N, H, h, w), a grid of P = h w features as wide as the hidden state; Wattn (H, 4H); the rest as in the LSTM.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.engine.product import prepared, product
from saccade.errors import SaccadeError
from saccade.recurrent.checks import check_options, check_same_kind, check_sequence, check_step
from saccade.recurrent.lstm import back_gates, for_gradients, gated, run_gates
from saccade.recurrent.packing import Packing, packing
from saccade.recurrent.rnn import before, bound, weight_gradients


def dot_product_attention(
    h: Float[Tensor, "n hidden"], grid: Float[Tensor, "n hidden height width"]
) -> tuple[Float[Tensor, "n hidden"], Float[Tensor, "n height width"]]:
    """The reading of the grid and its weights: softmax over the places p of h . A[:, p] / sqrt(H)."""
    features = grid.flatten(2)
    weights = torch.softmax((h[:, None] @ features)[:, 0] / h.shape[1] ** 0.5, dim=1)
    return (features @ weights[:, :, None])[:, :, 0], weights.view(len(h), *grid.shape[2:])


def attention_lstm_step(
    x: Float[Tensor, "n d"],
    h: Float[Tensor, "n hidden"],
    c: Float[Tensor, "n hidden"],
    grid: Float[Tensor, "n hidden height width"],
    wx: Float[Tensor, "d gates"],
    wh: Float[Tensor, "hidden gates"],
    wattn: Float[Tensor, "hidden gates"],
    b: Float[Tensor, " gates"],
) -> tuple[Float[Tensor, "n hidden"], Float[Tensor, "n hidden"], Float[Tensor, "n height width"]]:
    """The next hidden and cell state, and the weights with which the grid was read from the hidden state before."""
    check_step("attention_lstm_step", x, h, wx, wh, b, gates=4)
    _check_grid("attention_lstm_step", grid, h, wattn)
    read, weights = dot_product_attention(h, grid)
    h, c = gated(x @ wx + h @ wh + read @ wattn + b, c)
    return h, c, weights


def attention_lstm(
    x: Float[Tensor, "n t d"],
    grid: Float[Tensor, "n hidden height width"],
    wx: Float[Tensor, "d gates"],
    wh: Float[Tensor, "hidden gates"],
    wattn: Float[Tensor, "hidden gates"],
    b: Float[Tensor, " gates"],
    *,
    h0: Float[Tensor, "n hidden"] | None = None,
    c0: Float[Tensor, "n hidden"] | None = None,
    lengths: Sequence[int] | Tensor | None = None,
    truncate: int | None = None,
    clip: float | None = None,
) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "n t hidden"], Float[Tensor, "n t height width"]]:
    """Hidden states, cell states and weights of whole sequences; h0 and c0 are the mean of the grid unless given.

    The weights carry no gradient. lengths, truncate and clip are those of `rnn`; truncation cuts the states, not the
    grid. Second derivatives are not provided.
    """
    mean = grid.mean(dim=(2, 3))
    h0, c0 = mean if h0 is None else h0, mean if c0 is None else c0
    check_sequence("attention_lstm", x, h0, wx, wh, b, gates=4)
    _check_grid("attention_lstm", grid, h0, wattn)
    check_options("attention_lstm", truncate, clip)
    plan = packing(x.shape[0], x.shape[1], lengths, x.device)
    places = plan.sort(grid.flatten(2).transpose(1, 2).contiguous())  # (N, P, H)
    with torch.autocast(x.device.type, enabled=False):
        h, c, weights = _AttentionLSTM.apply(  # type: ignore[no-untyped-call]
            plan.pack(x), places, plan.sort(h0), plan.sort(c0), wx, torch.cat([wh, wattn]), b, plan, truncate, clip
        )
    return plan.unpack(h), plan.unpack(c), plan.unpack(weights).reshape(*x.shape[:2], *grid.shape[2:])


def _check_grid(name: str, grid: Tensor, h: Tensor, wattn: Tensor) -> None:
    count, width = h.shape
    if grid.ndim != 4 or grid.shape[:2] != (count, width) or grid.shape[2:].numel() == 0:
        raise SaccadeError(f"{name}: the grid must be ({count}, {width}, height, width), got {tuple(grid.shape)}.")
    if wattn.shape != (width, 4 * width):
        raise SaccadeError(f"{name}: wattn must be ({width}, {4 * width}), got {tuple(wattn.shape)}.")
    check_same_kind(name, grid=grid, h=h, wattn=wattn)


class _AttentionLSTM(torch.autograd.Function):
    """Packed inputs (S, D), grid (N, P, H), weights of [h; reading] (2H, 4H) -> packed states and attention weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        grid: Tensor,
        h0: Tensor,
        c0: Tensor,
        wx: Tensor,
        wr: Tensor,
        b: Tensor,
        plan: Packing,
        truncate: int | None,
        clip: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        width = h0.shape[1]
        gates = product(x, wx, b)
        times_wr = prepared(wr, len(x))
        recalled = gates.new_empty(len(x), 2 * width)  # hidden state before the step, and what it read
        weights = gates.new_empty(len(x), grid.shape[1])
        hidden = gates.new_empty(len(x), width)
        cell, squashed = torch.empty_like(hidden), torch.empty_like(hidden)
        h, c, start = h0, c0, 0
        for n in plan.rows:
            now = slice(start, start + n)
            recalled[now, :width] = h[:n]
            scores = torch.bmm(grid[:n], h[:n, :, None])[:, :, 0]
            torch.softmax(scores.mul_(width**-0.5), dim=1, out=weights[now])
            recalled[now, width:] = torch.bmm(weights[now][:, None], grid[:n])[:, 0]
            a = times_wr(recalled[now], gates[now])
            h, c = run_gates(a, c[:n], gates[now], hidden[now], cell[now], squashed[now])
            start += n
        ctx.save_for_backward(x, grid, c0, wx, wr, gates, recalled, weights, cell, squashed)
        ctx.settings = plan, truncate, clip
        ctx.mark_non_differentiable(weights)
        ctx.set_materialize_grads(False)
        return hidden, cell, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor | None, dcell: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        x, grid, c0, wx, wr, gates, recalled, weights, cell, squashed = ctx.saved_tensors
        plan, truncate, clip = ctx.settings
        width = c0.shape[1]
        da = for_gradients(gates)
        drecalled = torch.empty_like(recalled)
        dscores = torch.empty_like(weights)
        c_before = before(c0, cell, plan)
        times_back = prepared(wr.T, len(x))
        dh, dc = torch.zeros_like(c0), torch.zeros_like(c0)
        end = len(gates)
        for t in range(len(plan.rows) - 1, -1, -1):
            n = plan.rows[t]
            now = slice(end - n, end)
            if dhidden is not None:
                dh[:n] += dhidden[now]
            if dcell is not None:
                dc[:n] += dcell[now]
            back_gates(gates[now], c_before[now], squashed[now], dh[:n], dc[:n], out=da[now])
            drecalled[now] = times_back(da[now], None)
            dweights = torch.bmm(grid[:n], drecalled[now, width:, None])[:, :, 0]
            softmax_slope = weights[now] * (dweights - (dweights * weights[now]).sum(1, keepdim=True))
            torch.mul(softmax_slope, width**-0.5, out=dscores[now])
            torch.add(drecalled[now, :width], torch.bmm(dscores[now][:, None], grid[:n])[:, 0], out=dh[:n])
            bound(t, truncate, clip, dh, dc)
            end -= n
        dgrid = None
        if ctx.needs_input_grad[1]:  # one product over all steps for each of the two ways the grid was used
            read, scored = (plan.unpack(part).transpose(1, 2) for part in (weights, dscores))  # (N, P, T)
            dread, h = plan.unpack(drecalled[:, width:]), plan.unpack(recalled[:, :width])
            dgrid = plan.sort(torch.baddbmm(read @ dread, scored, h))
        dwx, dwr = weight_gradients(x, recalled, da)
        return product(da, wx.T), dgrid, dh, dc, dwx, dwr, da.sum(0), None, None, None
