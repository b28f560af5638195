"""What several scores share: a curve, the order of the pixels, and what the network says."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.question import Question, Unit
from saccade.explain.reduce import How, as_map

Order = Literal["most", "least"]
Said = Literal["probability", "logit"]


@dataclass(frozen=True, eq=False)
class Curve:
    """What a network says of its target as more and more pixels are taken.

    shares: the shares of the pixels that were taken, (S,), rising. scores: (N, S).
    """

    shares: Float[Tensor, " s"]
    scores: Float[Tensor, "n s"]

    @property
    def area(self) -> Float[Tensor, " n"]:
        """Area below each picture's curve by trapezoids, over the width of the curve: a mean score, (N,)."""
        return torch.trapezoid(self.scores, self.shares, dim=1) / (self.shares[-1] - self.shares[0])


def checked_map(attribution: Tensor, how: How, question: Question) -> Float[Tensor, "n h w"]:
    """The attribution as a map of the question's pictures; raises `SaccadeError` unless it is one, and finite."""
    maps, x = as_map(attribution, how), question.x
    wanted = (len(x), *x.shape[2:])
    if maps.shape != wanted:
        raise SaccadeError(
            f"Could not {question.operation}: the maps are {tuple(maps.shape)}, expected {wanted}, as the pictures."
        )
    if not torch.isfinite(maps).all():
        raise SaccadeError(
            f"Could not {question.operation}: the maps hold values that are not finite (NaN or infinity); "
            "leave those pictures out, or give attribution.nan_to_num(0)."
        )
    return maps.to(x.device)


def ranks(maps: Float[Tensor, "n h w"], order: Order, seed: int) -> Int[Tensor, "n h w"]:
    """The place of each pixel in the order of taking, 0 is the first; "least" is exactly the reverse of "most".

    Equal values are ordered at random by `seed`, in every picture alike: in reading order, a map that says nothing
    would still get the score of a sweep from the top.
    """
    if order not in ("most", "least"):
        raise SaccadeError(f"order={order!r} was given; it is most (relevant first) or least.")
    n, h, w = maps.shape
    shuffled = torch.randperm(h * w, generator=generator(seed, h, w)).to(maps.device)
    chosen = maps.flatten(1)[:, shuffled].argsort(dim=1, descending=True, stable=True)
    pixels = shuffled[chosen]  # (N, H * W): which pixel is the first, the second, ...
    if order == "least":
        pixels = pixels.flip(1)
    places = torch.arange(h * w, device=maps.device).expand(n, -1)
    return torch.empty_like(pixels).scatter_(1, pixels, places).view(n, h, w)


def says(question: Question, x: Tensor, rows: Int[Tensor, " m"], score: Said) -> Float[Tensor, " m"]:
    """The target's softmax probability, or its raw score, in `x`; see `Question.score`."""
    if score == "logit":
        return question.score(x, rows).detach()
    if score != "probability" or isinstance(question.target, Unit):
        raise SaccadeError(
            f"Could not {question.operation}: score={score!r} was given; it is probability or logit, and only logit "
            "for a unit inside the network."
        )
    return question.read(question.scores(x).softmax(1), rows).detach()


def squares(h: int, w: int, side: int, count: int, seed: int) -> Bool[Tensor, "count h w"]:
    """`count` squares anywhere within a picture, all pixels of which are True."""
    draw = generator(seed, h, w, side)
    top, left = (torch.randint(0, length - side + 1, (count, 1), generator=draw) for length in (h, w))
    rows, columns = torch.arange(h), torch.arange(w)
    inside = ((rows >= top) & (rows < top + side))[:, :, None] & ((columns >= left) & (columns < left + side))[:, None]
    return inside
