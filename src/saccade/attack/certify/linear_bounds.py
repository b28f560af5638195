"""The least and the largest value of every score while the picture moves within a box, by lines: CROWN."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.certify.bounds import exact
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.bounds.intervals import Interval
from saccade.networks.bounds.lines import Method, around, tighten
from saccade.networks.bounds.tape import record

METHODS = ("ibp", "crown-ibp", "crown")


def linear_bounds(
    network: nn.Module,
    low: Float[Tensor, "n c h w"],
    high: Float[Tensor, "n c h w"],
    *,
    method: Method = "crown",
    batch_size: int = 16,
) -> Interval:
    """Bounds (N, classes) on the scores of all pictures between `low` and `high`, never looser than intervals.

    Their cost with "crown" grows with the square of the depth and with the number of neurons: for small networks.
    Arguments, meaning and errors as of `interval_bounds`; activations other than ReLUs and leaky ReLUs, and the upper
    side of max pools, are bounded by constants.
    """
    operation = "bound the scores"
    check_method(method, operation)
    network, low, high, unit = exact(network, low, high, operation)
    found = []
    with evaluating(network):
        tape = record(network, low, operation)
        for one, other in zip(torch.split(low, batch_size), torch.split(high, batch_size), strict=True):
            ranges = tighten(tape, Interval(one, other), unit, method)
            found.append(around(tape, ranges, len(tape.steps), torch.arange(tape.shapes[-1][0]), method))
    return Interval(torch.cat([i.lower for i in found]), torch.cat([i.upper for i in found]))


def check_method(method: str, operation: str) -> None:
    """Raise `SaccadeError` for a method that is not there."""
    if method not in METHODS:
        raise SaccadeError(f"Could not {operation}: there is no method {method!r}; there are {', '.join(METHODS)}.")
