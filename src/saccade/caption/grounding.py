"""Whether a captioner looks at what it names: on generated scenes the pixels of every object are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.caption.captioner import Caption, Captioner
from saccade.data.scene_grammar import RELATIONS, Thing, parse
from saccade.data.scenes import Scene, holds
from saccade.errors import SaccadeError

BATCH = 100
_JOINTS = {"and", *(relation.split()[0] for relation in RELATIONS)}
_SILENT = {"a", "an", "there", "is", "are", "one", "two", "three", "four", "of"}


@dataclass(frozen=True)
class Grounding:
    """Mean share of a map inside the mask of the object that a word names, over `words` words; in [0, 1].

    attention: of the captioner's. uniform: of a map that is the same everywhere (the size of the objects). centre: of a
    Gaussian on the middle of the picture, its standard deviation a quarter of the side.
    """

    attention: float
    uniform: float
    centre: float
    words: int


def grounding(attention: Float[Tensor, "h w"], mask: Bool[Tensor, "a b"]) -> float:
    """Share of attention, which sums to 1, inside a mask of the picture, any size."""
    area = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), (attention.shape[0], attention.shape[1]))[0]
    return float((attention * area).sum())


def measure_grounding(
    captioner: Captioner, pictures: Sequence[Float[Tensor, "3 _ _"]], scenes: Sequence[Scene]
) -> Grounding | None:
    """Caption generated scenes by beam search and see where the words were looked for.

    Counted are the words of true captions that describe one object and no other would fit: its size, texture, colour
    and shape; None if there is no such word. Raises `SaccadeError` if the captioner's decoder has no attention.
    """
    found: list[tuple[float, float, float]] = []
    for first in range(0, len(pictures), BATCH):
        several = captioner.caption(pictures[first : first + BATCH])
        for (caption, *_), scene in zip(several, scenes[first : first + BATCH], strict=True):
            if caption.attention is None:
                raise SaccadeError("Measuring where a captioner looks: its decoder has no attention.")
            for word, k in named_objects(caption, scene):
                look, mask = caption.attention[word].cpu(), scene.masks[k]
                maps = (look, torch.full_like(look, 1 / look.numel()), _centre(*look.shape))
                found.append(tuple(grounding(each, mask) for each in maps))  # type: ignore[arg-type]
    if not found:
        return None
    attention, uniform, centre = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return Grounding(attention, uniform, centre, len(found))


def named_objects(caption: Caption, scene: Scene) -> list[tuple[int, int]]:
    """(place of a word in the caption, index of the object it describes), of a true caption; else nothing."""
    sentence = str(caption)
    if not holds(sentence, scene):
        return []
    claim = parse(sentence)
    phrases: list[list[int]] = [[], []]
    part = 0
    for place, word in enumerate(caption.words):
        if word == "on":
            break
        if word in _JOINTS:
            part = 1
        elif word not in _SILENT:
            phrases[part].append(place)
    named = []
    for words, thing in zip(phrases, (claim.first, claim.second), strict=True):
        fitting = [k for k, each in enumerate(scene.objects) if thing is not None and thing.fits(each)]
        if len(fitting) == 1 and thing != Thing():
            named += [(place, fitting[0]) for place in words]
    return named


def _centre(h: int, w: int) -> Tensor:
    y, x = (torch.arange(n).add(0.5).div(n).sub(0.5).square() for n in (h, w))
    blob = torch.exp(-(y[:, None] + x[None]) / (2 * 0.25**2))
    return blob / blob.sum()
