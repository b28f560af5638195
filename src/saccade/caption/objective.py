"""What a captioner is trained for: the likelihood of people's sentences, or, in the end, the CIDEr of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.caption.decode import Memory, Rules, sample
from saccade.caption.decoders.base import Decoder
from saccade.caption.decoders.show_attend_tell import doubly_stochastic
from saccade.caption.metrics import CiderD
from saccade.caption.text import NULL, START, Vocabulary

_ROWS = 256  # words are scored so many at a time


@dataclass(frozen=True)
class Sentences:
    """Sentences of a batch, padded: words (M, T + 1) from START to END, NULL behind. owner: (M,), which picture."""

    words: Int[Tensor, "m t"]
    owner: Int[Tensor, " m"]

    @classmethod
    def of(cls, encoded: Sequence[Sequence[int]], owner: Sequence[int], *, device: torch.device | str) -> "Sentences":
        """From lists of word numbers."""
        words = torch.full((len(encoded), max(map(len, encoded))), NULL)
        for row, numbers in enumerate(encoded):
            words[row, : len(numbers)] = torch.tensor(numbers)
        return cls(words.to(device), torch.tensor(owner, device=device))

    @property
    def lengths(self) -> Int[Tensor, " m"]:
        """Words that are to be said, END included."""
        return (self.words != NULL).sum(1) - 1


def likelihood_loss(
    decoder: Decoder,
    memory: Memory,
    sentences: Sentences,
    *,
    per: Literal["token", "sequence"] = "token",
    label_smoothing: float = 0.0,
    own_words: float = 0.0,
    attention_term: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross entropy of the sentences, teacher-forced: mean over words, or summed over words by number of sentences.

    own_words: share of the input words replaced by draws from the decoder's own scores given the true ones (parallel
    scheduled sampling, Duckworth et al. 2019, arXiv:1906.04331). attention_term: weight of `doubly_stochastic`.
    Only places that hold a word are scored.
    """
    memory = tuple(part.index_select(0, sentences.owner) for part in memory)
    given, wanted = sentences.words[:, :-1], sentences.words[:, 1:]
    lengths = sentences.lengths.cpu()
    valid = torch.arange(given.shape[1]) < lengths[:, None]
    valid = valid.to(given.device)
    if own_words:
        given = _with_own_words(decoder, memory, given, lengths, own_words)
    states, attention = decoder.states(given, lengths, memory)
    rows = valid.flatten().nonzero()[:, 0]
    count = len(rows)
    rows = F.pad(rows, (0, -count % _ROWS))  # the library behind the products prepares itself anew for each shape
    targets = wanted.flatten()[rows]
    targets[count:] = NULL
    scores = decoder.read_out(states.flatten(0, 1)[rows])
    total = F.cross_entropy(scores, targets, ignore_index=NULL, reduction="sum", label_smoothing=label_smoothing)
    loss = total / (count if per == "token" else len(given))
    if attention_term and attention is not None:
        loss = loss + attention_term * doubly_stochastic(attention)
    return loss


@torch.no_grad()
def _with_own_words(decoder: Decoder, memory: Memory, given: Tensor, lengths: Tensor, share: float) -> Tensor:
    states, _ = decoder.states(given, lengths, memory)
    scores = decoder.read_out(states)
    scores[..., [NULL, START]] = -torch.inf
    guesses = torch.multinomial(torch.softmax(scores.float(), 2).flatten(0, 1), 1).view(given.shape)
    guesses = torch.cat([given[:, :1], guesses[:, :-1]], 1)  # the guess after word t is word t + 1
    chosen = (torch.rand(given.shape, device=given.device) < share) & (given != NULL)
    chosen[:, 0] = False
    return torch.where(chosen, guesses, given)


def self_critical_loss(
    decoder: Decoder,
    memory: Memory,
    reward: CiderD,
    rows: Sequence[int],
    vocabulary: Vocabulary,
    *,
    samples: int,
    longest: int,
) -> tuple[Float[Tensor, ""], float, float]:
    """The loss whose gradient raises the CIDEr-D of the decoder's own sentences; their mean reward; the greedy one's.

    `samples` sentences are drawn for each picture; the baseline of each is the mean reward of the others (Luo 2020,
    arXiv:2003.09971, after Rennie et al. 2017, arXiv:1612.00563). rows: which picture of `reward` each picture is. The
    value of the loss means nothing; watch the rewards.
    """
    fixed = tuple(part.detach() for part in memory)
    decoder.eval()  # words are drawn, and judged, without dropout
    free = Rules(unknown=True)
    draws = sample(decoder, fixed, longest=longest, many=samples, rules=free)
    greedy = sample(decoder, fixed, longest=longest, temperature=0, rules=free)[0]
    decoder.train()
    words = torch.cat([draw.words for draw in draws])  # (samples N, T), the first draw of every picture first
    said = [vocabulary.decode(one).split() for one in words.tolist()]
    rewards = torch.tensor(reward.scores(said, [*rows] * samples), device=words.device).view(samples, -1)
    baseline = (rewards.sum(0) - rewards) / (samples - 1)
    advantage = (rewards - baseline).flatten()
    owner = torch.arange(len(rows), device=words.device).repeat(samples)
    sentences = torch.cat([torch.full_like(words[:, :1], START), words], 1)
    many = tuple(part.index_select(0, owner) for part in memory)
    lengths = (words != NULL).sum(1).cpu()
    states, _ = decoder.states(sentences[:, :-1], lengths, many)
    valid = words != NULL
    logs = torch.log_softmax(decoder.read_out(states[valid]), 1).gather(1, words[valid][:, None])[:, 0]
    weight = advantage[:, None].expand(words.shape)[valid].to(logs)
    quiet = [vocabulary.decode(one).split() for one in greedy.words.tolist()]
    own = sum(reward.scores(quiet, rows)) / len(rows)
    return -(weight * logs).sum() / len(words), float(rewards.mean()), own
