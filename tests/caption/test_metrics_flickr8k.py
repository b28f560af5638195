"""The metrics on Flickr8k: what the usual evaluation code gave there, and that code itself where it is installed."""

import string

import pytest

from saccade.caption import CiderD, bleu, load_captions, rouge_l
from saccade.caption.pairs import KNOWN
from saccade.engine.fetch import find

# BLEU-4, CIDEr and ROUGE-L by pycocoevalcap's Python code, 1,000 pictures
PEOPLE = {0: (20.9, 78.9, 48.8), 4: (18.7, 78.8, 46.1)}  # this caption of each picture against the other four
CONSTANT = {
    "a man in a red shirt is standing in front of a crowd": (8.8, 9.7, 33.6),
    "a brown dog is running through the grass": (4.3, 10.3, 26.7),
    "a dog runs through the grass": (2.4, 6.7, 25.0),
}


def split(sentence: str) -> list[str]:
    """The words of Flickr8k's own tokens, without those that are punctuation; a hyphen stays in its word."""
    words = (word.strip(string.punctuation) for word in sentence.lower().split())
    return [word for word in words if word]


@pytest.fixture(scope="module")
def captions() -> list[list[list[str]]]:
    if find(KNOWN["flickr8k"]) is None:
        pytest.skip("Flickr8k is not among SACCADE_ARCHIVES")
    test = load_captions("flickr8k", split="test", size=16)
    return [[split(sentence) for sentence in sentences] for sentences in test.captions]


def scores(candidates: list[list[str]], references: list[list[list[str]]]) -> tuple[float, float, float]:
    found = bleu(candidates, references)[3], CiderD(references).score(candidates), rouge_l(candidates, references)
    return found[0] * 100, found[1] * 100, found[2] * 100


@pytest.mark.parametrize("which", PEOPLE)
def test_people_against_each_other(captions: list[list[list[str]]], which: int) -> None:
    others = [[sentence for k, sentence in enumerate(five) if k != which] for five in captions]
    assert scores([five[which] for five in captions], others) == pytest.approx(PEOPLE[which], abs=0.06)


@pytest.mark.parametrize("sentence", CONSTANT)
def test_one_sentence_for_all(captions: list[list[list[str]]], sentence: str) -> None:
    assert scores([sentence.split()] * len(captions), captions) == pytest.approx(CONSTANT[sentence], abs=0.06)


def test_a_thousand_captions_as_the_usual_evaluation_code_scores_them(captions: list[list[list[str]]]) -> None:
    pytest.importorskip("pycocoevalcap", reason="the usual evaluation code is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = [five[0] for five in captions], [five[1:] for five in captions]
    said = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    truth = {i: [" ".join(words) for words in five] for i, five in enumerate(references)}
    assert bleu(candidates, references) == pytest.approx(Bleu(4).compute_score(truth, said, verbose=0)[0], abs=1e-9)
    assert rouge_l(candidates, references) == pytest.approx(Rouge().compute_score(truth, said)[0], abs=1e-9)
    assert CiderD(references).scores(candidates) == pytest.approx(list(Cider().compute_score(truth, said)[1]), abs=1e-9)
