"""Attention scores by their formulas, and the ways of reading by their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.recurrent import LocalAttention, MultiHead, attend, causal_mask, dot_product_attention, score
from saccade.recurrent.scores import SCORES

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def make(name, dim=4, places=5):
    torch.manual_seed(0)
    options = {"positions": places} if name == "location" else {}
    return score(name, dim, dim, **options).double()


def inputs(n=2, t=3, places=5, dim=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(n, length, dim, generator=g, dtype=torch.float64) for length in (t, places))


def by_hand(name, module, q, k):
    """One query, one key (and its number), in plain arithmetic."""
    vector, (key, place) = q.tolist(), (k[0].tolist(), k[1])
    dot = sum(a * b for a, b in zip(vector, key, strict=True))
    if name == "dot":
        return dot
    if name == "scaled":
        return dot / math.sqrt(len(key))
    if name == "cosine":
        return module.log_sharpness.exp().item() * dot / math.hypot(*vector) / math.hypot(*key)
    weight = {n: p.tolist() for n, p in module.named_parameters()}
    if name == "location":
        return sum(a * weight["weight"][i][place] for i, a in enumerate(vector))
    if name == "general":
        return sum(a * weight["weight"][i][j] * b for i, a in enumerate(vector) for j, b in enumerate(key))
    total = 0.0
    for unit, v in enumerate(weight["v.weight"][0]):
        inside = weight["key.bias"][unit]
        inside += sum(a * w for a, w in zip(vector, weight["query.weight"][unit], strict=True))
        inside += sum(b * w for b, w in zip(key, weight["key.weight"][unit], strict=True))
        total += v * math.tanh(inside)
    return total


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_their_formulas(name):
    module = make(name)
    if name == "cosine":
        module.log_sharpness.data.fill_(0.7)
    queries, keys = inputs()
    found = module(queries, keys)
    assert found.shape == (2, 3, 5)
    for n in range(2):
        for t in range(3):
            for p in range(5):
                assert found[n, t, p].item() == pytest.approx(by_hand(name, module, queries[n, t], (keys[n, p], p)))
    assert_close(module.compare(queries, module.prepare(keys)), found, **EXACT)


@pytest.mark.parametrize("name", SCORES)
def test_scores_have_right_gradients(name):
    module = make(name)
    queries, keys = (x.requires_grad_() for x in inputs())
    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(lambda q, k, *_: attend(module(q, k), k).value, (queries, keys, *parameters))


def test_scores_agree_where_they_must():
    queries, keys = inputs()
    general = make("general")
    general.weight.data.copy_(torch.eye(4))
    assert_close(general(queries, keys), make("dot")(queries, keys), **EXACT)
    assert_close(make("scaled")(queries, keys) * 2, make("dot")(queries, keys), **EXACT)
    unit = F.normalize(queries, dim=2), F.normalize(keys, dim=2)
    assert_close(make("cosine")(queries, keys), make("dot")(*unit), **EXACT)
    # the course's attention is the scaled one on a grid
    grid = keys.transpose(1, 2).reshape(2, 4, 5, 1)
    read, weights = dot_product_attention(queries[:, 0], grid)
    ours = attend(make("scaled")(queries[:, :1], keys), keys)
    assert_close(read, ours.value[:, 0], **EXACT)
    assert_close(weights.flatten(1), ours.weights[:, 0], **EXACT)


@pytest.mark.parametrize("name", ["dot", "scaled", "cosine"])
def test_scores_that_need_one_width_say_so(name):
    with pytest.raises(SaccadeError, match=f"A {name} score wants queries and keys of one width, got 3 and 4"):
        score(name, 3, 4)


def test_other_bad_requests_get_one_sentence():
    with pytest.raises(SaccadeError, match="There is no attention score 'bilinear'; there are cosine, additive"):
        score("bilinear", 3, 3)
    queries, keys = inputs()
    with pytest.raises(SaccadeError, match="made for 7 positions, got 5"):
        make("location", places=7)(queries, keys)
    with pytest.raises(SaccadeError, match="a multiple of heads, got 6 and 4"):
        MultiHead(6, 4)
    with pytest.raises(SaccadeError, match="reach must be 1 or more"):
        LocalAttention(4, reach=0)


@given(st.integers(1, 6), st.integers(0, 2**31), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_weights_are_shares_of_what_is_open(places, seed, spread):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 3, places, generator=g) * spread
    values = torch.randn(2, places, 2, generator=g)
    mask = torch.rand(2, 3, places, generator=g) < 0.6
    soft = attend(scores, values, mask=mask)
    some = mask.any(2)
    assert_close(soft.weights.sum(2), some.float())
    assert not soft.weights[~mask].any()
    assert not soft.value[~some].any()
    for n, t in some.nonzero().tolist():  # as if the closed places were not there
        alone = attend(scores[n, t, mask[n, t]].view(1, 1, -1), values[n, mask[n, t]][None])
        assert_close(soft.value[n, t], alone.value[0, 0], rtol=1e-5, atol=1e-6)
    hard = attend(scores, values, mask=mask, hard=True, generator=g)
    assert torch.equal(hard.weights.sum(2), some.float())
    assert not hard.weights[~mask].any()


def test_hard_attention_draws_with_the_soft_weights():
    scores = torch.tensor([[[0.0, math.log(3.0), math.log(6.0)]]]).repeat(20000, 1, 1)
    values = torch.eye(3).repeat(20000, 1, 1)
    hard = attend(scores, values, hard=True, generator=torch.Generator().manual_seed(0))
    assert_close(hard.value.mean((0, 1)), torch.tensor([0.1, 0.3, 0.6]), rtol=0, atol=0.015)
    assert hard.log_probability is not None
    place = hard.weights.argmax(2)
    assert_close(hard.log_probability.exp(), torch.tensor([0.1, 0.3, 0.6])[place])
    again = attend(scores, values, hard=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hard.weights, again.weights)


def test_reinforce_points_the_way_of_the_reward():
    """The mean of reward times slope of the log-probability is the slope of the expected reward."""
    scores = torch.tensor([0.2, -0.5, 0.9], dtype=torch.float64).requires_grad_()
    reward = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (exact,) = torch.autograd.grad((torch.softmax(scores, 0) * reward).sum(), scores)
    many = scores.expand(40000, 1, 3)
    drawn = attend(
        many, reward.view(1, 3, 1).expand(40000, 3, 1), hard=True, generator=torch.Generator().manual_seed(0)
    )
    (estimate,) = torch.autograd.grad((drawn.value[..., 0].detach() * drawn.log_probability).mean(), scores)
    assert_close(estimate, exact, rtol=0, atol=0.02)


def test_local_attention_sees_its_window_only():
    queries, values = inputs(places=9)
    scores = torch.zeros(2, 3, 9, dtype=torch.float64)
    following = LocalAttention(4, reach=2, centre="monotonic")
    weights = following(queries, scores, values, first=3).weights
    for t in range(3):
        expected = torch.zeros(9, dtype=torch.float64)
        expected[1 + t : 6 + t] = 0.2
        assert_close(weights[0, t], expected, **EXACT)
    predicted = LocalAttention(4, reach=2).double()
    centres = predicted.centres(queries, 9)
    weights = predicted(queries, scores, values).weights
    for n in range(2):
        for t in range(3):
            centre = centres[n, t].item()
            near = [p for p in range(9) if abs(p - centre) <= 2]
            expected = torch.zeros(9, dtype=torch.float64)
            for p in near:
                expected[p] = math.exp(-((p - centre) ** 2) / (2 * 1.0**2)) / len(near)
            assert_close(weights[n, t], expected, **EXACT)
    predicted(queries, scores, values).value.sum().backward()
    assert predicted.v.weight.grad.abs().sum() > 0


def test_heads_are_separate_attentions_on_projections():
    torch.manual_seed(0)
    layer = MultiHead(6, 2, memory_dim=5).double()
    x, memory = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 4, 5, dtype=torch.float64)
    read, weights = layer(x, *layer.prepare(memory))
    parts = []
    for head in range(2):
        rows = slice(3 * head, 3 * head + 3)
        q = x @ layer.query.weight[rows].T + layer.query.bias[rows]
        k = memory @ layer.memory.weight[rows].T + layer.memory.bias[rows]
        values = slice(6 + rows.start, 6 + rows.stop)
        v = memory @ layer.memory.weight[values].T + layer.memory.bias[values]
        one = attend(q @ k.transpose(1, 2) / 3**0.5, v)
        assert_close(weights[:, head], one.weights, **EXACT)
        parts.append(one.value)
    assert_close(read, torch.cat(parts, 2) @ layer.out.weight.T + layer.out.bias, **EXACT)


def test_cached_keys_equal_recomputed_ones():
    torch.manual_seed(0)
    layer = MultiHead(8, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    whole, _ = layer(x, *layer.prepare(x), mask=causal_mask(5))
    keys = values = torch.empty(2, 2, 0, 4, dtype=torch.float64)
    for t in range(5):
        k, v = layer.prepare(x[:, t : t + 1])
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        assert_close(layer(x[:, t : t + 1], keys, values)[0][:, 0], whole[:, t], **EXACT)
