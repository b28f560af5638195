"""The LSTM with additive attention: its backward pass against autograd, step by step, in float64."""

import pytest
import torch
from torch.testing import assert_close

from saccade.recurrent import additive_lstm as module
from saccade.recurrent.additive_lstm import additive_lstm
from saccade.recurrent.lstm import gated
from saccade.recurrent.packing import packing

N, T, P, C, A, H = 5, 6, 4, 3, 7, 2
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def plainly(word, places, keys, h0, c0, wh, bh, wz, v, lengths):
    """One sentence at a time, one word at a time; padded results."""
    hidden, contexts, looks = (torch.zeros(N, T, width, dtype=word.dtype) for width in (H, C, P))
    for i in range(N):
        h, c = h0[i : i + 1], c0[i : i + 1]
        for t in range(int(lengths[i])):
            of_h = h @ wh.T + bh
            alpha = torch.softmax((keys[i] + of_h[0, :A]).tanh() @ v, 0)
            z = torch.sigmoid(of_h[0, A]) * (alpha @ places[i])
            h, c = gated(word[i, t] + of_h[:, A + 1 :] + z @ wz.T, c)
            hidden, contexts, looks = (
                whole.index_put((torch.tensor(i), torch.tensor(t)), part)
                for whole, part in ((hidden, h[0]), (contexts, z), (looks, alpha))
            )
    return hidden, contexts, looks


@pytest.fixture
def given():
    g = torch.Generator().manual_seed(4)
    rows = A + 1 + 4 * H
    shapes = ((N, T, 4 * H), (N, P, C), (N, P, A), (N, H), (N, H), (rows, H), (rows,), (4 * H, C), (A,))
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("lengths", [[T] * N, [2, 6, 1, 4, 4], [0, 3, 6, 0, 1]])
@pytest.mark.parametrize("in_cache", [1, 60, 2**18])  # one row of keys a block, two, all
def test_states_and_gradients_are_those_of_autograd(given, lengths, in_cache, monkeypatch):
    monkeypatch.setattr(module, "_IN_CACHE", in_cache)
    lengths = torch.tensor(lengths)
    word, places, keys, h0, c0, *weights = given
    plan = packing(N, T, lengths, word.device)
    found = additive_lstm(plan.pack(word), *map(plan.sort, (places, keys, h0, c0)), *weights, plan)
    found = [plan.unpack(part) for part in found]
    expected = plainly(*given, lengths)
    upstream = [torch.randn(part.shape, generator=torch.Generator().manual_seed(9), dtype=part.dtype) for part in found]
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, **EXACT)
    ours = torch.autograd.grad(found, given, upstream)
    reference = torch.autograd.grad(expected, given, upstream)
    for mine, theirs in zip(ours, reference, strict=True):
        assert_close(mine, theirs, **EXACT)


def test_bfloat16_keys_stay_near(given):
    word, places, keys, h0, c0, *weights = [part.detach().float().requires_grad_() for part in given]
    plan = packing(N, T, None, word.device)
    exact = additive_lstm(plan.pack(word), places, keys, h0, c0, *weights, plan)
    low = additive_lstm(plan.pack(word), places.bfloat16(), keys.bfloat16(), h0, c0, *weights, plan)
    assert low[0].dtype == torch.float32
    for mine, theirs in zip(low, exact, strict=True):
        assert_close(mine.float(), theirs, rtol=0.05, atol=0.05)
    gradients = [torch.autograd.grad(sum(part.float().sum() for part in r), [word, *weights]) for r in (low, exact)]
    for mine, theirs in zip(*gradients, strict=True):
        assert float((mine - theirs).norm()) < 0.05 * float(theirs.norm()) + 1e-3
