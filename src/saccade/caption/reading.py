"""A sentence as the classes of a network, so that whatever explains a class explains a word.

Which part of the picture produced the word k? A captioner that is held to a sentence gives each of its words a
probability, from the picture and the words before. Seen so it is a network from pictures to scores, (N, words), and
every attribution of a class becomes one of a word.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.caption.captioner import Captioner
from saccade.caption.text import END, START, tokenise
from saccade.errors import SaccadeError
from saccade.networks.network import Network


class _Reading(nn.Module):
    """Pictures (N, 3, S, S) -> (N, T), log-probability of each word of one sentence, given the words before."""

    words: Tensor

    def __init__(self, captioner: Captioner, numbers: Sequence[int]) -> None:
        super().__init__()
        self.captioner = captioner
        self.register_buffer("words", torch.tensor(numbers, device=captioner.mean.device), persistent=False)

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t"]:
        memory = self.captioner(pictures)
        words = self.words.expand(len(pictures), -1)
        lengths = torch.full((len(pictures),), words.shape[1] - 1)
        states, _ = self.captioner.decoder.states(words[:, :-1], lengths, memory)
        logs = torch.log_softmax(self.captioner.decoder.read_out(states), 2)
        return logs.gather(2, words[:, 1:, None])[..., 0]


def reading(captioner: Captioner, sentence: str | Sequence[str]) -> Network:
    """The captioner held to a sentence: a network from pictures (N, 3, H, W) to log-probabilities (N, T) of its words.

    Its classes are the words, in order, and the end last ("<END>"); class k is explained as word k, counted from 0:
    `grad_cam(reading(captioner, "a dog runs"), picture, "dog")`. A word that comes twice is given by its place.

    Args:
        captioner: of any kind; it is shared, not copied.
        sentence: one line, or the words of a `Caption`.

    Raises:
        SaccadeError: there are no words, or the captioner does not know one of them.
    """
    words, numbers = numbers_of(captioner, sentence, "hold the captioner to")
    return Network(
        _Reading(captioner, [START, *numbers, END]),
        classes=(*words, "<END>"),
        input_size=captioner.size,
        name=f"{captioner.network.name} reading",
    ).eval()


def numbers_of(captioner: Captioner, sentence: str | Sequence[str], operation: str) -> tuple[list[str], list[int]]:
    """The words of a sentence and their numbers; raises `SaccadeError` if there are none or one is unknown."""
    words = tokenise(sentence) if isinstance(sentence, str) else list(sentence)
    numbers = [captioner.vocabulary.number(word) for word in words]
    unknown = [word for word in words if captioner.vocabulary.words[captioner.vocabulary.number(word)] != word]
    if not words or unknown:
        what = f"it does not know {', '.join(map(repr, unknown))}" if unknown else "there are no words"
        raise SaccadeError(f"Could not {operation} {' '.join(words)!r}: {what}.")
    return words, numbers
