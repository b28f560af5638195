"""A captioner made to say a sentence: what is claimed of it is what beam search says of the picture given back."""

from typing import Any

import pytest
import torch

from saccade.attack import find_attack
from saccade.caption import Captioner
from saccade.errors import SaccadeError
from saccade.pictures import sample
from saccade.studio.told import draw_told, make_it_say

SENTENCE = "a dog runs on the beach"


@pytest.fixture(scope="module")
def speaker() -> Captioner:
    return Captioner.load("tinynet-flickr8k")


def test_beam_search_says_the_sentence_of_a_picture_that_looks_the_same(speaker: Captioner) -> None:
    told = make_it_say(speaker, sample("chelsea"), SENTENCE, eps=8 / 255, steps=100)
    assert told.said
    assert str(told.after) == SENTENCE
    assert str(told.before) != SENTENCE
    assert str(speaker.caption([told.adversarial[0]])[0][0]) == SENTENCE
    assert str(speaker.caption([told.picture[0]])[0][0]) == str(told.before)
    change = told.adversarial - told.picture
    assert 0 < change.abs().max() <= 8 / 255 * (1 + 1e-6)
    assert torch.equal((255 * told.picture).round() / 255, told.picture)
    assert draw_told([told, told]).shape[2] > 4 * 192


def test_without_a_budget_it_says_what_it_said(speaker: Captioner) -> None:
    told = make_it_say(speaker, sample("coffee"), SENTENCE, attack=find_attack("pgd"), eps=0.0, steps=2)
    assert not told.said
    assert not told.result.success.any()
    assert torch.equal(told.adversarial, told.picture)
    assert str(told.after) == str(told.before)


def test_words_that_must_lead_by_more_are_tried_in_turn(speaker: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam search is made deaf for one attack: the next is then asked for a larger lead."""
    asked = []
    whole = Captioner.caption

    def deaf(self: Captioner, pictures: Any, **settings: Any) -> Any:
        asked.append(settings)
        return whole(self, [sample("coffee")] if len(asked) == 2 else pictures, **settings)

    monkeypatch.setattr(Captioner, "caption", deaf)
    told = make_it_say(speaker, sample("chelsea"), SENTENCE, eps=16 / 255, steps=100, leads=(0.0, 0.5))
    assert len(asked) == 3  # before any attack, and after each
    assert told.said
    assert told.result.loss >= 0  # the words lead by half and more


def test_says_what_is_wrong(speaker: Captioner) -> None:
    with pytest.raises(SaccadeError, match="does not know 'xylophone'"):
        make_it_say(speaker, sample("coffee"), "a xylophone")
    with pytest.raises(SaccadeError, match="no attack 'gan'"):
        make_it_say(speaker, sample("coffee"), SENTENCE, attack="gan")
