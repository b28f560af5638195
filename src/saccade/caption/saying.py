"""A sentence as one class of a network, so that whatever attacks a class can make a captioner say a sentence."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.caption.captioner import Captioner
from saccade.caption.reading import numbers_of
from saccade.caption.text import END, NULL, START, UNK
from saccade.networks.network import Network

ELSE = "something else"
SHARP = 4.0  # of the smooth minimum: it is below the least lead by no more than log(words) / SHARP


class _Saying(nn.Module):
    """Pictures (N, 3, S, S) -> (N, 2): 0, and by how much the words of a sentence lead all others."""

    words: Tensor

    def __init__(self, captioner: Captioner, numbers: Sequence[int], lead: float) -> None:
        super().__init__()
        self.captioner, self.lead = captioner, lead
        self.register_buffer("words", torch.tensor(numbers, device=captioner.mean.device), persistent=False)

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2"]:
        memory = self.captioner(pictures)
        words = self.words.expand(len(pictures), -1)
        lengths = torch.full((len(pictures),), words.shape[1] - 1)
        states, _ = self.captioner.decoder.states(words[:, :-1], lengths, memory)
        scores = self.captioner.decoder.read_out(states)
        wanted = words[:, 1:, None]
        never = torch.tensor([NULL, START, UNK], device=scores.device)  # decoding does not say these
        others = scores.scatter(2, wanted, -torch.inf).index_fill(2, never, -torch.inf)
        leads = scores.gather(2, wanted)[..., 0] - others.amax(2)
        least = -torch.logsumexp(-SHARP * (leads - self.lead), 1) / SHARP  # every word that lags has a share in it
        return torch.stack([torch.zeros_like(least), least], 1)


def saying(captioner: Captioner, sentence: str | Sequence[str], *, lead: float = 0.0) -> Network:
    """The captioner as a network of two classes: whether it says this sentence of a picture, or "something else".

    Its scores (N, 2) are 0 and a smooth minimum, over the words, of the lead of each over all other words, given the
    words before it. Where that is above 0, every word leads, so that decoding greedily says exactly the sentence. Any
    attack can aim at it: `pgd(saying(captioner, "a dog runs"), pictures, 0, targets=1, eps=8/255)` is the targeted
    attack on captions of Chen and others 2018 (Show-and-Fool, arXiv:1712.02051), its hinges joined into one.

    Args:
        captioner: of any kind; it is shared, not copied.
        sentence: one line, or the words of a `Caption`.
        lead: how far each word must lead, in natural logarithms of probability; beam search, which may prefer another
            sentence as a whole, says one whose words lead far.

    Raises:
        SaccadeError: there are no words, or the captioner does not know one of them.
    """
    words, numbers = numbers_of(captioner, sentence, "make the captioner say")
    return Network(
        _Saying(captioner, [START, *numbers, END], lead),
        classes=(ELSE, " ".join(words)),
        input_size=captioner.size,
        name=f"{captioner.network.name} saying",
    ).eval()
