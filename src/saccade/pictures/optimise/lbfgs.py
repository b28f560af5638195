"""L-BFGS for pictures: a model of the curvature from the last steps, within a box, without waiting for the device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.pictures.optimise.steps import Rule, State


@dataclass(frozen=True)
class LBFGS(Rule):
    """L-BFGS over the last `memory` steps (Nocedal 1980), for objectives that stay the same: no random transforms.

    Every step is one look at the objective. The first has L2 length `rate`, later ones that of the model. A step that
    does not raise the score enough (Armijo's condition) is taken back, which costs a look; the model learns from it all
    the same, and the next is at most half as long. Each picture is stepped by itself. Nothing is read from the device,
    so a GPU is never waited for.

    noise: by how much of itself a score may be wrong, as in 16 bits; a step that seems to lose no more is not taken
    back (relaxed Armijo condition; Shi et al. 2022, arXiv:2010.04352), where it would otherwise end in halvings.

    low, high: bounds of the values, if both are given; steps are cut there.

    held: values at a bound that would leave it are held, the others make the step, and the model learns from the step
    that was really made (projected quasi-Newton, Bertsekas 1982): this finds the least within the bounds. False: the
    model knows nothing of the bounds and learns from the step that was wanted, as where PyTorch's optimiser is given a
    picture that is clamped between its steps (its tutorial on style transfer). Where many values lie at a bound this is
    lower after some hundred steps, but need not end at the least.

    long: how long steps are where the model knows nothing. 0: as after the newest step, by the lesser of the two sizes
    that it suggests (Barzilai and Borwein 1988), which is usual. From 0 to 1: the geometric mean of the lesser and,
    with this weight, the greater, each over all steps that are kept. Networks with ReLUs and max pools change their
    slopes at once, not by and by, which makes the lesser too short; style transfer takes 0.25.
    """

    rate: float = 1.0
    memory: int = 10
    low: float | None = None
    high: float | None = None
    held: bool = True
    noise: float = 0.0
    long: float = 0.0

    def __call__(self, values: Tensor, score: Tensor, gradient: Tensor, state: State) -> Tensor:
        x, g = values.flatten(1), gradient.flatten(1)
        if "x" in state:
            x, g, score, good = self._learn(x, g, score, state)
        elif not state:
            history, numbers = x.new_zeros(self.memory, *x.shape), x.new_zeros(self.memory, len(x))
            state.update(moves=history, turns=history.clone(), bend=numbers)
            state.update(moved=numbers.clone(), turned=numbers.clone(), count=torch.zeros((), dtype=torch.long))
        way = self._model(x, g, state)
        if "way" in state:
            least = way.norm(dim=1).clamp(min=1e-30)
            half = (state["way"].norm(dim=1) / 2 / least).clamp(max=1)
            way = way * torch.where(good, torch.ones_like(half), half)[:, None]
        state.update(x=x, g=g, score=score, way=way)
        stepped = x + way if self.low is None else (x + way).clamp(self.low, self.high)
        return stepped.view_as(values)

    def settle(self, values: Tensor, state: State) -> Tensor:
        """The last point that was good: the newest has not been tried."""
        return state["x"].view_as(values) if "x" in state else values

    def renewed(self, state: State) -> State:
        """The model without the last point: its score is not to be compared with those of another objective."""
        return {name: value for name, value in state.items() if name not in ("x", "g", "score", "way")}

    def _learn(self, x: Tensor, g: Tensor, score: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take the last step into the history; where it was no good, go back to where it began."""
        move, turn = x - state["x"] if self.held else state["way"], state["g"] - g
        good = score >= state["score"] + 1e-4 * _dot(state["g"], move) - self.noise * state["score"].abs()
        bend, turned = _dot(move, turn), _dot(turn, turn)
        useful = bend > 1e-10 * turned
        slot = int(state["count"]) % self.memory  # `count` lies on the CPU
        state["count"] = state["count"] + 1
        state["moves"][slot], state["turns"][slot] = move, turn
        state["bend"][slot] = torch.where(useful, bend, 0)  # 0 leaves the pair out
        state["moved"][slot], state["turned"][slot] = _dot(move, move), turned
        kept = good[:, None].to(x)  # one or the other, faster than `where`
        return (
            torch.lerp(state["x"], x, kept),
            torch.lerp(state["g"], g, kept),
            torch.where(good, score, state["score"]),
            good,
        )

    def _model(self, x: Tensor, g: Tensor, state: State) -> Tensor:
        """The inverse curvature times the gradient (two-loop recursion), on the values that are free to move."""
        free = None
        if self.held and self.low is not None and self.high is not None:
            free = ~((x <= self.low) & (g < 0) | (x >= self.high) & (g > 0))
            g = g * free
        count = int(state["count"])
        slots = [place % self.memory for place in range(max(0, count - self.memory), count)]
        moves, turns, bend = state["moves"], state["turns"], state["bend"]
        rho = torch.where(bend > 0, 1 / bend.where(bend > 0, torch.ones_like(bend)), 0)
        way, shares = g.clone(), []
        for slot in reversed(slots):
            share = rho[slot] * _dot(moves[slot], way)
            way.addcmul_(share[:, None], turns[slot], value=-1)
            shares.append(share)
        way *= self._length(g, state, slots)[:, None]
        for slot, share in zip(slots, reversed(shares), strict=True):
            back = rho[slot] * _dot(turns[slot], way)
            way.addcmul_((share - back)[:, None], moves[slot])
        return way if free is None else way * free

    def _length(self, g: Tensor, state: State, slots: list[int]) -> Tensor:
        """The inverse curvature where the model knows nothing, (N,)."""
        bend, moved, turned = state["bend"], state["moved"], state["turned"]
        length: Tensor = self.rate / g.norm(dim=1).clamp(min=1e-30)  # of the first step
        if self.long:
            counts = bend > 0
            total, moved, turned = ((one * counts).sum(0) for one in (bend, moved, turned))
            some = total > 0
            total, moved, turned = (one.where(some, torch.ones_like(one)) for one in (total, moved, turned))
            return torch.where(some, (total / turned) ** (1 - self.long) * (moved / total) ** self.long, length)
        for slot in slots:  # the newest pair that counts
            length = torch.where(bend[slot] > 0, bend[slot] / turned[slot].clamp(min=1e-30), length)
        return length


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The products of rows, (N,)."""
    if a.device.type != "cpu":
        return (a * b).sum(1)
    return torch.bmm(a[:, None], b[:, :, None])[:, 0, 0]  # without a tensor of all products
