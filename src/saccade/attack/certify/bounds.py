"""Interval bounds: the least and the largest value of every score while the picture moves within a box.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): a box goes through an affine map as its centre and its
radius, the radius through the absolute values of the matrix; through a monotone function as its two ends. Every affine
step is widened by what rounding can do to it, so that the bounds hold for the network as it runs in its own floating
point numbers, too.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.certify.steps import Affine, Maximum, Step, Tape
from saccade.attack.certify.tape import record
from saccade.attack.question import check_network, check_pictures
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError

SLACK = 2  # times the worst case of a sum: for the rounding of the network and that of its bounds


@dataclass(frozen=True)
class Interval:
    """lower <= value <= upper, of one shape."""

    lower: Tensor
    upper: Tensor


@dataclass
class Ranges:
    """What is known of every node of a tape: its interval (N, ...) and, of affine steps, how far rounding moves it."""

    intervals: list[Interval]
    errors: list[Tensor | None]


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


def propagate(tape: Tape, pictures: Interval, unit: float) -> Ranges:
    """The ranges of all nodes, for a box of pictures. unit: half the spacing of floats at 1; 0 ignores rounding."""
    ranges = Ranges([pictures], [None])
    for step in tape.steps:
        advance(step, ranges, unit)
    return ranges


def advance(step: Step, ranges: Ranges, unit: float) -> None:
    """Append the interval of what `step` gives to those of the nodes before."""
    given = [ranges.intervals[i] for i in step.inputs]
    if not isinstance(step, Affine):
        lower, upper = step.function(given[0].lower), step.function(given[0].upper)
        error = None
        if not isinstance(step, Maximum) and step.leak != 0:
            lower, upper = (v + s * SLACK * unit * (1 + v.abs()) for s, v in ((-1, lower), (1, upper)))
    else:
        centres = [(i.lower + i.upper) / 2 for i in given]
        radii = [(i.upper - i.lower) / 2 for i in given]
        centre, radius = step.linear(*centres), step.size(*radii)
        centre = centre if step.shift is None else centre + step.shift
        error = None
        if step.terms and unit:
            size = step.size(*(c.abs() + r for c, r in zip(centres, radii, strict=True)))
            error = SLACK * step.terms * unit * (size if step.shift_size is None else size + step.shift_size)
            radius = radius + error
        lower, upper = centre - radius, centre + radius
    ranges.intervals.append(Interval(lower, upper))
    ranges.errors.append(error)
