"""How accuracy falls with the budget, from the smallest change that fools each picture: all budgets at one's price."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack.attacks import Attack
from saccade.attack.evaluate.wilson import wilson
from saccade.attack.fmn import fmn
from saccade.errors import SaccadeError

SMALLEST = Attack("smallest", "FMN, smallest changes", fmn, "arXiv:2102.12827", norms=("linf", "l2", "l1", "l0"))
"""What looks for the smallest changes."""


@dataclass(frozen=True)
class Curve:
    """The share of pictures that no change up to eps was found for, at each of `eps`, with Wilson intervals of 95 %."""

    eps: Float[Tensor, " k"]
    robust: Float[Tensor, " k"]
    low: Float[Tensor, " k"]
    high: Float[Tensor, " k"]


def robustness_curve(smallest: Float[Tensor, " n"], *, eps: float | None = None, points: int = 65) -> Curve:
    """Accuracy over budgets, from no change at all on.

    Args:
        smallest: the size of the smallest change that fools each picture; 0 where the network was wrong before,
            infinite where none was found.
        eps: the curve goes up to twice this, and farther until it has fallen by 95 % of what it falls in all. None
            leaves only the latter.
        points: of the curve, evenly spaced; with an even number of steps eps is one of them if nothing is farther.

    Raises:
        SaccadeError: no pictures, or fewer than two points.
    """
    if smallest.numel() == 0 or points < 2:
        raise SaccadeError(
            f"Could not draw a robustness curve: {smallest.numel()} pictures and {points} points were given, expected "
            "one picture and two points or more."
        )
    sizes = smallest.double().cpu()
    finite = sizes[torch.isfinite(sizes) & (sizes > 0)]
    farthest = float(finite.quantile(0.95)) if len(finite) else 0.0
    reach = max(2 * (eps or 0.0), farthest) or 1.0
    at = torch.linspace(0, reach, points, dtype=torch.float64)
    counts = [int((sizes > one * (1 + 1e-6)).sum()) for one in at.tolist()]
    bounds = torch.tensor([wilson(count, len(sizes)) for count in counts], dtype=torch.float64)
    return Curve(at, torch.tensor(counts, dtype=torch.float64) / len(sizes), bounds[:, 0], bounds[:, 1])
