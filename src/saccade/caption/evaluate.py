"""How good captions are: the usual metrics, always beside what a constant sentence and other pictures' captions get."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from saccade.caption.captioner import Captioner
from saccade.caption.decode import Rules, beam_search
from saccade.caption.encoder import features_of
from saccade.caption.metrics import CiderD, bleu, rouge_l
from saccade.caption.pairs import CaptionSet
from saccade.caption.text import tokenise
from saccade.data.scenes import holds
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError

Progress = Callable[[int, int], None]
Words = Sequence[str]


@dataclass(frozen=True)
class CaptionScores:
    """BLEU-1 to 4, ROUGE-L in [0, 1]; CIDEr-D (a person's is about 0.8 on Flickr8k)."""

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float

    @classmethod
    def of(cls, candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> "CaptionScores":
        """The scores of tokenised sentences."""
        return cls(bleu(candidates, references), rouge_l(candidates, references), CiderD(references).score(candidates))


@dataclass(frozen=True)
class CaptionReport:
    """What a captioner said of a data set, and its worth.

    rows: the scores of "captions"; of "constant", always the same sentence; of "shuffled", each caption given to
    another picture: an eye that sees nothing gets no less. captions: as said. true: of generated scenes, the share that
    holds.
    """

    rows: dict[str, CaptionScores]
    captions: tuple[str, ...]
    constant: str
    true: float | None = None


def say_all(
    captioner: Captioner,
    features: Tensor,
    *,
    beam: int = 5,
    length_penalty: float = 0.7,
    block: int = 3,
    unknown: bool = False,
    batch_size: int = 100,
    progress: Progress | None = None,
) -> list[str]:
    """A sentence for each picture, from features as its encoder gives them, (N, C, h, w) or pooled (N, C)."""
    said: list[str] = []
    rules = Rules(unknown=unknown, block=block)
    with evaluating(captioner):
        for first in range(0, len(features), batch_size):
            memory = captioner.remember(features[first : first + batch_size].to(captioner.mean))
            decoded = beam_search(
                captioner.decoder,
                memory,
                beam=beam,
                longest=captioner.longest,
                length_penalty=length_penalty,
                rules=rules,
            )[0]
            said += [captioner.vocabulary.decode(words) for words in decoded.words.tolist()]
            if progress is not None:
                progress(len(said), len(features))
    return said


def evaluate_captions(
    captioner: Captioner,
    data: CaptionSet,
    *,
    beam: int = 5,
    length_penalty: float = 0.7,
    block: int = 3,
    features: Tensor | None = None,
    progress: Progress | None = None,
) -> CaptionReport:
    """Caption every picture of `data` and score the sentences against its captions.

    features: of `data`'s pictures, if they are at hand. Raises `SaccadeError` for fewer than two pictures.
    """
    if len(data) < 2:
        raise SaccadeError(f"Evaluating captions on {data.name}: {len(data)} pictures, at least 2 are needed.")
    if features is None:
        pooled = captioner.decoder.wants == "pooled"
        keep = not data.scenes
        features = features_of(captioner.encoder, data, pooled=pooled, keep=keep, progress=progress)[data.rows]
    said = say_all(captioner, features, beam=beam, length_penalty=length_penalty, block=block, progress=progress)
    references = [[tokenise(caption) for caption in captions] for captions in data.captions]
    candidates = [tokenise(sentence) for sentence in said]
    constant = str(captioner.meta.get("constant") or best_constant(data, data))
    shuffled = candidates[len(candidates) // 2 :] + candidates[: len(candidates) // 2]
    rows = {
        "captions": CaptionScores.of(candidates, references),
        "constant": CaptionScores.of([tokenise(constant)] * len(references), references),
        "shuffled": CaptionScores.of(shuffled, references),
    }
    true = [holds(sentence, scene) for sentence, scene in zip(said, data.scenes, strict=False)]
    return CaptionReport(rows, tuple(said), constant, sum(true) / len(true) if true else None)


def best_constant(train: CaptionSet, val: CaptionSet, *, most: int = 50) -> str:
    """Of the `most` commonest captions of `train` the one with the best CIDEr-D when it is said of all of `val`."""
    counts = Counter(" ".join(tokenise(caption)) for captions in train.captions for caption in captions)
    common = sorted(counts, key=lambda sentence: (-counts[sentence], sentence))[:most]
    judge = CiderD([[tokenise(caption) for caption in captions] for captions in val.captions])
    rows = range(0, len(val), max(len(val) // 200, 1))
    return max(common, key=lambda sentence: sum(judge.scores([sentence.split()] * len(rows), list(rows))))
