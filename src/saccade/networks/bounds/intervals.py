"""Interval bounds: the least and the largest value of every node while the picture moves within a box.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): a box goes through an affine map as its centre and its
radius, the radius through the absolute values of the matrix; through a monotone function as its two ends. Every affine
step is widened by what rounding can do to it, so that the bounds hold for the network as it runs in its own floating
point numbers, too.
"""

from dataclasses import dataclass

from torch import Tensor

from saccade.networks.bounds.ball import Ball, relu
from saccade.networks.bounds.steps import Affine, Maximum, Monotone, Step, Tape

SLACK = 2  # units, for the value of a function such as tanh
UNIT = 2.0**-53  # of float64, in which bounds are computed


@dataclass(frozen=True)
class Interval:
    """lower <= value <= upper, of one shape."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        return (self.upper - self.lower) / 2


@dataclass
class Ranges:
    """What is known of every node of a tape: its interval (N, ...) and, of affine steps, how far rounding moves it."""

    intervals: list[Interval | Ball]
    errors: list[Tensor | None]


def propagate(tape: Tape, pictures: Interval, unit: float) -> Ranges:
    """The ranges of all nodes, for a box of pictures.

    unit: half the spacing at 1 of the network's floats, for bounds in float64; with 0 rounding is ignored, and the
    bounds have the dtype of the pictures, or of autocast, and gradients where they are turned on.
    """
    ranges = Ranges([pictures], [None])
    for step in tape.steps:
        advance(step, ranges, unit)
    return ranges


def advance(step: Step, ranges: Ranges, unit: float) -> None:
    """Append the interval of what `step` gives to those of the nodes before."""
    given = [ranges.intervals[i] for i in step.inputs]
    if isinstance(step, Affine):
        interval, error = _affine(step, given, unit)
    else:
        interval, error = _monotone(step, given[0], unit), None
    ranges.intervals.append(interval)
    ranges.errors.append(error)


def _affine(step: Affine, given: list[Interval | Ball], unit: float) -> tuple[Interval | Ball, Tensor | None]:
    """The interval of an affine step, and how far rounding moves it."""
    centres, radii = [i.centre for i in given], [i.radius for i in given]
    centre, radius = step.linear(*centres), step.size(*radii)
    centre = centre if step.shift is None else centre + step.shift.to(centre.dtype)
    if not unit:
        return Ball(centre, radius), None
    error = None
    if step.terms:
        size = step.size(*(c.abs() + r for c, r in zip(centres, radii, strict=True)))
        error = _rounding(step.terms, unit) * (size if step.shift_size is None else size + step.shift_size)
        radius = radius + error
    return Interval(centre - radius, centre + radius), error


def _monotone(step: Monotone | Maximum, given: Interval | Ball, unit: float) -> Interval | Ball:
    """The interval of a step that never falls."""
    if isinstance(given, Ball) and isinstance(step, Monotone) and step.leak == 0:
        return relu(given)
    lower, upper = step.function(given.lower), step.function(given.upper)
    if unit and isinstance(step, Monotone) and step.leak != 0:
        lower, upper = (v + s * SLACK * unit * (1 + v.abs()) for s, v in ((-1, lower), (1, upper)))
    return Interval(lower, upper)


def _rounding(terms: int, unit: float) -> float:
    """How far a sum of `terms` products may be off in any order of summation, as a share of the sum of their sizes.

    n u / (1 - n u) (Higham 2002, section 3.1), once for the network and once for its bounds. Past a half, where 16-bit
    networks get, which sum in float32, it stays at twice n u.
    """
    share = terms * (unit + UNIT)
    return share / (1 - min(share, 0.5))
