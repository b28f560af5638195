"""A captioner made to say a sentence: the targeted attack on captions, and what it says before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack import Attack, Result, find_attack
from saccade.attack.draw import draw_change
from saccade.attack.evaluate.suites import ask
from saccade.caption import Caption, Captioner, saying
from saccade.networks import Network
from saccade.pictures import resize

LEADS = (0.0, 1.0, 2.0, 4.0)
"""By how much the words must lead, in turn, until beam search says the sentence."""


@dataclass(frozen=True, eq=False)
class Told:
    """A picture that was changed so that a captioner says a sentence.

    picture, adversarial: (1, 3, S, S), as the captioner sees them. before, after: what it says of them by beam search.
    said: whether that is the sentence; where even its words one by one could not be made the likeliest,
    `result.success` is False and `adversarial` is the picture. network: two classes, the second is the sentence.
    """

    picture: Float[Tensor, "1 3 s s"]
    adversarial: Float[Tensor, "1 3 s s"]
    before: Caption
    after: Caption
    said: bool
    result: Result
    network: Network


def make_it_say(
    captioner: Captioner,
    picture: Float[Tensor, "3 _ _"],
    sentence: str | Sequence[str],
    *,
    attack: str | Attack = "apgd-dlr",
    leads: Sequence[float] = LEADS,
    beam: int = 5,
    **settings: float | str | None,
) -> Told:
    """Change a picture a little so that a captioner says a sentence.

    The attack aims at the sentence as a class, `saccade.caption.saying`. Beam search may still find another sentence
    likelier as a whole; then the attack is made again for words that lead by more. Chen and others 2018,
    arXiv:1712.02051.

    Args:
        captioner: of any kind.
        picture: in [0, 1], of any size; it is changed as the captioner sees it.
        sentence: of words that the captioner knows.
        attack: one that takes targets, or its name.
        leads: in turn, see `saying`.
        beam: hypotheses of the beam search that judges.
        settings: of the attack, as norm, eps, steps and seed; those it does not have, and None, are left out.

    Raises:
        SaccadeError: for an unknown word, and whatever cannot be attacked.
    """
    chosen = find_attack(attack) if isinstance(attack, str) else attack
    network = saying(captioner, sentence, lead=leads[0])
    wanted = network.class_name(1)
    pixels = resize(picture.to(captioner.mean), (captioner.size, captioner.size)).clamp(0, 1)[None]
    x = (255 * pixels).round() / 255  # as a file would hold it
    [[before]] = captioner.caption([x[0]], beam=beam)
    kept: Told | None = None
    for lead in leads:
        network = saying(captioner, sentence, lead=lead)
        found = ask(chosen, network, x, torch.zeros(1, dtype=torch.int64), targets=1, **settings)
        if kept is not None and not found.success:
            break  # more than this cannot be had; what was found for less is nearer to it
        [[after]] = captioner.caption([found.adversarial[0]], beam=beam)
        kept = Told(x, found.adversarial, before, after, str(after) == wanted, found, network)
        if kept.said or not found.success:
            break
    assert kept is not None
    return kept


def draw_told(told: Sequence[Told], *, cell: int = 192) -> Float[Tensor, "3 height width"]:
    """One row each: the original, the adversarial, their difference and ten times it, around mid-grey; below, what is
    said of the first two, and the size of the change."""
    pictures, changed = torch.cat([one.picture for one in told]), torch.cat([one.adversarial for one in told])
    before, after = [_lines(str(one.before)) for one in told], [_lines(str(one.after)) for one in told]
    return draw_change(pictures.cpu(), changed.cpu(), before, after, cell=cell)


def _lines(sentence: str, width: int = 26) -> str:
    """A sentence in lines."""
    lines = [""]
    for word in sentence.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
