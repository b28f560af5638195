"""The metrics against figures worked out by hand, against a second implementation where one is installed, and by what
they promise."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.caption.metrics import CiderD, bleu, ngrams, rouge_l
from saccade.errors import SaccadeError

WORDS = ["a", "dog", "cat", "runs", "sits", "on", "the", "grass", "red", "ball"]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)
corpora = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=1, max_size=5)


def split(*texts):
    return [text.split() for text in texts]


def test_bleu_by_hand():
    # Papineni et al., example 1: the words "the" are clipped to the two of the reference
    scores = bleu(split("the the the the the the the"), [split("the cat is on the mat", "there is a cat on the mat")])
    assert scores[0] == pytest.approx(2 / 7, rel=1e-6)
    # 5 words for 6: precisions 5/5, 3/4, 1/3, 0; brevity exp(1 - 6/5)
    scores = bleu(split("the cat on the mat"), [split("the cat is on the mat")])
    brevity = math.exp(1 - 6 / 5)
    assert scores[0] == pytest.approx(brevity, rel=1e-6)
    assert scores[1] == pytest.approx(brevity * (3 / 4) ** (1 / 2), rel=1e-6)
    assert scores[2] == pytest.approx(brevity * (3 / 4 * 1 / 3) ** (1 / 3), rel=1e-6)
    assert scores[3] < 1e-3


def test_rouge_by_hand():
    # "the cat on mat" shares 4 words in order with 6: precision 1, recall 4/6
    found = rouge_l(split("the cat on mat"), [split("the cat is on the mat")])
    assert found == pytest.approx((1 + 1.44) * (2 / 3) / (2 / 3 + 1.44))
    assert rouge_l(split("blue"), [split("red ball")]) == 0


def test_cider_by_hand():
    # two pictures; words of one picture weigh log 2, those of both 0; one word: only 1-grams count, a quarter of 10
    references = [split("dog"), split("cat")]
    assert CiderD(references).scores(split("dog", "dog")) == pytest.approx([2.5, 0.0])
    # "dog dog": its count of two is clipped to one: 1 * 1 / (2 * 1); one 2-gram more: exp(-1 / 72)
    assert CiderD(references).scores(split("dog dog", "cat"))[0] == pytest.approx(1.25 * math.exp(-1 / 72))


def test_a_lone_picture_scores_zero():
    assert CiderD([split("a dog")]).score(split("a dog")) == 0


@given(corpora)
@settings(max_examples=60, deadline=None)
def test_quoting_is_best_and_order_is_nothing(corpus):
    quoted = [references[0] for _, references in corpus]
    all_references = [references for _, references in corpus]
    assert bleu(quoted, all_references)[0] == pytest.approx(1, abs=1e-6)
    assert rouge_l(quoted, all_references) == pytest.approx(1)
    candidates = [candidate for candidate, _ in corpus]
    order = list(range(len(corpus)))
    random.Random(0).shuffle(order)
    mixed, mixed_references = [candidates[i] for i in order], [all_references[i] for i in order]
    assert bleu(mixed, mixed_references) == pytest.approx(bleu(candidates, all_references))
    assert rouge_l(mixed, mixed_references) == pytest.approx(rouge_l(candidates, all_references))
    scores = CiderD(all_references).scores(candidates)
    assert CiderD(mixed_references).scores(mixed) == pytest.approx([scores[i] for i in order])
    rows = [0] * len(candidates)
    assert CiderD(all_references).scores([candidates[0]] * len(rows), rows) == pytest.approx([scores[0]] * len(rows))


@given(corpora)
@settings(max_examples=60, deadline=None)
def test_equal_to_the_usual_evaluation_code(corpus):
    theirs = pytest.importorskip("pycocoevalcap", reason="the usual evaluation code is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    assert theirs
    candidates, references = [c for c, _ in corpus], [r for _, r in corpus]
    hypotheses = {i: [" ".join(c)] for i, c in enumerate(candidates)}
    truth = {i: [" ".join(one) for one in r] for i, r in enumerate(references)}
    assert bleu(candidates, references) == pytest.approx(
        Bleu(4).compute_score(truth, hypotheses, verbose=0)[0], abs=1e-9
    )
    assert rouge_l(candidates, references) == pytest.approx(Rouge().compute_score(truth, hypotheses)[0], abs=1e-9)
    expected = Cider().compute_score(truth, hypotheses)[1]
    assert CiderD(references).scores(candidates) == pytest.approx(list(expected), abs=1e-9)


def test_ngrams():
    assert ngrams(["a", "b", "a"]) == {
        ("a",): 2, ("b",): 1, ("a", "b"): 1, ("b", "a"): 1, ("a", "b", "a"): 1,
    }  # fmt: skip


def test_an_empty_candidate_scores_nothing_and_breaks_nothing():
    references = [split("a dog runs"), split("a cat sits")]
    assert max(bleu([[], []], references)) == 0
    assert rouge_l([[], []], references) == 0
    assert CiderD(references).score([[], []]) == 0


def test_what_cannot_be_scored_gets_one_sentence():
    with pytest.raises(SaccadeError, match="2 candidates and 1 lists of references"):
        bleu(split("a", "b"), [split("a")])
    with pytest.raises(SaccadeError, match="at least one reference"):
        CiderD([[]])
    with pytest.raises(SaccadeError, match="1 candidates were given for 2 pictures"):
        CiderD([split("a"), split("b")]).scores(split("a"), [0, 1])
