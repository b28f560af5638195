"""Every decoder: whole sentences and single steps agree, padding costs nothing and changes nothing."""

import pytest
import torch
from torch.testing import assert_close

from saccade.caption.decoders import DECODERS
from saccade.caption.decoders.show_attend_tell import doubly_stochastic
from saccade.caption.text import START
from saccade.errors import SaccadeError

V, C = 11, 6
SMALL = {
    "rnn": {"wordvec_dim": 5, "hidden_dim": 7},
    "lstm": {"wordvec_dim": 5, "hidden_dim": 7},
    "attention": {"wordvec_dim": 5, "hidden_dim": 7},
    "show-attend-tell": {"wordvec_dim": 5, "hidden_dim": 7, "attention_dim": 4},
    "transformer": {"dim": 8, "heads": 2, "layers": 2, "longest": 9},
}

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def make(name, n=3, seed=0):
    torch.manual_seed(seed)
    decoder = DECODERS[name](V, C, **SMALL[name]).double().eval()
    features = torch.randn(n, C, 2, 3, dtype=torch.float64)
    return decoder, features.mean((2, 3)) if decoder.wants == "pooled" else features


def sentences(n=3, t=6):
    words = torch.randint(4, V, (n, t), generator=torch.Generator().manual_seed(1))
    words[:, 0] = START
    return words


@pytest.mark.parametrize("name", DECODERS)
def test_steps_give_the_scores_of_whole_sentences(name):
    decoder, features = make(name)
    words, lengths = sentences(), torch.tensor([6, 2, 4])
    memory = decoder.remember(features)
    states, attention = decoder.states(words, lengths, memory)
    whole = decoder.read_out(states)
    state = decoder.start(memory)
    for t in range(6):
        scores, state, looked = decoder.step(words[:, t : t + 1], state, memory)
        running = t < lengths
        assert_close(scores[running, 0], whole[running, t], **EXACT)
        assert (looked is None) == (attention is None)
        if attention is not None:
            assert_close(looked[running, 0], attention[running, t], **EXACT)
            assert_close(looked.sum(2), torch.ones(3, 1, dtype=torch.float64), **EXACT)
    if attention is not None:
        assert not attention[1, 2:].any()


@pytest.mark.parametrize("name", DECODERS)
def test_hypotheses_side_by_side_are_as_alone(name):
    decoder, features = make(name)
    memory = decoder.remember(features)
    words = sentences(n=6, t=4).view(3, 2, 4)
    words[..., 0] = START
    together = tuple(part.expand(-1, 2, *part.shape[2:]) for part in decoder.start(memory))
    alone = [decoder.start(memory)] * 2
    for t in range(4):
        scores, together, _ = decoder.step(words[:, :, t], together, memory)
        for k in range(2):
            single, alone[k], _ = decoder.step(words[:, k : k + 1, t], alone[k], memory)
            assert_close(scores[:, k], single[:, 0], **EXACT)


@pytest.mark.parametrize("name", DECODERS)
def test_padding_and_neighbours_change_nothing(name):
    decoder, features = make(name)
    words, lengths = sentences(), torch.tensor([6, 2, 4])
    states, _ = decoder.states(words, lengths, decoder.remember(features))
    garbled = words.clone()
    garbled[1, 2:], garbled[2, 4:] = 7, 8
    again, _ = decoder.states(garbled, lengths, decoder.remember(features))
    for row, length in enumerate(lengths.tolist()):
        assert_close(again[row, :length], states[row, :length], **EXACT)
        alone, _ = decoder.states(
            words[row : row + 1, :length], lengths[row : row + 1], decoder.remember(features[row : row + 1])
        )
        assert_close(alone[0], states[row, :length], **EXACT)


@pytest.mark.parametrize("name", DECODERS)
def test_every_weight_and_the_picture_get_a_gradient(name):
    decoder, features = make(name)
    features = features.clone().requires_grad_()
    states, _ = decoder.states(sentences(), torch.tensor([6, 2, 4]), decoder.remember(features))
    decoder.read_out(states).square().sum().backward()
    unused = [key for key, value in decoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert unused == []
    assert features.grad.flatten(1).any(1).all()


@pytest.mark.parametrize(("name", "count"), [("rnn", 1_714_016), ("lstm", 2_895_200), ("attention", 3_943_776)])
def test_the_courses_networks_have_the_courses_size(name, count):
    decoder = DECODERS[name](864, 1280, wordvec_dim=256, hidden_dim=512)
    assert sum(p.numel() for p in decoder.parameters()) == count


def test_show_attend_tell_by_its_formulas():
    """One step written out from the paper, with separate weights cut from the joint ones."""
    decoder, features = make("show-attend-tell", n=1)
    places = features.flatten(2)[0].T  # (P, C)
    width, attention = 7, 4
    mean = places.mean(0)
    h = torch.tanh(decoder.init_h.weight @ mean + decoder.init_h.bias)
    c = torch.tanh(decoder.init_c.weight @ mean + decoder.init_c.bias)
    word = decoder.embed.weight[5]
    w, b = decoder.hidden.weight, decoder.hidden.bias
    query = w[:attention] @ h + b[:attention]
    scores = torch.stack(
        [decoder.v @ torch.tanh(decoder.place.weight @ a + decoder.place.bias + query) for a in places]
    )
    alpha = torch.softmax(scores, 0)
    beta = torch.sigmoid(w[attention] @ h + b[attention])
    z = beta * sum(alpha[p] * places[p] for p in range(len(places)))
    gates = decoder.word.weight @ word + decoder.word.bias + w[attention + 1 :] @ h + b[attention + 1 :]
    gates = gates + decoder.context.weight @ z
    i, f, o, g = gates.split(width)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    deep = torch.tanh(word + decoder.deep.weight @ torch.cat([h, z]) + decoder.deep.bias)
    expected = decoder.output.weight @ deep + decoder.output.bias
    memory = decoder.remember(features)
    found, _, looked = decoder.step(torch.tensor([[5]]), decoder.start(memory), memory)
    assert_close(found[0, 0], expected, **EXACT)
    assert_close(looked[0, 0], alpha, **EXACT)


def test_the_doubly_stochastic_term():
    weights = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    assert doubly_stochastic(weights).item() == pytest.approx(((0.5**2 + 0.5**2) + (1.0 + 0.0)) / 2)


def test_a_transformer_says_when_its_positions_end():
    decoder, features = make("transformer")
    with pytest.raises(SaccadeError, match="has 9 positions, 12 are asked for"):
        decoder.states(sentences(t=12), torch.tensor([12, 12, 12]), decoder.remember(features))


def test_with_positions_the_places_are_told_apart():
    """Features that are the same up to a shift: without positions the decoder cannot tell left from right."""
    for positions in (False, True):
        torch.manual_seed(0)
        decoder = DECODERS["show-attend-tell"](V, C, **SMALL["show-attend-tell"], positions=positions).double().eval()
        left = torch.zeros(1, C, 2, 4, dtype=torch.float64)
        left[..., 0] = 1
        both = torch.cat([left, left.flip(3)])
        states, _ = decoder.states(sentences(n=1).expand(2, -1), torch.tensor([6, 6]), decoder.remember(both))
        scores = decoder.read_out(states)
        assert torch.allclose(scores[0], scores[1], rtol=1e-12) != positions
