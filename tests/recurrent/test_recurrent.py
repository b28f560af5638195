"""Recurrent layers against PyTorch's own, against autograd through single steps, and against themselves unpadded."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.recurrent import (
    LSTM,
    RNN,
    AttentionLSTM,
    attention_lstm,
    attention_lstm_step,
    dot_product_attention,
    from_torch,
    lstm,
    lstm_step,
    rnn,
    rnn_step,
    rnn_step_backward,
    to_torch,
)

KINDS = ("rnn", "lstm", "attention")
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def arguments(kind, n=3, t=5, d=4, width=6, seed=0):
    """x, states and weights of a layer in float64, all wanting gradients."""
    g = torch.Generator().manual_seed(seed)
    gates = 1 if kind == "rnn" else 4

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    given = {"x": draw(n, t, d), "h0": draw(n, width)}
    if kind != "rnn":
        given["c0"] = draw(n, width)
    if kind == "attention":
        given["grid"] = draw(n, width, 2, 3)
        given["wattn"] = draw(width, gates * width)
    return given | {"wx": draw(d, gates * width), "wh": draw(width, gates * width), "b": draw(gates * width)}


def whole(kind, given, **options):
    """The states of the hand-written sequence, joined to one tensor (N, T, ...)."""
    if kind == "rnn":
        return rnn(**given, **options)
    function = lstm if kind == "lstm" else attention_lstm
    return torch.cat(function(**given, **options)[:2], dim=2)


def by_steps(kind, given, lengths=None, truncate=None):
    """The same by single steps, which autograd differentiates; states behind a sequence's end are zero."""
    x, h, c = given["x"], given["h0"], given.get("c0")
    n, steps, _ = x.shape
    lengths = torch.full((n,), steps) if lengths is None else torch.as_tensor(lengths)
    weights = given["wx"], given["wh"], given["b"]
    states = []
    for t in range(steps):
        if truncate and t and t % truncate == 0:
            h, c = h.detach(), c if c is None else c.detach()
        running = (t < lengths)[:, None]
        if kind == "rnn":
            after = (rnn_step(x[:, t], h, *weights),)
        elif kind == "lstm":
            after = lstm_step(x[:, t], h, c, *weights)
        else:
            wx, wh, b = weights
            after = attention_lstm_step(x[:, t], h, c, given["grid"], wx, wh, given["wattn"], b)[:2]
        states.append(torch.where(running, torch.cat(after, 1), 0.0))
        h = torch.where(running, after[0], h)
        c = torch.where(running, after[1], c) if c is not None else None
    return torch.stack(states, 1)


def gradients(states, given, seed=1):
    upstream = torch.randn(states.shape, generator=torch.Generator().manual_seed(seed), dtype=states.dtype)
    return torch.autograd.grad((states * upstream).sum(), list(given.values()))


