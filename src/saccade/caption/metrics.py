"""BLEU, ROUGE-L and CIDEr-D of captions, as the usual evaluation code for captions computes them.

All take tokenised sentences: `candidates`, one for each picture, and `references`, a list for each picture. They are
corpus scores: what a CIDEr of 0.5 means depends on the set of pictures, and of a single picture it is 0.
"""

import math
from collections import Counter
from collections.abc import Sequence

from saccade.errors import SaccadeError

Words = Sequence[str]
NGrams = Counter[tuple[str, ...]]


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of a corpus, in [0, 1]: clipped precision of n-grams, geometric mean, brevity penalty against
    the reference closest in length (Papineni et al. 2002)."""
    _check(candidates, references)
    length = closest = 0
    right, guessed = [0] * 4, [0] * 4
    for candidate, sentences in zip(candidates, references, strict=True):
        length += len(candidate)
        closest += min((abs(len(sentence) - len(candidate)), len(sentence)) for sentence in sentences)[1]
        most: NGrams = Counter()
        for sentence in sentences:
            most |= ngrams(sentence)
        for ngram, count in ngrams(candidate).items():
            right[len(ngram) - 1] += min(count, most[ngram])
        for n in range(4):
            guessed[n] += max(0, len(candidate) - n)
    brevity = min(1.0, math.exp(1 - (closest + 1e-9) / (length + 1e-15)))
    scores, product = [], 1.0
    for n in range(4):
        product *= (right[n] + 1e-15) / (guessed[n] + 1e-9)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return scores[0], scores[1], scores[2], scores[3]


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Mean ROUGE-L in [0, 1]: F-measure, recall counting 1.2 times, of the longest common subsequence, the best
    precision and the best recall over the references (Lin 2004)."""
    _check(candidates, references)
    total = 0.0
    for candidate, sentences in zip(candidates, references, strict=True):
        common = [_longest_common(candidate, sentence) for sentence in sentences]
        precision = max(common) / max(len(candidate), 1)
        recall = max(same / max(len(sentence), 1) for same, sentence in zip(common, sentences, strict=True))
        if precision and recall:
            total += (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    return total / len(candidates)


class CiderD:
    """CIDEr-D against fixed references, whose vectors are computed once (Vedantam et al. 2015, arXiv:1411.5726).

    Cosine of tf-idf vectors of 1- to 4-grams, counts clipped to the reference's, a Gaussian penalty (sigma 6) on the
    difference of lengths (counted in 2-grams, as the usual code does), mean over n and references, times 10.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        if not references or not all(references):
            raise SaccadeError("CIDEr-D: each picture needs at least one reference.")
        counts = [[ngrams(sentence) for sentence in sentences] for sentences in references]
        self.frequency = Counter(
            ngram for sentences in counts for ngram in {ngram for one in sentences for ngram in one}
        )
        self.log_pictures = math.log(len(references))
        self.references = [[self._vector(one) for one in sentences] for sentences in counts]

    def scores(self, candidates: Sequence[Words], rows: Sequence[int] | None = None) -> list[float]:
        """The score of each candidate, from 0 up; about 10 is reached by quoting a lone reference.

        rows: which picture each candidate is of (default: one candidate a picture, in order).
        """
        rows = range(len(candidates)) if rows is None else rows
        if len(rows) != len(candidates):
            raise SaccadeError(f"CIDEr-D: {len(candidates)} candidates were given for {len(rows)} pictures.")
        found = []
        for candidate, row in zip(candidates, rows, strict=True):
            vector = self._vector(ngrams(candidate))
            references = self.references[row]
            found.append(10 * sum(_similarity(vector, reference) for reference in references) / len(references))
        return found

    def score(self, candidates: Sequence[Words]) -> float:
        """The mean over the pictures."""
        scores = self.scores(candidates, range(len(self.references)))
        return sum(scores) / len(scores)

    def _vector(self, counts: NGrams) -> "_Vector":
        weights: list[dict[tuple[str, ...], float]] = [{}, {}, {}, {}]
        for ngram, count in counts.items():
            rarity = self.log_pictures - math.log(max(1, self.frequency[ngram]))
            weights[len(ngram) - 1][ngram] = count * rarity
        norms = [math.sqrt(sum(weight**2 for weight in part.values())) for part in weights]
        return weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2)


_Vector = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    total = 0.0
    for part, norm, other, other_norm in zip(*candidate[:2], *reference[:2], strict=True):
        if norm and other_norm:
            shared = part.keys() & other.keys()
            total += sum(min(part[ngram], other[ngram]) * other[ngram] for ngram in shared) / (norm * other_norm)
    return total / 4 * math.exp(-((candidate[2] - reference[2]) ** 2) / (2 * 6.0**2))


def ngrams(words: Words) -> NGrams:
    """How often each run of 1 to 4 words occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def _longest_common(a: Words, b: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        corner = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = corner + 1 if word == other else max(above, row[j - 1])
            corner = above
    return row[-1]


def _check(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not candidates or len(candidates) != len(references) or not all(references):
        raise SaccadeError(
            f"Scoring captions: {len(candidates)} candidates and {len(references)} lists of references were given; "
            "each picture needs one candidate and at least one reference."
        )
