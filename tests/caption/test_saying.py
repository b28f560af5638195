"""A sentence as one class: above 0 is exactly what greedy decoding says, and an attack can aim at it."""

import itertools

import pytest
import torch
from caption.test_reading import DECODERS, captioner

from saccade.attack import find_attack, pgd
from saccade.caption import Captioner, saying
from saccade.caption.decode import Rules, sample
from saccade.caption.saying import SHARP
from saccade.caption.text import END, START, UNK
from saccade.errors import SaccadeError
from saccade.pictures import resize
from saccade.pictures import sample as photograph

X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DECODERS)
def test_the_score_is_the_smooth_least_lead_word_by_word(name: str) -> None:
    made = captioner(name)
    network = saying(made, "a red dog")
    assert network.classes == ("something else", "a red dog")
    with torch.no_grad():
        memory = made(X)
        state, word, leads = made.decoder.start(memory), torch.full((3, 1), START), []
        for number in [4, 7, 5, END]:
            scores, state, _ = made.decoder.step(word, state, memory)
            others = [k for k in range(scores.shape[2]) if k not in (0, START, UNK, number)]
            leads.append(scores[:, 0, number] - scores[:, 0, others].amax(1))
            word = torch.full((3, 1), number)
        least = torch.stack(leads, 1)
        said = network(X)
    assert not said[:, 0].any()
    assert (said[:, 1] <= least.amin(1) + 1e-5).all()
    assert (said[:, 1] >= least.amin(1) - torch.tensor(4.0).log() / SHARP - 1e-5).all()
    with torch.no_grad():
        torch.testing.assert_close(saying(made, "a red dog", lead=0.5)(X)[:, 1], said[:, 1] - 0.5)


@pytest.mark.parametrize("name", ["lstm", "show-attend-tell"])
def test_a_sentence_above_zero_is_the_one_that_greedy_decoding_says(name: str) -> None:
    made = captioner(name)
    above = []
    with torch.no_grad():
        said = sample(made.decoder, made(X), longest=4, temperature=0, rules=Rules())[0]
        for length in (1, 2):
            for words in itertools.product(("a", "dog", "runs", "red"), repeat=length):
                scores = saying(made, words)(X)[:, 1]
                numbers = torch.tensor([*(made.vocabulary.number(word) for word in words), END])
                for row in range(3):
                    if scores[row] > 0:
                        above.append(row)
                        assert torch.equal(said.words[row, : len(numbers)], numbers)
    assert len(set(above)) == len(above)  # no picture has two


def test_an_attack_makes_the_captioner_say_a_sentence() -> None:
    made = Captioner.load("tinynet-flickr8k")
    x = resize(photograph("chelsea"), (made.size, made.size)).clamp(0, 1)[None]
    sentence = "a dog runs on the beach"
    assert str(made.caption([x[0]], beam=1)[0][0]) != sentence
    found = find_attack("apgd-dlr")(saying(made, sentence), x, 0, targets=1, eps=8 / 255, steps=100)
    assert found.success.all()
    assert (found.adversarial - x).abs().max() <= 8 / 255 * (1 + 1e-6)
    assert str(made.caption([found.adversarial[0]], beam=1, block=0)[0][0]) == sentence
    nothing = pgd(saying(made, sentence), x, 0, targets=1, eps=0)
    assert not nothing.success.any()


def test_says_what_is_wrong() -> None:
    with pytest.raises(SaccadeError, match="Could not make the captioner say 'a cat': it does not know 'cat'"):
        saying(captioner("lstm"), "a cat")
