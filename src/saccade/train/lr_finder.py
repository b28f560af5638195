"""A range test of the learning rate (Smith 2017, arXiv:1506.01186), on a copy of the network."""

import copy
import math
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from saccade.data.images import ImageSet
from saccade.engine.distributed import World
from saccade.engine.guards import random_state
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.train.optimisers import set_rate
from saccade.train.recipe import Recipe
from saccade.train.state import Fit


@dataclass(frozen=True)
class RateRange:
    """Learning rates tried, the smoothed loss at each, and a suggestion: a third of the rate at the lowest loss."""

    rates: list[float]
    losses: list[float]
    suggestion: float

    def plot(self) -> Float[Tensor, "3 h w"]:
        """The curve as a picture, loss over learning rate, with the suggestion marked."""
        from saccade.pictures import Curve, curves

        line = {"loss": Curve(self.losses, x=self.rates)}
        marks = {f"suggestion {self.suggestion:.2g}": self.suggestion}
        return curves(line, x_label="peak learning rate", y_label="cross entropy", log_x=True, marks=marks)


def find_rate(
    network: Network,
    train: ImageSet,
    recipe: Recipe,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
) -> RateRange:
    """Train a copy of `network` while the learning rate rises from `low` to `high`, and watch the loss.

    The rates of all parameter groups keep their proportions; the figures are those of the recipe's first learning
    rate (`muon_lr` under Muon, else `lr`). Stops early when the loss is four times its minimum or no longer finite.
    The network and the random state are left as they were. Raises `SaccadeError` if fewer than five steps were of use.
    """
    if not 0 < low < high or steps < 10:
        raise SaccadeError(
            f"Finding a learning rate: low={low}, high={high}, steps={steps} were given; expected "
            "0 < low < high and at least 10 steps."
        )
    trial = replace(recipe, lookahead=False, ema=0.0)
    with random_state():
        device = next(network.parameters()).device
        state = Fit(copy.deepcopy(network), train, trial, world=World(0, 1, device))
        named = recipe.muon_lr if recipe.optimiser == "muon" else recipe.lr
        rates: list[float] = []
        losses: list[float] = []
        smooth, epoch = 0.0, 0
        batches = state.batches.epoch(0)
        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            batch = next(batches, None)
            if batch is None:
                epoch += 1
                batches = state.batches.epoch(epoch)
                batch = next(batches)
            set_rate(state.optimisers, rate / named)
            loss = state.update(*batch)
            state.step += 1
            value = float(loss)
            if not math.isfinite(value):
                break
            smooth = 0.9 * smooth + 0.1 * value
            rates.append(rate)
            losses.append(smooth / (1 - 0.9 ** (step + 1)))
            if losses[-1] > 4 * min(losses):
                break
    if len(losses) < 5:
        raise SaccadeError(
            f"Finding a learning rate: the loss left all bounds after {len(losses)} steps; give a lower "
            f"bound below {low:g}."
        )
    best = min(range(len(losses)), key=losses.__getitem__)
    return RateRange(rates, losses, rates[best] / 3)
