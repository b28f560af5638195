"""How a step is made of a gradient: rules (values, score, gradient, state) -> values, uphill.

`score` (N,) and `gradient` are those at `values`. What a rule remembers it keeps in `state`, a dict of tensors that is
empty at first. Every picture is stepped by its own gradient alone.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

State = dict[str, Tensor]


class Rule:
    """A rule of steps; `settle` gives the values to end with."""

    def __call__(self, values: Tensor, score: Float[Tensor, " n"], gradient: Tensor, state: State) -> Tensor:
        raise NotImplementedError

    def settle(self, values: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return values


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
    """Kingma and Ba 2015, arXiv:1412.6980."""

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

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


@dataclass(frozen=True)
class LBFGS(Rule):
    """L-BFGS over the last `memory` steps (Nocedal 1980), for objectives that stay the same: no random transforms.

    The first step has L2 length `rate`, later ones that of the model. A step that does not raise the score enough
    (Armijo's condition) is taken back and halved, which costs a step; each picture has its own model and halving.
    """

    rate: float = 1.0
    memory: int = 10

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:
        x, g = values.flatten(1), gradient.flatten(1)
        if not state:
            nothing = x.new_zeros(self.memory, *x.shape)
            state.update(moves=nothing, turns=nothing.clone())
            good = torch.ones_like(score, dtype=torch.bool)
        else:
            move, turn = x - state["x"], state["g"] - g
            good = score >= state["score"] + 1e-4 * (state["g"] * move).sum(1)
            useful = good & ((move * turn).sum(1) > 1e-10 * turn.square().sum(1))
            for key, new in (("moves", move), ("turns", turn)):
                pushed = torch.cat([state[key][1:], new[None]])
                state[key] = torch.where(useful[None, :, None], pushed, state[key])
        kept = good[:, None]
        if "x" in state:
            x, g = torch.where(kept, x, state["x"]), torch.where(kept, g, state["g"])
            score = torch.where(good, score, state["score"])
        way = self._model(g, state["moves"], state["turns"])
        if "way" in state:
            way = torch.where(kept, way, state["way"] / 2)
        state.update(x=x, g=g, score=score, way=way)
        return (x + way).view_as(values)

    def settle(self, values: Tensor, state: State) -> Tensor:
        """The last point that was good: the newest has not been tried."""
        return state["x"].view_as(values) if state else values

    def _model(self, g: Tensor, moves: Tensor, turns: Tensor) -> Tensor:
        """The inverse curvature times the gradient (two-loop recursion); pairs not yet there are zero."""
        products = (moves * turns).sum(2)
        rho = torch.where(products > 0, 1 / products.where(products > 0, torch.ones_like(products)), 0)
        alphas = []
        for i in reversed(range(self.memory)):
            alpha = rho[i] * (moves[i] * g).sum(1)
            g = g - alpha[:, None] * turns[i]
            alphas.append(alpha)
        bend = turns[-1].square().sum(1)
        fresh = self.rate / g.norm(dim=1).clamp(min=1e-30)
        g = g * torch.where(bend > 0, products[-1] / bend.where(bend > 0, torch.ones_like(bend)), fresh)[:, None]
        for i, alpha in zip(range(self.memory), reversed(alphas), strict=True):
            beta = rho[i] * (turns[i] * g).sum(1)
            g = g + (alpha - beta)[:, None] * moves[i]
        return g


def _rising(gradient: Tensor, progress: float) -> Float[Tensor, " n"]:
    """The rate with which a step raises a linear objective by `progress`; 0 where the gradient is zero."""
    squares = gradient.flatten(1).square().sum(1)
    rate: Tensor = torch.where(squares > 0, progress / squares, 0)
    return rate


def _rows(numbers: Float[Tensor, " n"], like: Tensor) -> Tensor:
    return numbers.view(-1, *[1] * (like.ndim - 1))
