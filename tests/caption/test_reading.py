"""A sentence as classes: log-probabilities equal those of decoding word by word, and any attribution takes them."""

import pytest
import torch

from saccade.caption import Captioner, Vocabulary, reading
from saccade.caption.encoder import Encoder
from saccade.caption.text import SPECIAL, START
from saccade.errors import SaccadeError
from saccade.explain import gradient
from saccade.networks import Network, build
from saccade.pictures import sample

DECODERS = {
    "rnn": {"wordvec_dim": 6, "hidden_dim": 8},
    "lstm": {"wordvec_dim": 6, "hidden_dim": 8},
    "attention": {"wordvec_dim": 6, "hidden_dim": 8},
    "show-attend-tell": {"wordvec_dim": 6, "hidden_dim": 8, "attention_dim": 5, "dropout": 0.5},
    "transformer": {"dim": 8, "heads": 2, "layers": 1},
}


def captioner(name: str) -> Captioner:
    torch.manual_seed(0)
    network = Network(build("tinynet", num_classes=3, widths=(4, 6), units=(1, 1)), input_size=16)
    words = Vocabulary((*SPECIAL, "a", "dog", "runs", "red"))
    return Captioner(Encoder.of(network), words, (name, DECODERS[name])).eval()


@pytest.mark.parametrize("name", DECODERS)
def test_log_probabilities_are_those_of_steps(name: str) -> None:
    made = captioner(name)
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    network = reading(made, "a red dog")
    assert network.classes == ("a", "red", "dog", "<END>")
    with torch.no_grad():
        memory = made(x)
        state, word, expected = made.decoder.start(memory), torch.full((3, 1), START), []
        for number in [4, 7, 5, 2]:
            scores, state, _ = made.decoder.step(word, state, memory)
            expected.append(torch.log_softmax(scores[:, 0], 1)[:, number])
            word = torch.full((3, 1), number)
        torch.testing.assert_close(network(x), torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_the_product_is_the_probability_that_the_caption_states() -> None:
    made = Captioner.load("tinynet-flickr8k")
    picture = sample("motorcycle")
    [[said]] = made.caption([picture], beam=3)
    with torch.no_grad():
        total = reading(made, said.words)(picture[None]).sum().exp()
    assert float(total) == pytest.approx(said.probability, rel=1e-3)


def test_a_word_has_a_gradient_of_its_own() -> None:
    made = captioner("show-attend-tell")
    x = torch.rand(2, 3, 16, 16)
    network = reading(made, "a red dog runs a dog")
    by_name, by_place = gradient(network, x, "red"), gradient(network, x, 1)
    assert torch.equal(by_name, by_place)
    assert not torch.equal(by_place, gradient(network, x, 2))
    assert by_place.abs().sum() > 0
    with pytest.raises(SaccadeError, match="may be any of 2"):
        gradient(network, x, "dog")


def test_says_what_is_wrong() -> None:
    made = captioner("lstm")
    with pytest.raises(SaccadeError, match="does not know 'cat'"):
        reading(made, "a cat runs")
    with pytest.raises(SaccadeError, match="there are no words"):
        reading(made, "")
