"""Decoding against exhaustive search, against a beam search of one picture written plainly, and by its promises."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from saccade.caption.decode import Rules, beam_search, sample
from saccade.caption.decoders import DECODERS
from saccade.caption.text import END, NULL, START, UNK
from saccade.errors import SaccadeError


class Table:
    """A language model that is a table: the scores after each history are drawn from a seed, per picture.

    state: the history itself, as numbers to base V; memory: the seeds of the pictures.
    """

    def __init__(self, vocabulary, *, end=0.0, spread=2.0):
        self.vocabulary, self.end, self.spread = vocabulary, end, spread

    def start(self, memory):
        return (torch.zeros(len(memory[0]), 1, dtype=torch.int64),)

    def step(self, words, state, memory):
        history = state[0] * self.vocabulary + words + 1
        scores = torch.empty(*words.shape, self.vocabulary, dtype=torch.float64)
        for n, k in itertools.product(*map(range, words.shape)):
            scores[n, k] = self.scores(int(memory[0][n]), int(history[n, k]))
        return scores, (history,), torch.softmax(scores[..., :3], 2)

    def scores(self, seed, history):
        g = torch.Generator().manual_seed(seed * 1_000_003 + history)
        scores = torch.randn(self.vocabulary, generator=g, dtype=torch.float64) * self.spread
        scores[END] += self.end
        return scores

    def logs(self, seed, history, rules):
        """Plainly: log-probabilities after the words `history`, with the rules."""
        key = 0
        for word in [START, *history]:
            key = key * self.vocabulary + word + 1
        logs = torch.log_softmax(self.scores(seed, key), 0).tolist()
        for word in range(self.vocabulary):
            n = rules.block
            runs = {tuple(history[i : i + n]) for i in range(len(history) - n + 1)} if n else set()
            again = n and len(history) >= n - 1 and (*history[len(history) - n + 1 :], word) in runs
            if word in (NULL, START) or (word == UNK and not rules.unknown) or again:
                logs[word] = -math.inf
        return logs


def scale(length, penalty):
    return ((5 + length) / 6) ** penalty


def exhaustive(model, seed, longest, penalty, rules):
    """All finished sentences of at most `longest` words, best first; behind them the unfinished ones."""
    finished, cut = [], []

    def grow(history, total):
        logs = model.logs(seed, history, rules)
        for word, log in enumerate(logs):
            if log == -math.inf:
                continue
            if word == END:
                finished.append(((total + log) / scale(len(history) + 1, penalty), [*history, END]))
            elif len(history) + 1 == longest:
                cut.append((total + log, [*history, word]))
            else:
                grow([*history, word], total + log)

    grow([], 0.0)
    return sorted(finished, reverse=True), sorted(cut, reverse=True)


def plain_beam(model, seed, beam, longest, penalty, rules):
    """The same search for one picture, with lists."""
    open_, finished = [(0.0, [])], []
    for step in range(longest):
        grown = [
            (total + log, [*history, word])
            for total, history in open_
            for word, log in enumerate(model.logs(seed, history, rules))
            if log > -math.inf
        ]
        grown.sort(key=lambda pair: -pair[0])
        finished += [(t / scale(step + 1, penalty), h) for t, h in grown[:beam] if h[-1] == END]
        finished = sorted(finished, key=lambda pair: -pair[0])[:beam]
        open_ = [pair for pair in grown if pair[1][-1] != END][:beam]
        if not open_ or (len(finished) == beam and open_[0][0] / scale(longest, penalty) <= finished[-1][0]):
            break
    return finished[0] if finished else open_[0]


def seeds(count, first=0):
    return (torch.arange(first, first + count),)


def sentence(decoded, row):
    return decoded.words[row, : int(decoded.lengths[row])].tolist()


@pytest.mark.parametrize("penalty", [0.0, 0.8])
@pytest.mark.parametrize("end", [-1.0, 1.5])
@pytest.mark.parametrize("rules", [Rules(), Rules(unknown=True, block=1), Rules(block=2)])
def test_a_beam_as_wide_as_everything_is_exhaustive(penalty, end, rules):
    model, longest = Table(6, end=end), 4
    found = beam_search(model, seeds(5), beam=200, longest=longest, length_penalty=penalty, rules=rules, many=3)
    for row in range(5):
        finished, cut = exhaustive(model, row, longest, penalty, rules)
        best = [(rank * scale(len(words), penalty), words) for rank, words in finished] + cut
        for decoded, (log, words) in zip(found, best, strict=False):
            assert sentence(decoded, row) == words
            assert decoded.log_probability[row].item() == pytest.approx(log, rel=1e-6)


@given(
    st.integers(1, 12),
    st.integers(1, 7),
    st.sampled_from([-30.0, -2.0, 0.0, 2.0]),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.integers(0, 3),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_the_batched_beam_is_the_beam_of_each_picture(beam, longest, end, penalty, block, first):
    model, rules = Table(7, end=end), Rules(block=block)
    found = beam_search(model, seeds(4, first), beam=beam, longest=longest, length_penalty=penalty, rules=rules)[0]
    for row in range(4):
        assert sentence(found, row) == plain_beam(model, first + row, beam, longest, penalty, rules)[1]
    alone = beam_search(model, seeds(1, first + 2), beam=beam, longest=longest, length_penalty=penalty, rules=rules)[0]
    assert sentence(alone, 0) == sentence(found, 2)


@pytest.mark.parametrize("end", [-50.0, 0.0, 50.0])
def test_beam_of_one_is_greedy(end):
    model = Table(9, end=end)
    greedy = sample(model, seeds(8), temperature=0, longest=6)[0]
    beam = beam_search(model, seeds(8), beam=1, longest=6)[0]
    for row in range(8):
        assert sentence(beam, row) == sentence(greedy, row)
    assert_close(beam.log_probability.double(), greedy.log_probability.double(), rtol=1e-6, atol=1e-6)


def test_a_wider_beam_finds_no_worse_sentence_when_all_end():
    model = Table(6, end=1.0)
    scores = [beam_search(model, seeds(20), beam=beam, longest=5)[0].log_probability for beam in (1, 40, 400)]
    assert (scores[2] >= scores[0] - 1e-6).all()
    assert (scores[2] >= scores[1] - 1e-6).all()


@pytest.mark.parametrize("name", DECODERS)
def test_sentences_probabilities_and_attention_belong_together(name):
    torch.manual_seed(0)
    options = {"dim": 8, "heads": 2} if name == "transformer" else {"wordvec_dim": 5, "hidden_dim": 7}
    decoder = DECODERS[name](9, 6, **options).double().eval()
    features = torch.randn(6, 6, 2, 2, dtype=torch.float64)
    memory = decoder.remember(features.mean((2, 3)) if decoder.wants == "pooled" else features)
    memory = tuple(part.detach() for part in memory)
    found = [
        *beam_search(decoder, memory, beam=3, longest=7, length_penalty=0.5, many=2),
        *sample(decoder, memory, longest=7, many=2, generator=torch.Generator().manual_seed(0)),
    ]
    for decoded in found:
        for row in range(6):
            words = sentence(decoded, row)
            assert not {NULL, START, UNK} & set(words)
            given_ = torch.tensor([[START, *words[:-1]]])
            alone = tuple(part[row : row + 1] for part in memory)
            states, attention = decoder.states(given_, torch.tensor([len(words)]), alone)
            logs = torch.log_softmax(decoder.read_out(states)[0], 1)
            total = sum(logs[t, word].item() for t, word in enumerate(words))
            assert decoded.log_probability[row].item() == pytest.approx(total, rel=1e-5)
            if attention is None:
                assert decoded.attention is None
            else:
                assert_close(decoded.attention[row, : len(words)], attention[0], rtol=1e-6, atol=1e-6)
                assert not decoded.attention[row, len(words) :].any()


def test_sampling_draws_what_it_is_told_to():
    model = Table(8, spread=1.0)
    many = sample(
        model, seeds(1), many=4000, longest=1, rules=Rules(unknown=True), generator=torch.Generator().manual_seed(0)
    )
    counts = torch.bincount(torch.cat([d.words[0] for d in many]), minlength=8) / 4000
    logs = torch.tensor(model.logs(0, [], Rules(unknown=True)))
    assert_close(counts.double(), torch.softmax(logs, 0).double(), rtol=0, atol=0.03)
    two = {int(d.words[0, 0]) for d in sample(model, seeds(1), many=200, longest=1, top_k=2)}
    assert two == set(logs.topk(2).indices.tolist()) or two <= {END, *logs[4:].topk(2).indices.tolist()}
    ordered = torch.softmax(logs, 0).sort(descending=True)
    least = 1 + int((ordered.values.cumsum(0) < 0.6).sum())
    kept = {
        int(d.words[0, 0]) for d in sample(model, seeds(1), many=400, longest=1, top_p=0.6, rules=Rules(unknown=True))
    }
    assert kept == set(ordered.indices[:least].tolist())
    again = [sample(model, seeds(3), generator=torch.Generator().manual_seed(5))[0].words for _ in range(2)]
    assert torch.equal(*again)


def test_what_cannot_be_asked_gets_one_sentence():
    model = Table(6)
    for call, message in (
        (lambda: beam_search(model, seeds(1), beam=0), "beam must be 1 or more, got 0"),
        (lambda: beam_search(model, seeds(1), beam=2, many=3), "3 sentences were asked for of a beam of 2"),
        (lambda: sample(model, seeds(1), longest=0), "longest must be 1 or more, got 0"),
        (lambda: sample(model, seeds(1), top_p=0.0), r"top_p in \(0, 1\]"),
        (lambda: sample(model, seeds(1), temperature=-1.0), "temperature and top_k must be 0 or more"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
