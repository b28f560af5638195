"""How a step is made of a gradient: rules (values, score, gradient, state) -> values, uphill.

`score` (N,) and `gradient` are those at `values`. What a rule remembers it keeps in `state`, a dict of tensors that is
empty at first. Every picture is stepped by its own gradient alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

State = dict[str, Tensor]


class Rule:
    """A rule of steps; `settle` gives the values to end with, `carry` the state to begin another size with, `renewed`
    that to go on with under another objective."""

    def __call__(self, values: Tensor, score: Float[Tensor, " n"], gradient: Tensor, state: State) -> Tensor:
        raise NotImplementedError

    def settle(self, values: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return values

    def carry(self, state: State, resize: Callable[[Tensor], Tensor]) -> State:  # noqa: ARG002
        """What is still of use at another size, to which `resize` brings tensors of the values' shape."""
        return {}

    def renewed(self, state: State) -> State:
        """What is still of use under another objective at the same size."""
        return state


@dataclass(frozen=True)
class Plain(Rule):
    """`rate` times the gradient."""

    rate: float

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return values + self.rate * gradient


@dataclass(frozen=True)
class Normalised(Rule):
    """A step along the gradient; none where that is zero.

    rate: its L2 length; with by="mean" its mean absolute value, which does not depend on the size of the picture.
    """

    rate: float
    by: Literal["l2", "mean"] = "l2"

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:  # noqa: ARG002
        flat = gradient.flatten(1)
        length = _rows(flat.norm(dim=1) if self.by == "l2" else flat.abs().mean(1), gradient)
        return values + self.rate * gradient / length.where(length > 0, torch.ones_like(length))


@dataclass(frozen=True)
class Progress(Rule):
    """Gradient step that would raise a linear objective by `progress`, its rate at most `most` (arXiv:1506.06579)."""

    progress: float
    most: float

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:  # noqa: ARG002
        rate = _rising(gradient, self.progress).clamp(max=self.most)
        return values + _rows(rate, gradient) * gradient


@dataclass(frozen=True)
class Calibrated(Rule):
    """A constant rate times the gradient: the one with which the first step raises a linear objective by `progress`."""

    progress: float

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:  # noqa: ARG002
        if not state:
            state["rate"] = _rising(gradient, self.progress)
        return values + _rows(state["rate"], gradient) * gradient


@dataclass(frozen=True)
class Adam(Rule):
    """Kingma and Ba 2015, arXiv:1412.6980.

    carried: the moments go on, enlarged, at the next size of a pyramid.
    """

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    carried: bool = False

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:  # noqa: ARG002
        if not state:
            state.update(mean=torch.zeros_like(values), square=torch.zeros_like(values), count=torch.zeros(()))
        first, second = self.betas
        state["count"] += 1
        count = int(state["count"])
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = square.sqrt().div_((1 - second**count) ** 0.5).add_(self.eps)
        return torch.addcdiv(values, mean, root, value=self.rate / (1 - first**count))

    def carry(self, state: State, resize: Callable[[Tensor], Tensor]) -> State:
        if not self.carried or not state:
            return {}
        square = resize(state["square"]).clamp(min=0)
        return {"mean": resize(state["mean"]), "square": square, "count": state["count"]}


def _rising(gradient: Tensor, progress: float) -> Float[Tensor, " n"]:
    """The rate with which a step raises a linear objective by `progress`; 0 where the gradient is zero."""
    squares = gradient.flatten(1).square().sum(1)
    rate: Tensor = torch.where(squares > 0, progress / squares, 0)
    return rate


def _rows(numbers: Float[Tensor, " n"], like: Tensor) -> Tensor:
    return numbers.view(-1, *[1] * (like.ndim - 1))
