"""Interval bounds: the least and the largest value of every node while the picture moves within a box.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): a box goes through an affine map as its centre and its
radius, the radius through the absolute values of the matrix; through a monotone function as its two ends. Every affine
step is widened by what rounding can do to it, so that the bounds hold for the network as it runs in its own floating
point numbers, too.
"""

from dataclasses import dataclass

from torch import Tensor

from saccade.networks.bounds.steps import Affine, Maximum, Step, Tape

SLACK = 2  # units, for the value of a function such as tanh
UNIT = 2.0**-53  # of float64, in which bounds are computed


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


def propagate(tape: Tape, pictures: Interval, unit: float) -> Ranges:
    """The ranges of all nodes, for a box of pictures, in its dtype; gradients pass where they are turned on.

    unit: half the spacing at 1 of the network's floats, for bounds in float64; 0 ignores rounding.
    """
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
        centre, radius = (v.to(given[0].lower) for v in (step.linear(*centres), step.size(*radii)))  # autocast: back
        centre = centre if step.shift is None else centre + step.shift
        error = None
        if step.terms and unit:
            size = step.size(*(c.abs() + r for c, r in zip(centres, radii, strict=True)))
            error = _rounding(step.terms, unit) * (size if step.shift_size is None else size + step.shift_size)
            radius = radius + error
        lower, upper = centre - radius, centre + radius
    ranges.intervals.append(Interval(lower, upper))
    ranges.errors.append(error)


def _rounding(terms: int, unit: float) -> float:
    """How far a sum of `terms` products may be off in any order of summation, as a share of the sum of their sizes.

    n u / (1 - n u) (Higham 2002, section 3.1), once for the network and once for its bounds. Past a half, where 16-bit
    networks get, which sum in float32, it stays at twice n u.
    """
    share = terms * (unit + UNIT)
    return share / (1 - min(share, 0.5))
