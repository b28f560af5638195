"""The LSTM of Show, Attend and Tell (Xu et al. 2015, arXiv:1502.03044) over whole sequences, its backward pass written
by hand: additive scores, a gate on what was read, an LSTM.

    [q, b, r] = h Wh^T + bh            e_p = v . tanh(K_p + q)         alpha = softmax(e)
    z = sigmoid(b) sum_p alpha_p A_p   a = w + r + z Wz^T              h', c' from the gates a as in the LSTM

Autograd would keep the (N, P, A) values of tanh for each word and add up as many gradients of the keys. Here they are
computed anew on the way back, a few rows at a time, so that they stay in the processor's cache.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.recurrent.lstm import back_gates, for_gradients, run_gates
from saccade.recurrent.packing import Packing
from saccade.recurrent.rnn import before

_IN_CACHE = 2**18  # elements of a block of keys: a megabyte in float32


def additive_lstm(
    word: Float[Tensor, "s gates"],
    places: Float[Tensor, "n p c"],
    keys: Float[Tensor, "n p a"],
    h0: Float[Tensor, "n hidden"],
    c0: Float[Tensor, "n hidden"],
    wh: Float[Tensor, "rows hidden"],
    bh: Float[Tensor, " rows"],
    wz: Float[Tensor, "gates c"],
    v: Float[Tensor, " a"],
    plan: Packing,
) -> tuple[Float[Tensor, "s hidden"], Float[Tensor, "s c"], Float[Tensor, "s p"]]:
    """Hidden states, gated readings and attention weights of S packed steps, all with gradients.

    word: the words' share of the gates, in the order i, f, o, g. places, keys: in packed order. wh: the rows of the
    query (A), the gate (1) and the LSTM's gates (4H). The products run in the precision of `keys`, the states in that
    of `word`.
    """
    with torch.autocast(word.device.type, enabled=False):
        found: tuple[Tensor, Tensor, Tensor] = _AdditiveLSTM.apply(  # type: ignore[no-untyped-call]
            word, places, keys, h0.to(word.dtype), c0.to(word.dtype), wh, bh, wz, v, plan
        )
    return found


class _AdditiveLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        word: Tensor,
        places: Tensor,
        keys: Tensor,
        h0: Tensor,
        c0: Tensor,
        wh: Tensor,
        bh: Tensor,
        wz: Tensor,
        v: Tensor,
        plan: Packing,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind, width = keys.dtype, keys.shape[2]
        wh, bh, wz, places = (part.to(kind) for part in (wh, bh, wz, places))
        gates = word.clone()
        hidden = gates.new_empty(len(word), h0.shape[1])
        cell, squashed = torch.empty_like(hidden), torch.empty_like(hidden)
        asked = keys.new_empty(len(word), width)  # the queries
        opened = keys.new_empty(len(word), 1)  # the gate of the reading
        weights = v.new_empty(len(word), keys.shape[1])
        read = keys.new_empty(len(word), places.shape[2])  # before the gate
        recalled, looks, context = (keys.new_zeros(len(h0), part.shape[1]) for part in (h0, weights, read))
        h, c, start = h0, c0, 0
        for n in plan.rows:
            now = slice(start, start + n)
            many = _few_shapes(n, len(h0))
            recalled[:n] = h[:n]
            of_h = torch.addmm(bh, recalled[:many], wh.T)[:n]
            asked[now], opened[now] = of_h[:, :width], of_h[:, width : width + 1].sigmoid()
            weights[now] = looks[:n] = torch.softmax(_scores(keys[:n], asked[now], v), 1)
            read[now] = torch.bmm(looks[:many, None], places[:many])[:n, 0]
            context[:n] = opened[now] * read[now]
            gates[now] += of_h[:, width + 1 :]
            gates[now] += (context[:many] @ wz.T)[:n]
            h, c = run_gates(gates[now], c[:n], gates[now], hidden[now], cell[now], squashed[now])
            start += n
        ctx.save_for_backward(
            places, keys, h0, c0, wh, wz, v, gates, hidden, cell, squashed, asked, opened, weights, read
        )
        ctx.plan = plan
        return hidden, opened * read, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor, dcontext: Tensor, dweights: Tensor) -> tuple[Tensor | None, ...]:
        places, keys, h0, c0, wh, wz, v, gates, hidden, cell, squashed, asked, opened, weights, read = ctx.saved_tensors
        plan, width = ctx.plan, keys.shape[2]
        da = for_gradients(gates)
        dof_h = keys.new_empty(len(gates), wh.shape[0])
        dread = torch.empty_like(read)
        dkeys = v.new_zeros(keys.shape)
        dv = torch.zeros_like(v)
        c_before = before(c0, cell, plan)
        dh, dc = torch.zeros_like(c0), torch.zeros_like(c0)
        of_h, of_read = (keys.new_zeros(len(h0), part.shape[1]) for part in (dof_h, read))  # of the step at hand
        end = len(gates)
        for n in reversed(plan.rows):
            now = slice(end - n, end)
            dh[:n] += dhidden[now]
            back_gates(gates[now], c_before[now], squashed[now], dh[:n], dc[:n], out=da[now])
            many = _few_shapes(n, len(h0))
            of_h[:n, width + 1 :] = da[now]
            dz = (of_h[:many, width + 1 :] @ wz)[:n] + dcontext[now]
            slope = opened[now] * (1 - opened[now])
            torch.mul((dz * read[now]).sum(1, keepdim=True), slope, out=of_h[:n, width : width + 1])
            dread[now] = of_read[:n] = dz * opened[now]
            dalpha = torch.bmm(places[:many], of_read[:many, :, None])[:n, :, 0] + dweights[now]
            dscores = weights[now] * (dalpha - (dalpha * weights[now]).sum(1, keepdim=True))
            _scores_backward(dscores, keys[:n], asked[now], v, dkeys[:n], of_h[:n, :width], dv)
            dh[:n] = (of_h[:many] @ wh)[:n]
            dof_h[now] = of_h[:n]
            end -= n
        dplaces = None
        if ctx.needs_input_grad[1]:  # one product over all steps
            dplaces = plan.sort(plan.unpack(weights.to(dread)).transpose(1, 2) @ plan.unpack(dread))
        h_before = before(h0, hidden, plan).to(keys.dtype)
        dwz = dof_h[:, width + 1 :].T @ (opened * read)
        return da, dplaces, dkeys, dh, dc, dof_h.T @ h_before, dof_h.sum(0), dwz, dv, None


def _few_shapes(n: int, most: int) -> int:
    """`n` rounded up to 16: the library behind the products prepares itself anew for each shape that it meets."""
    return min(-(-n // 16) * 16, most)


def _blocks(keys: Tensor) -> list[slice]:
    """Blocks of rows of the keys that fit the cache."""
    step = max(_IN_CACHE // keys[:1].numel(), 1)
    return [slice(first, first + step) for first in range(0, len(keys), step)]


def _bent(keys: Tensor, query: Tensor) -> Tensor:
    """tanh(keys + query) of a block, at least in float32, whose tanh is five times as fast as bfloat16's on a CPU."""
    kind = torch.promote_types(keys.dtype, torch.float32)
    return (keys.to(kind) + query[:, None].to(kind)).tanh_()


def _scores(keys: Tensor, query: Tensor, v: Tensor) -> Tensor:
    """v . tanh(keys + query): keys (N, P, A), query (N, A) -> (N, P)."""
    scores = v.new_empty(keys.shape[:2])
    for block in _blocks(keys):
        torch.matmul(_bent(keys[block], query[block]), v, out=scores[block])
    return scores


def _scores_backward(
    dscores: Tensor, keys: Tensor, query: Tensor, v: Tensor, dkeys: Tensor, dquery: Tensor, dv: Tensor
) -> None:
    """Backward of `_scores`: adds to `dkeys` and `dv`, writes `dquery`."""
    for block in _blocks(keys):
        bent = _bent(keys[block], query[block])
        dv += dscores[block].reshape(-1) @ bent.view(-1, bent.shape[2])
        slope = torch.ops.aten.tanh_backward(dscores[block, :, None] * v, bent)
        dkeys[block] += slope
        dquery[block] = slope.sum(1)
