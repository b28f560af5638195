"""The least and the largest value of every score while the picture moves within a box, by intervals."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.question import check_network, check_pictures
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.bounds.intervals import Interval, propagate
from saccade.networks.bounds.tape import record


def interval_bounds(
    network: nn.Module, low: Float[Tensor, "n c h w"], high: Float[Tensor, "n c h w"], *, batch_size: int = 64
) -> Interval:
    """Bounds (N, classes) on the scores of all pictures between `low` and `high`, cheap and loose.

    They hold in exact arithmetic and for the network as it is run in the dtype of its parameters (not under autocast).

    Args:
        network: pictures in [0, 1] to scores (N, classes), of convolutions, linear layers, batch norm, sums, monotone
            activations, average and max pools and rearrangements; in eval mode.
        low, high: float32 or float64 in [0, 1], low <= high.
        batch_size: the most pictures at once.

    Raises:
        SaccadeError: no such pictures, or the network does something for which there are no bounds; it is named.
    """
    operation = "bound the scores"
    network, low, high, unit = exact(network, low, high, operation)
    found = []
    with evaluating(network):
        tape = record(network, low, operation)
        for one, other in zip(torch.split(low, batch_size), torch.split(high, batch_size), strict=True):
            found.append(propagate(tape, Interval(one, other), unit).intervals[-1])
    return Interval(torch.cat([i.lower for i in found]), torch.cat([i.upper for i in found]))


def exact(network: nn.Module, low: Tensor, high: Tensor, operation: str) -> tuple[nn.Module, Tensor, Tensor, float]:
    """A copy of the network and the ends of the boxes in float64, and the rounding unit of the network as it is."""
    check_network(network, low, operation)
    kept = [p.dtype for p in network.parameters() if p.is_floating_point()]
    unit = max((torch.finfo(dtype).eps / 2 for dtype in kept), default=torch.finfo(low.dtype).eps / 2)
    low, high = check_pictures(low, operation).double(), check_pictures(high, operation).double()
    if low.shape != high.shape or (low > high).any():
        raise SaccadeError(f"Could not {operation}: low is above high somewhere, or of another shape; expected a box.")
    return copy.deepcopy(network).double(), low, high, unit
