"""Linear bounds: sums of a node's values held between linear functions of the picture.

CROWN (Zhang et al. 2018, arXiv:1811.00866): from a sum of scores backwards, every affine step is undone exactly, and
every ReLU is replaced by the line below or above it that the sign of its coefficient calls for, until the sum is
bounded by a linear function of the picture, whose least value in a box is known. The lines need bounds on what comes
into the ReLU: found in the same way ("crown"), or by intervals ("crown-ibp", Zhang et al. 2020, arXiv:1906.06316).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.networks.bounds.intervals import Interval, Ranges, advance
from saccade.networks.bounds.steps import Affine, Maximum, Monotone, Step, Tape

Method = Literal["ibp", "crown-ibp", "crown"]
ROWS = 256  # sums of neurons that are bounded at once
TINY = 2.0**-50  # of float64, in which the lines are drawn


@dataclass(frozen=True)
class Form:
    """constant (S, N) and, for nodes, coefficients (S, N, ...): S sums of these nodes for each picture."""

    coefficients: dict[int, Tensor]
    constant: Tensor


def tighten(tape: Tape, pictures: Interval, unit: float, method: Method) -> Ranges:
    """The ranges of all nodes; with "crown" linear bounds for neurons whose ReLU may be on or off, and of maxima."""
    ranges = Ranges([pictures], [None])
    for step in tape.steps:
        if method == "crown" and not isinstance(step, Affine) and step.inputs[0] > 0:
            _narrow(tape, ranges, step)
        advance(step, ranges, unit)
    return ranges


def lowest(
    tape: Tape, ranges: Ranges, node: int, coefficients: Float[Tensor, "s n ..."], method: Method
) -> Float[Tensor, "s n"]:
    """A lower bound on sums of the values of `node`.

    "ibp" undoes affine steps only, down to the first step that is not, and takes that one's interval; the others go on
    to the pictures.
    """
    form = pull(tape, ranges, node, coefficients, relax=method != "ibp")
    total = form.constant
    for at, a in form.coefficients.items():
        box = ranges.intervals[at]
        total = total + (a * box.centre - a.abs() * box.radius).flatten(2).sum(2)
    return total


def lowest_leads(tape: Tape, ranges: Ranges, labels: Int[Tensor, " n"], method: Method) -> Float[Tensor, "n classes"]:
    """Lower bounds on the lead of each label's score over every class's, 0 over itself.

    What is bounded is the difference of two scores, its affine steps merged, which is tighter than the difference of
    two bounds (Gowal et al. 2018, section 3). Lines do not always beat intervals, least of all where a network was
    trained on these: both are sound, and the better is given.
    """
    classes = tape.shapes[-1][0]
    unit = torch.eye(classes).to(ranges.intervals[0].lower)
    leads = unit[labels] - unit[:, None, :]  # (class, picture, score)
    near = lowest(tape, ranges, len(tape.steps), leads, "ibp").T
    return near if method == "ibp" else torch.maximum(near, lowest(tape, ranges, len(tape.steps), leads, method).T)


def pull(tape: Tape, ranges: Ranges, node: int, coefficients: Tensor, *, relax: bool) -> Form:
    """Sums of the values of `node`, bounded from below by sums of earlier nodes.

    relax: down to the pictures, with lines for what is not affine. Otherwise down to the outputs of the steps that are
    not affine and the pictures, equal but for rounding.
    """
    pending, kept = {node: coefficients}, dict[int, Tensor]()
    constant = coefficients.new_zeros(coefficients.shape[:2])
    while pending:
        at = max(pending)
        a = pending.pop(at)
        step = tape.steps[at - 1] if at else None
        if step is None or not (relax or isinstance(step, Affine)):
            kept[at] = a
            continue
        if isinstance(step, Affine):
            error = ranges.errors[at]
            if step.shift is not None:
                constant = constant + (a * step.shift).flatten(2).sum(2)
            if error is not None:
                constant = constant - (a.abs() * error).flatten(2).sum(2)
            parts = _transposed(tape, step, a)
        else:
            part, added = _line(step, ranges, at, a)
            parts, constant = (part,), constant + added
        for source, part in zip(step.inputs, parts, strict=True):
            pending[source] = pending[source] + part if source in pending else part
    return Form(kept, constant)


def _transposed(tape: Tape, step: Affine, a: Tensor) -> tuple[Tensor, ...]:
    """What the transposed matrix of an affine step makes of coefficients (S, N, ...), for each of its inputs."""
    rows = a.shape[0] * a.shape[1]
    on = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [a.new_zeros(rows, *tape.shapes[i]).requires_grad_() for i in step.inputs]
        given = a.reshape(rows, *a.shape[2:])
        back = torch.autograd.grad(step.linear(*inputs), inputs, given, create_graph=on)
    return tuple(g.reshape(*a.shape[:2], *g.shape[1:]) for g in back)


def _line(step: Step, ranges: Ranges, at: int, a: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the step's input, and what they lack, so that the sum is a lower bound of that of its output."""
    low, high = ranges.intervals[step.inputs[0]].lower, ranges.intervals[step.inputs[0]].upper
    out = ranges.intervals[at]
    above, below = a.clamp(min=0), a.clamp(max=0)
    if isinstance(step, Maximum):  # at least the value that is sure to be highest at worst
        with torch.enable_grad():
            tied = low.detach().expand(a.shape[0], *low.shape).flatten(0, 1).clone().requires_grad_()
            (part,) = torch.autograd.grad(step.function(tied), tied, above.flatten(0, 1))
        return part.reshape(*a.shape[:2], *low.shape[1:]), (below * out.upper).flatten(2).sum(2)
    if not isinstance(step, Monotone) or step.leak is None or step.leak > 1:
        return torch.zeros_like(a), (above * out.lower + below * out.upper).flatten(2).sum(2)
    leak = step.leak
    on, off = low >= 0, high <= 0
    unsure = ~on & ~off
    width = torch.where(unsure, high - low, 1)
    chord = torch.where(on, 1.0, torch.where(off, leak, (high - leak * low) / width))
    # The chord meets the two ends; what rounding does to it is less than TINY of their size.
    lift = torch.where(unsure, (leak - 1) * low * high / width + TINY * (low.abs() + high.abs()), 0)
    under = torch.where(on | (unsure & (high > -low)), 1.0, leak)
    return above * under + below * chord, (below * lift).flatten(2).sum(2)


