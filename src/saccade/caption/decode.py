"""From a decoder's next-word scores to sentences: greedily, by sampling, by beam search; always over a batch.

A decoder is asked one thing: `step(words, state, memory)`. Words (N, K) are K hypotheses for each of N pictures; every
tensor of `state` is (N, K, ...), one row a hypothesis; every tensor of `memory` is (N, ...), one row a picture, which
its hypotheses share.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.caption.text import END, NULL, START, UNK
from saccade.errors import SaccadeError

State = tuple[Tensor, ...]
Memory = tuple[Tensor, ...]


@runtime_checkable
class Stepper(Protocol):
    """What decoding needs of a decoder."""

    def start(self, memory: Memory) -> State:
        """The state before the first word, (N, 1, ...)."""
        ...

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor | None]:
        """Scores of the next word (N, K, V), the state after reading `words`, attention (N, K, P) or None."""
        ...


@dataclass(frozen=True)
class Decoded:
    """Sentences, for each of N pictures.

    words: int64 (N, T), the END included where one came, NULL behind it. log_probability: (N,), natural, of the whole
    sentence. attention: (N, T, P), the weights with which the picture was read to choose each word; None without.
    """

    words: Int[Tensor, "n t"]
    log_probability: Float[Tensor, " n"]
    attention: Float[Tensor, "n t p"] | None = None

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """Words of each sentence, its END included."""
        return (self.words != NULL).sum(1)


@dataclass(frozen=True)
class Rules:
    """What a sentence may contain. unknown: whether UNK may be said. block: no run of so many words comes twice, 0 to
    allow it."""

    unknown: bool = False
    block: int = 0

    def apply(self, scores: Float[Tensor, "n k v"], history: Int[Tensor, "n k t"]) -> Float[Tensor, "n k v"]:
        """Log-probabilities of the next word with what is forbidden at -inf (not shared out among the rest)."""
        logs = torch.log_softmax(scores.float() if scores.dtype != torch.float64 else scores, dim=2)
        logs[..., [NULL, START] if self.unknown else [NULL, START, UNK]] = -torch.inf
        n = self.block
        if n == 1:
            logs.scatter_(2, history, -torch.inf)
        elif n > 1 and history.shape[2] >= n:
            runs = history.unfold(2, n, 1)  # (N, K, t - n + 1, n)
            last = history[:, :, None, -(n - 1) :]
            again = (runs[..., :-1] == last).all(3)
            blocked = torch.zeros_like(logs, dtype=torch.bool)
            blocked.scatter_(2, torch.where(again, runs[..., -1], NULL), value=True)
            blocked[..., NULL] = True
            logs = logs.masked_fill(blocked, -torch.inf)
        return logs


@torch.no_grad()
def sample(
    decoder: Stepper,
    memory: Memory,
    *,
    longest: int = 20,
    many: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rules: Rules = Rules(),
    generator: torch.Generator | None = None,
) -> list[Decoded]:
    """`many` sentences for each picture, each drawn word by word; `temperature` 0 takes the likeliest word (greedy).

    longest: steps, the END included; a sentence that did not end by then is cut. top_k: draw among so many likeliest
    words, 0 for all. top_p: among the fewest that hold this probability (Holtzman et al. 2020, arXiv:1904.09751).
    The log-probabilities given back are the decoder's own, whatever was drawn from. Returns one `Decoded` a draw.
    """
    _check(longest=longest, many=many)
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise SaccadeError(
            f"Sampling captions: temperature and top_k must be 0 or more and top_p in (0, 1], got {temperature}, "
            f"{top_k}, {top_p}."
        )
    state = tuple(part.expand(-1, many, *part.shape[2:]) for part in decoder.start(memory))
    count = len(memory[0])
    words = torch.full((count, many), START, device=memory[0].device)
    history = words.new_empty(count, many, 0)
    total = torch.zeros(count, many, device=words.device)
    open_ = torch.ones_like(words, dtype=torch.bool)
    looks: list[Tensor] = []
    for _ in range(longest):
        scores, state, attention = decoder.step(words, state, memory)
        logs = rules.apply(scores, history)
        words = _draw(logs, temperature, top_k, top_p, generator)
        words = torch.where(open_, words, NULL)
        total = total + torch.where(open_, logs.gather(2, words[..., None])[..., 0], 0.0).to(total)
        history = torch.cat([history, words[..., None]], 2)
        if attention is not None:
            looks.append(attention * open_[..., None])
        open_ = open_ & (words != END)
        if not open_.any():
            break
    weights = torch.stack(looks, 2) if looks else None
    return [Decoded(history[:, k], total[:, k], None if weights is None else weights[:, k]) for k in range(many)]


def _draw(logs: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logs.argmax(2)
    logs = logs / temperature
    if top_k:
        least = logs.topk(min(top_k, logs.shape[2]), dim=2).values[..., -1:]
        logs = logs.masked_fill(logs < least, -torch.inf)
    shares = torch.softmax(logs, 2)
    if top_p < 1:
        ordered, order = shares.sort(dim=2, descending=True)
        beyond = ordered.cumsum(2) - ordered >= top_p  # what comes before already holds enough
        shares = shares.masked_fill(torch.zeros_like(beyond).scatter_(2, order, beyond), 0.0)
    return torch.multinomial(shares.flatten(0, 1), 1, generator=generator).view(shares.shape[:2])


@torch.no_grad()
def beam_search(
    decoder: Stepper,
    memory: Memory,
    *,
    beam: int = 5,
    longest: int = 20,
    length_penalty: float = 0.0,
    rules: Rules = Rules(),
    many: int = 1,
) -> list[Decoded]:
    """The `many` best sentences of each picture that are found with `beam` hypotheses open at a time, best first.

    A sentence is finished when its END is among the `beam` best continuations of a step; the search of a picture ends
    when `beam` sentences are finished and no open hypothesis can still beat the worst of them. Sentences are ranked by
    log-probability / ((5 + length) / 6) ^ length_penalty (Wu et al. 2016, arXiv:1609.08144; length with END). Where
    too few are finished within `longest` steps, the best open hypotheses follow as they stand. Beam 1 is greedy.
    """
    _check(longest=longest, beam=beam, many=many)
    if many > beam:
        raise SaccadeError(f"Decoding captions: {many} sentences were asked for of a beam of {beam}; widen the beam.")
    search = _Search(decoder, memory, beam, longest, length_penalty, rules)
    for step in range(longest):
        if not search.advance(step):
            break
    return [search.result(place) for place in range(many)]


@dataclass(frozen=True)
class _Sentence:
    rank: float
    log_probability: float
    words: Tensor
    attention: Tensor | None


class _Search:
    """A beam search under way. Pictures whose search has ended are taken out of the batch."""

    def __init__(self, decoder: Stepper, memory: Memory, beam: int, longest: int, penalty: float, rules: Rules) -> None:
        self.decoder, self.memory, self.rules = decoder, memory, rules
        self.beam, self.longest, self.penalty = beam, longest, penalty
        count, device = len(memory[0]), memory[0].device
        self.rows = torch.arange(count, device=device)  # which pictures are still searched
        self.state = decoder.start(memory)
        self.words = torch.full((count, 1), START, device=device)
        self.history = self.words.new_empty(count, 1, 0)
        self.looks: Tensor | None = None  # (n, K, t, P), in step with the history
        self.logs = torch.zeros(count, 1, device=device)
        # ranks of the best finished sentences of the pictures still searched
        self.finished = torch.full((count, beam), -torch.inf, device=device, dtype=torch.float64)
        self.found: list[list[_Sentence]] = [[] for _ in range(count)]

    def scale(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.penalty)

    def advance(self, step: int) -> bool:
        """One word more for every open hypothesis; False once every picture's search has ended."""
        scores, state, attention = self.decoder.step(self.words, self.state, self.memory)
        logs = self.logs.to(scores)[..., None] + self.rules.apply(scores, self.history)
        vocabulary = logs.shape[2]
        flat = logs.flatten(1)
        values, places = flat.topk(min(2 * self.beam, flat.shape[1]), dim=1)
        parents, words = places // vocabulary, places % vocabulary
        looks = None
        if attention is not None:
            looks = attention[:, :, None] if self.looks is None else torch.cat([self.looks, attention[:, :, None]], 2)
        ends = (words == END) & torch.isfinite(values)
        ends[:, self.beam :] = False
        self._finish(values, ends, parents, looks)
        # the best `beam` that do not end stay open; at most `beam` of the candidates end, so they are there
        going = torch.where(words == END, -torch.inf, values)
        self.logs, chosen = going.topk(min(self.beam, going.shape[1]), dim=1)
        parents, self.words = parents.gather(1, chosen), words.gather(1, chosen)
        pick = torch.arange(len(parents), device=parents.device)[:, None]
        self.state = tuple(part[pick, parents] for part in state)
        self.history = torch.cat([self.history[pick, parents], self.words[..., None]], 2)
        self.looks = None if looks is None else looks[pick, parents]
        return self._drop_ended(last=step + 1 == self.longest)

    def _finish(self, logs: Tensor, ends: Tensor, parents: Tensor, looks: Tensor | None) -> None:
        """Enter the sentences that end here."""
        scale = self.scale(self.history.shape[2] + 1)
        ranks = torch.where(ends, logs.double() / scale, -torch.inf)
        self.finished = torch.cat([self.finished, ranks], 1).topk(self.beam, dim=1).values
        row, place = ends.nonzero(as_tuple=True)
        parent = parents[row, place]
        sentences = torch.cat([self.history[row, parent], torch.full_like(row, END)[:, None]], 1)
        attention = [None] * len(row) if looks is None else looks[row, parent]
        for i, owner in enumerate(self.rows[row].tolist()):
            log = float(logs[row[i], place[i]])
            self.found[owner].append(_Sentence(log / scale, log, sentences[i], attention[i]))

    def _drop_ended(self, *, last: bool) -> bool:
        """Take out the pictures whose search is over; those cut short keep their open hypotheses, behind the rest."""
        bound = self.logs[:, 0].double() / self.scale(self.longest)  # the best rank an open hypothesis could reach
        over = (bound <= self.finished[:, -1]) | torch.isinf(self.logs[:, 0])
        if last:
            for i in (~over).nonzero()[:, 0].tolist():
                found = self.found[int(self.rows[i])]
                for k, log in enumerate(self.logs[i, : max(self.beam - len(found), 0)].tolist()):
                    if log > -torch.inf:
                        look = None if self.looks is None else self.looks[i, k]
                        found.append(_Sentence(-torch.inf, log, self.history[i, k], look))
        keep = (~over).nonzero()[:, 0]
        if len(keep) < len(self.rows):
            self.rows, self.finished, self.words = self.rows[keep], self.finished[keep], self.words[keep]
            self.logs, self.history = self.logs[keep], self.history[keep]
            self.looks = None if self.looks is None else self.looks[keep]
            self.state = tuple(part[keep] for part in self.state)
            self.memory = tuple(part[keep] for part in self.memory)
        return len(keep) > 0 and not last

    def result(self, place: int) -> Decoded:
        """Of every picture the sentence in this place, an empty one of probability 0 where there are not so many."""
        none = _Sentence(-torch.inf, -torch.inf, self.words.new_empty(0), None)
        chosen = [([*sorted(some, key=lambda s: -s.rank), *[none] * (place + 1)])[place] for some in self.found]
        steps = max((len(sentence.words) for sentence in chosen), default=0)
        words = self.words.new_full((len(chosen), steps), NULL)
        logs = self.logs.new_tensor([sentence.log_probability for sentence in chosen])
        looks = next((s.attention for some in self.found for s in some if s.attention is not None), None)
        attention = None if looks is None else looks.new_zeros(len(chosen), steps, looks.shape[1])
        for row, sentence in enumerate(chosen):
            words[row, : len(sentence.words)] = sentence.words
            if attention is not None and sentence.attention is not None:
                attention[row, : len(sentence.words)] = sentence.attention
        return Decoded(words, logs, attention)


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise SaccadeError(f"Decoding captions: {name} must be 1 or more, got {value}.")