def assert_same(kind, given, ours, expected):
    assert_close(ours, expected, **EXACT)
    for name, a, b in zip(given, gradients(ours, given), gradients(expected, given), strict=True):
        assert_close(a, b, **EXACT, msg=lambda text, name=name: f"{kind}, gradient of {name}: {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_hand_written_backward_equals_autograd(kind):
    given = arguments(kind)
    assert_same(kind, given, whole(kind, given), by_steps(kind, given))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_packed_equals_padded(kind, data):
    n, t = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    lengths = data.draw(st.lists(st.integers(0, t), min_size=n, max_size=n))
    truncate = data.draw(st.one_of(st.none(), st.integers(1, 7)))
    given_ = arguments(kind, n=n, t=t, d=data.draw(st.integers(1, 4)), width=data.draw(st.integers(1, 5)))
    ours = whole(kind, given_, lengths=lengths, truncate=truncate)
    assert_same(kind, given_, ours, by_steps(kind, given_, lengths, truncate))
    for row, length in enumerate(lengths):
        assert not ours[row, length:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    given = arguments(kind, n=2, t=3, d=2, width=2)
    names = list(given)

    def function(*values):
        return whole(kind, dict(zip(names, values, strict=True)), lengths=[3, 2])

    assert torch.autograd.gradcheck(function, tuple(given.values()), atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_graph_gives_the_same_gradients_again(kind):
    given = arguments(kind, t=4)
    total, wanted = whole(kind, given).sum(), list(given.values())
    first = torch.autograd.grad(total, wanted, retain_graph=True)
    assert_close(torch.autograd.grad(total, wanted, retain_graph=True), first, rtol=0, atol=0)
    assert_close(torch.autograd.grad(total, wanted), first, rtol=0, atol=0)  # the last one may use up what was saved


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_bounds_what_is_carried_and_nothing_else(kind):
    given = arguments(kind, t=4)
    assert_close(gradients(whole(kind, given, clip=1e9), given), gradients(whole(kind, given), given), **EXACT)
    clipped = dict(zip(given, gradients(whole(kind, given, clip=1e-3), given), strict=True))
    assert clipped["h0"].abs().max() <= 1e-3
    # nothing comes from behind the last step, so its input's gradient is that of a last step alone
    free = dict(zip(given, gradients(whole(kind, given), given), strict=True))
    assert_close(clipped["x"][:, -1], free["x"][:, -1], **EXACT)
    assert not torch.allclose(clipped["x"][:, 0], free["x"][:, 0])


def test_step_backward_is_the_chain_rule():
    given = arguments("rnn")
    x = given["x"][:, 0].detach().requires_grad_()
    weights = given["wx"], given["wh"], given["b"]
    h = rnn_step(x, given["h0"], *weights)
    dh = torch.randn(h.shape, dtype=h.dtype)
    expected = torch.autograd.grad(h, (x, given["h0"], *weights), dh)
    for ours, theirs in zip(rnn_step_backward(dh, x, given["h0"], h, *weights[:2]), expected, strict=True):
        assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("ours", [RNN, LSTM])
@pytest.mark.parametrize("init", ["course", "uniform", "orthogonal"])
def test_modules_equal_pytorchs_there_and_back(ours, init):
    torch.manual_seed(0)
    layer = ours(5, 7, init=init).double()
    theirs = to_torch(layer)
    x, h0 = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    state = h0[None] if ours is RNN else (h0[None], torch.zeros_like(h0)[None])
    found = layer(x, h0) if ours is RNN else layer(x, h0)[0]
    assert_close(found, theirs(x, state)[0], **EXACT)
    back = from_torch(theirs)
    for name, value in layer.state_dict().items():
        assert_close(back.state_dict()[name], value, **EXACT)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_import_adds_pytorchs_two_biases(kind):
    torch.manual_seed(0)
    theirs = kind(3, 4, batch_first=True).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    found = from_torch(theirs)(x, torch.zeros(2, 4, dtype=torch.float64))
    assert_close(found if kind is nn.RNN else found[0], theirs(x)[0], **EXACT)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(2, 3, num_layers=2),
        nn.LSTM(2, 3, bidirectional=True),
        nn.LSTM(2, 3, proj_size=2),
        nn.RNN(2, 3, nonlinearity="relu"),
    ],
)
def test_import_refuses_what_we_have_not(layer):
    with pytest.raises(SaccadeError, match="from_torch: one layer, one direction, tanh and no projection"):
        from_torch(layer)


@pytest.mark.parametrize("cell", [RNN, LSTM, AttentionLSTM])
def test_modules_step_as_they_run(cell):
    torch.manual_seed(0)
    layer = cell(4, 6).double()
    x, h, c = (torch.randn(3, 4, dtype=torch.float64) for _ in range(1)), None, None
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    h, c = torch.randn(3, 6, dtype=torch.float64), torch.zeros(3, 6, dtype=torch.float64)
    grid = torch.randn(3, 6, 2, 2, dtype=torch.float64)
    looked = []
    if cell is RNN:
        states = layer(x, h)
    elif cell is LSTM:
        states = layer(x, h)[0]
    else:
        h = c = grid.mean((2, 3))
        states, _, weights = layer(x, grid)
        assert_close(weights.sum((2, 3)), torch.ones(3, 5, dtype=torch.float64), **EXACT)
        looked = list(weights.unbind(1))
    for t in range(5):
        if cell is RNN:
            h = layer.step(x[:, t], h)
        elif cell is LSTM:
            h, c = layer.step(x[:, t], h, c)
        else:
            h, c, weights = layer.step(x[:, t], h, c, grid)
            assert_close(weights, looked[t], **EXACT)
        assert_close(states[:, t], h, **EXACT)


def test_course_initialisation():
    torch.manual_seed(0)
    layer = AttentionLSTM(400, 300)
    assert layer.wx.shape == (400, 1200)
    assert layer.wx.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert layer.wh.std().item() == pytest.approx(300**-0.5, rel=0.02)
    assert layer.wattn.std().item() == pytest.approx(300**-0.5, rel=0.02)
    assert not layer.b.any()
    orthogonal = LSTM(8, 5, init="orthogonal")
    for block in orthogonal.wh.detach().chunk(4, dim=1):
        assert_close(block @ block.T, torch.eye(5))
    assert orthogonal.b.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
    with pytest.raises(SaccadeError, match="init must be course, uniform or orthogonal, got 'zeros'"):
        inspect.unwrap(LSTM.__init__)(LSTM.__new__(LSTM), 8, 5, init="zeros")


def test_dot_product_attention_by_hand():
    # two places; scores (1, 0) and (1, 2) over sqrt(2)
    grid = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]])  # features (1, 0) and (1, 1)
    read, weights = dot_product_attention(torch.tensor([[1.0, 2.0]]), grid)
    expected = torch.softmax(torch.tensor([1.0, 3.0]) / 2**0.5, 0)
    assert_close(weights[0, 0], expected)
    assert_close(read[0], torch.stack([expected.sum(), expected[1]]))


