"""Gradients at many points made from each picture: the loop of integrated gradients, SmoothGrad and their kin.

Points go through the network in batches of several points of several pictures, and are made as they are needed: memory
does not grow with their number.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from saccade.engine.chunks import chunks
from saccade.engine.chunks import rows_at_once as chunk_rows
from saccade.explain.question import Question
from saccade.networks.graph import steps
from saccade.networks.layout import MANY

Points = Callable[[slice, slice], Float[Tensor, "k n 3 h w"]]
"""Which of the pictures and which of the points, to k points of n pictures."""


def rows_at_once(question: Question, count: int, batch_size: int | None) -> int:
    """How many rows to run at a time, of `count` made from each picture; see `engine.chunks`.

    Lays the pictures out channels last on a CPU if the rows are many, as they then run faster, and if the network bears
    it: some call `view` on a map, which raises.
    """
    size = chunk_rows(question.network, question.x, batch_size)
    x = question.x
    last = x.is_contiguous(memory_format=torch.channels_last)
    if x.device.type == "cpu" and not last and min(size, count * len(x)) * x[0, 0].numel() >= MANY:
        other = x.contiguous(memory_format=torch.channels_last)
        with suppress(RuntimeError), torch.no_grad():
            question.score(other[:1], torch.zeros(1, dtype=torch.int64))
            question.x = other
    return size


def batch(
    question: Question, points: Points, part: slice, which: slice
) -> tuple[Float[Tensor, "m 3 h w"], Int[Tensor, " m"]]:
    """Points as rows, m = k * n, and the picture that each was made from."""
    last = question.x.is_contiguous(memory_format=torch.channels_last)
    x = points(part, which).detach().flatten(0, 1)
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return x, _rows(question, part).repeat(which.stop - which.start)


def at_once(part: slice, size: int) -> int:
    """How many points of each of these pictures make a batch of at most `size` rows."""
    return max(1, size // len(range(part.start, part.stop)))


def gradients(
    question: Question, points: Points, part: slice, count: int, size: int
) -> Iterator[tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]]:
    """The points of some of the pictures, one after the other, and the gradients there."""
    for which in chunks(count, at_once(part, size)):
        x, rows = batch(question, points, part, which)
        _, found = question.gradient(x, rows)
        n = part.stop - part.start
        yield from zip(torch.split(x, n), torch.split(found, n), strict=True)


def summed_gradient(
    question: Question, points: Points, weights: Float[Tensor, " count"], size: int
) -> Float[Tensor, "n 3 h w"]:
    """The sum over all points of the gradient there, each times its weight.

    A gradient's last step, back through the first convolution and its norm to the pixels, is a tenth to a fifth of all
    the work. That step is the same linear map at every point, so the gradients are summed before it, and it is done
    once. How far it is the same is read off the recorded steps of the pictures themselves, and checked at every batch.
    """
    found = torch.zeros_like(question.x)
    for part in chunks(len(found), size):
        own = question.x[part].detach().requires_grad_()
        start = _Start(question.score(own, _rows(question, part)), own)
        behind: Tensor | None = None  # what is summed behind the start; the rest is summed at the pixels
        for which in chunks(len(weights), at_once(part, size)):
            x, rows = batch(question, points, part, which)
            score = question.score(x.requires_grad_(), rows)
            here = _Start(score, x)
            if start.edge is not None and here.edge is not None and start.is_same(here):
                (gradient,) = torch.autograd.grad(score.sum(), here.edge)
                behind = torch.zeros_like(gradient[: len(own)]) if behind is None else behind
                _add(behind, gradient, weights[which])
            else:
                _add(found[part], question.slope(score, x), weights[which])
        if behind is not None and start.edge is not None:
            found[part] += torch.autograd.grad(start.edge, own, behind)[0]
    return found


def _rows(question: Question, part: slice) -> Int[Tensor, " n"]:
    return torch.arange(part.start, part.stop, device=question.x.device)


def _add(total: Tensor, gradient: Tensor, weights: Tensor) -> None:
    for weight, one in zip(weights.tolist(), torch.split(gradient, len(total)), strict=True):
        total.add_(one, alpha=weight)


_LINEAR = {
    "SubBackward0": (),
    "AddBackward0": (),
    "MulBackward0": ("_saved_other",),
    "DivBackward0": ("_saved_other",),
    "ConvolutionBackward0": ("_saved_weight",),
    "NativeBatchNormBackward0": ("_saved_weight", "_saved_running_var"),
}
"""Steps that are linear in their first input, up to a constant, and what they multiply it by."""


class _Start:
    """The steps from the pictures up to a convolution and its norm, if they are one linear map, but for a constant.

    edge: what comes out of them, or None if there are no such steps.
    """

    def __init__(self, score: Tensor, x: Tensor) -> None:
        self.steps: list[tuple[str, list[Tensor | None]]] = []  # its name, and what it multiplies by
        self.edge: GradientEdge | None = None
        users: dict[Node, list[Node]] = {}
        for step in steps(score):
            for before, _ in step.next_functions:
                if before is not None:
                    users.setdefault(before, []).append(step)
        passed: list[tuple[str, list[Tensor | None]]] = []
        node = get_gradient_edge(x).node
        while len(users.get(node, ())) == 1:
            (step,) = users[node]
            _, *others = (before for before, _ in step.next_functions)
            name = step.name()
            if any(other is not None for other in others) or name not in _LINEAR:
                break
            if getattr(step, "_saved_training", False):  # a batch norm that looks at the batch
                break
            passed.append((name, [getattr(step, factor) for factor in _LINEAR[name]]))
            node = step
            if name in ("ConvolutionBackward0", "NativeBatchNormBackward0"):
                self.steps, self.edge = list(passed), GradientEdge(step, 0)

    def is_same(self, other: "_Start") -> bool:
        """Whether both are the same map, whatever a network may do for each picture or batch anew."""
        if [name for name, _ in self.steps] != [name for name, _ in other.steps]:
            return False
        return all(map(_equal, _factors(self), _factors(other)))


def _factors(start: _Start) -> list[Tensor | None]:
    return [factor for _, factors in start.steps for factor in factors]


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and (a.data_ptr() == b.data_ptr() or torch.equal(a, b))
