"""Gradients at many points made from each picture: the loop of integrated gradients, SmoothGrad and their kin.

Points go through the network in batches of several points of several pictures, and are made as they are needed: memory
does not grow with their number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.engine.chunks import chunks
from saccade.engine.chunks import rows_at_once as chunk_rows
from saccade.explain.question import Question

Points = Callable[[slice, slice], Float[Tensor, "k n 3 h w"]]
"""Which of the pictures and which of the points, to k points of n pictures."""

PIXELS = 200_000
"""So many at once are faster than fewer, on a CPU too."""

ROWS = 25
"""As many pictures are, whatever their size, if they fit into memory."""


def rows_at_once(question: Question, count: int, batch_size: int | None) -> int:
    """How many rows to run at a time, of `count` made from each picture; the network is learnt for them if many."""
    pixels = max(PIXELS, ROWS * question.x[0, 0].numel())
    size = chunk_rows(question.network, question.x, batch_size, pixels=pixels)
    question.learn(count * len(question.x))
    return size


def batch(
    question: Question, points: Points, part: slice, which: slice
) -> tuple[Float[Tensor, "m 3 h w"], Int[Tensor, " m"]]:
    """Points as rows, m = k * n, and the picture that each was made from."""
    last = question.x.is_contiguous(memory_format=torch.channels_last)
    x = points(part, which).detach().flatten(0, 1)
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return x, _rows(question, part).repeat(which.stop - which.start)


def at_once(part: slice, count: int, size: int) -> int:
    """How many of `count` points of each of these pictures make batches of at most `size` rows, all about as large."""
    most = max(1, size // len(range(part.start, part.stop)))
    return -(-count // -(-count // most))


def gradients(
    question: Question, points: Points, part: slice, count: int, size: int
) -> Iterator[tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]]:
    """The points of some of the pictures, one after the other, and the gradients there."""
    for which in chunks(count, at_once(part, count, size)):
        x, rows = batch(question, points, part, which)
        _, found = question.gradient(x, rows)
        n = part.stop - part.start
        yield from zip(torch.split(x, n), torch.split(found, n), strict=True)


def summed_gradient(
    question: Question, points: Points, weights: Float[Tensor, " count"], size: int
) -> Float[Tensor, "n 3 h w"]:
    """The sum over all points of the gradient there, each times its weight.

    The first convolution and its norm take a tenth to a fifth of all the work. Where they are the same affine map of
    every point, the gradients are summed behind them, and taken back to the pixels once; and of points on a line they
    are a line too, of which only the ends are computed.
    """
    found = torch.zeros_like(question.x)
    for part in chunks(len(found), size):
        own = question.x[part].detach().requires_grad_()
        start = question.begin(own)
        behind = None if start is None else torch.zeros_like(start)
        line = _begun(question, points, part) if isinstance(points, Line) else None
        for which in chunks(len(weights), at_once(part, len(weights), size)):
            begun: Tensor | None
            if line is not None:
                rows = _rows(question, part).repeat(which.stop - which.start)
                begun = line(slice(0, len(own)), which).flatten(0, 1)
            else:
                x, rows = batch(question, points, part, which)
                with torch.no_grad():
                    begun = question.begin(x)
            gradient = None if begun is None else question.gradient_behind(begun, rows)
            if gradient is not None and behind is not None:
                _add(behind, gradient, weights[which])
            else:
                x, rows = batch(question, points, part, which)
                _add(found[part], question.gradient(x, rows)[1], weights[which])
        if start is not None:
            found[part] += torch.autograd.grad(start, own, behind)[0]
    return found


@dataclass(frozen=True)
class Line:
    """Points on the straight line from one picture to another. places: 0 is the first, 1 the second."""

    first: Float[Tensor, "n c h w"]
    last: Float[Tensor, "n c h w"]
    places: Float[Tensor, " count"]

    def __call__(self, part: slice, which: slice) -> Float[Tensor, "k n c h w"]:
        first, last = self.first[part], self.last[part]
        return torch.addcmul(first, self.places[which].to(first)[:, None, None, None, None], last - first)


def _begun(question: Question, line: Line, part: slice) -> Line | None:
    """What the beginning of the network makes of a line."""
    with torch.no_grad():
        first, last = question.begin(line.first[part]), question.begin(line.last[part])
    return None if first is None or last is None else Line(first, last, line.places)


def _rows(question: Question, part: slice) -> Int[Tensor, " n"]:
    return torch.arange(part.start, part.stop, device=question.x.device)


def _add(total: Tensor, gradient: Tensor, weights: Tensor) -> None:
    for weight, one in zip(weights.tolist(), torch.split(gradient, len(total)), strict=True):
        total.add_(one, alpha=weight)
