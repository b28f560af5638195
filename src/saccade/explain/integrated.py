"""Integrated gradients: the gradient averaged along the straight line from a baseline, times the way.

Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking, finished
from saccade.explain.scores.completeness import completeness
from saccade.explain.sums import Line, rows_at_once, summed_gradient

QUADRATURES = ("gauss-legendre", "trapezoid", "left", "right", "midpoint")


def integrated_gradients(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    baseline: Fill = 0.0,
    steps: int = 50,
    quadrature: str = "gauss-legendre",
    batch_size: int | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Each pixel's share of the difference between the score and that of a baseline, signed; they sum to it.

    Sundararajan and others 2017, arXiv:1703.01365. The sum is exact up to the error of the quadrature, which
    `completeness_gap` measures; more steps make it smaller.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: what is explained, see `Target`.
        baseline: the picture without anything, see `Fill`; black by default. What is as dark as a black baseline gets
            no share, so it matters.
        steps: gradients a picture, 1 or more.
        quadrature: where on the line they are taken and how they are weighted: Gauss-Legendre, the trapezoidal rule
            with both ends (2 steps or more), or the left ends, right ends or middles of equal parts.
        batch_size: points at once; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), of the device and dtype of `pictures`, in units of the score.

    Raises:
        SaccadeError: the pictures or the baseline have another shape or type, there is no such target or quadrature, or
            too few steps.
    """
    operation = "compute integrated gradients"
    places, weights = on_the_line(quadrature, steps, operation)
    with asking(network, pictures, target, operation) as question:
        size = rows_at_once(question, steps, batch_size)
        base = fills(question, baseline)
        way = question.x - base
        mean = summed_gradient(question, Line(base, question.x, places), weights, size)
        return finished(mean * way, operation)


def completeness_gap(
    network: nn.Module, pictures: Tensor, target: Target, attribution: Tensor, *, baseline: Fill = 0.0
) -> Float[Tensor, " n"]:
    """By how much the sum of an attribution is larger than score less baseline's score, signed, in units of the score.

    attribution: (N, 3, H, W) or (N, H, W), made with the same `baseline`. The rest, and more, is in
    `saccade.explain.scores.completeness`.
    """
    found = completeness(network, pictures, target, attribution, baseline=baseline)
    return found.total - found.expected


def on_the_line(quadrature: str, steps: int, operation: str) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Places in [0, 1] and their weights, of sum 1, in float64."""
    fewest = 2 if quadrature == "trapezoid" else 1
    if quadrature not in QUADRATURES or steps < fewest:
        raise SaccadeError(
            f"Could not {operation}: quadrature {quadrature!r} with {steps} steps was given, expected one of "
            f"{', '.join(QUADRATURES)} with 1 step or more, trapezoid with 2 or more."
        )
    if quadrature == "gauss-legendre":
        nodes, shares = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(shares / 2)
    if quadrature == "trapezoid":
        weights = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        weights[[0, -1]] /= 2
        return torch.linspace(0, 1, steps, dtype=torch.float64), weights
    offset = {"left": 0.0, "right": 1.0, "midpoint": 0.5}[quadrature]
    places = (torch.arange(steps, dtype=torch.float64) + offset) / steps
    return places, torch.full_like(places, 1 / steps)