def test_no_gradient_is_kept_where_none_is_wanted():
    given = {name: value.detach() for name, value in arguments("attention").items()}
    h, c, weights = attention_lstm(**given)
    assert not any(result.requires_grad for result in (h, c, weights))


def test_a_sequence_without_steps_and_a_batch_without_sequences():
    for kind in KINDS:
        for n, t in ((3, 0), (0, 4)):
            given = arguments(kind, n=n, t=t)
            states = whole(kind, given)
            assert states.shape[:2] == (n, t)
            assert all(not g.any() for g in gradients(states, given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 4, dtype=torch.float64)}, r"lstm: x must be \(N, T, D\), got \(3, 4\)"),
        ({"h0": torch.zeros(2, 6, dtype=torch.float64)}, r"lstm: the hidden state must be \(3, H\), got \(2, 6\)"),
        ({"wx": torch.zeros(4, 18, dtype=torch.float64)}, r"lstm: wx must be \(4, 24\), got \(4, 18\)"),
        ({"wh": torch.zeros(6, 6, dtype=torch.float64)}, r"lstm: wh must be \(6, 24\), got \(6, 6\)"),
        ({"b": torch.zeros(6, dtype=torch.float64)}, r"lstm: b must be \(24,\), got \(6,\)"),
        ({"b": torch.zeros(24)}, "lstm: all tensors must share dtype and device, got .*'b': 'float32 on cpu'"),
        ({"lengths": [1, 2]}, r"lengths must be 3 whole numbers from 0 to 5, one a sequence; got \(2,\)"),
        ({"lengths": [1, 2, 6]}, "from 0 to 5, one a sequence; got .* from 1 to 6"),
        ({"truncate": 0}, "lstm: truncate must be 1 step or more, got 0"),
        ({"clip": 0.0}, "lstm: clip must be above zero, got 0.0"),
    ],
)
def test_bad_arguments_get_one_sentence(change, message):
    with pytest.raises(SaccadeError, match=message):
        inspect.unwrap(lstm)(**(arguments("lstm") | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": torch.zeros(3, 5, 2, 2, dtype=torch.float64)}, r"the grid must be \(3, 6, height, width\)"),
        ({"wattn": torch.zeros(6, 6, dtype=torch.float64)}, r"wattn must be \(6, 24\), got \(6, 6\)"),
    ],
)
def test_bad_grids_get_one_sentence(change, message):
    with pytest.raises(SaccadeError, match=message):
        inspect.unwrap(attention_lstm)(**(arguments("attention") | change))