def _narrow(tape: Tape, ranges: Ranges, step: Step) -> None:
    """Linear bounds for the input of `step`, of each picture where they matter to it."""
    node = step.inputs[0]
    box = ranges.intervals[node]
    matters = torch.ones_like(box.lower, dtype=torch.bool)
    if isinstance(step, Monotone) and step.leak is not None:
        matters = (box.lower < 0) & (box.upper > 0)
    rows = matters.flatten(1).any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return
    near = around(tape, ranges, node, rows, "crown")
    lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
    use = matters.flatten(1)[:, rows]
    lower[:, rows] = torch.where(use, near.lower, lower[:, rows])
    upper[:, rows] = torch.where(use, near.upper, upper[:, rows])
    ranges.intervals[node] = Interval(lower.view_as(box.lower), upper.view_as(box.upper))


def around(tape: Tape, ranges: Ranges, node: int, rows: Tensor, method: Method) -> Interval:
    """Bounds (N, R) on the values `rows` of a node, no looser than its interval."""
    box, shape = ranges.intervals[node], tape.shapes[node]
    lower, upper = [], []
    for some in torch.split(rows, ROWS):
        unit = torch.zeros(len(some), math.prod(shape)).to(box.lower)
        unit[torch.arange(len(some)), some] = 1
        spec = unit.view(len(some), 1, *shape).expand(len(some), len(box.lower), *shape)
        lower.append(lowest(tape, ranges, node, spec, method).T)
        upper.append(-lowest(tape, ranges, node, -spec, method).T)
    flat = Interval(box.lower.flatten(1)[:, rows], box.upper.flatten(1)[:, rows])
    return Interval(torch.maximum(torch.cat(lower, 1), flat.lower), torch.minimum(torch.cat(upper, 1), flat.upper))
