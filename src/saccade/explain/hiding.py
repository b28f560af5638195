"""Hiding parts of pictures: what takes their place, and what the network says then.

Occlusion, RISE, LIME and KernelSHAP differ in which parts they hide and in what they make of the scores. The scores of
each picture are computed in batches of its own, so that they do not depend on the other pictures.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.explain.question import Question
from saccade.networks.layout import memory_layout

Fill = float | str | Tensor
"""What takes the place of hidden pixels: a grey in [0, 1]; "mean", each picture's own mean colour; "blur", the picture
blurred until little more than its colours is left (a Gaussian of a tenth of its shorter side); or a tensor that
broadcasts to the pictures, (N, 3, H, W)."""


def fills(question: Question, fill: Fill) -> Float[Tensor, "n 3 h w"]:
    """The pictures of which everything is hidden; raises `SaccadeError` for what is no `Fill`."""
    x = question.x
    if isinstance(fill, str):
        if fill == "mean":
            return x.mean((2, 3), keepdim=True).expand_as(x)
        if fill == "blur":
            sigma = min(x.shape[2:]) / 10
            down, across = (_blur(side, sigma).to(x) for side in x.shape[2:])
            return down @ x @ across.T
        raise SaccadeError(f'Could not {question.operation}: fill is {fill!r}, expected a number, "mean" or "blur".')
    given = torch.as_tensor(fill, dtype=x.dtype, device=x.device).detach()
    try:
        return given.expand_as(x)
    except RuntimeError as error:
        raise SaccadeError(
            f"Could not {question.operation}: fill has shape {tuple(given.shape)}, expected one that broadcasts to "
            f"the pictures, {tuple(x.shape)}."
        ) from error


def hidden(
    question: Question, x: Float[Tensor, "3 h w"], fill: Float[Tensor, "3 h w"], keep: Float[Tensor, "m h w"]
) -> Float[Tensor, "m 3 h w"]:
    """A picture under masks: 1 keeps a pixel, 0 puts that of `fill` in its place."""
    rows = torch.addcmul(fill, keep[:, None], x - fill)
    return rows.contiguous(memory_format=memory_layout(question.network, rows.shape))


def rows_of(question: Question, i: int, count: int) -> Tensor:
    """The index of picture `i` for each of `count` rows made from it, as `Question.score` wants it."""
    return torch.full((count,), i, device=question.x.device)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(vertical, horizontal) from one number for both, or from two."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2:
        raise SaccadeError(f"{value} was given, expected a whole number, or two: (vertical, horizontal).")
    return both[0], both[1]


def _blur(side: int, sigma: float) -> Float[Tensor, "side side"]:
    """Blurs a line of `side` pixels: Gaussian weights of the pixels there are, of sum 1."""
    place = torch.arange(side, dtype=torch.float64)
    weight = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weight / weight.sum(1, keepdim=True)
