"""Conductance: how much of the score flows through each neuron of a layer, on the way from a baseline to the picture.

Dhamdhere, Sundararajan and Yan 2018, "How Important Is a Neuron?", arXiv:1805.12233.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks
from saccade.errors import SaccadeError
from saccade.explain.cam import cam_layer, split
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking, finished
from saccade.explain.sums import Line, at_once, batch, rows_at_once


def conductance(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    baseline: Fill = 0.0,
    steps: int = 50,
    batch_size: int | None = None,
) -> Float[Tensor, "n c a b"]:
    """Each neuron's share of the difference between the score and that of a baseline, signed; they sum to it.

    Dhamdhere and others 2018, arXiv:1805.12233. Integrated gradients of a layer: the integral, along the straight line
    of pictures, of the gradient of the score by a neuron times that neuron's change. It is computed as Shrikumar and
    others 2018, arXiv:1807.09946, show: the neurons' changes from point to point are multiplied by the gradients (here
    the mean of those at both points), so that only the network behind the layer is differentiated. The shares of a
    layer that all of the network passes through sum to the difference, up to an error that more steps make smaller.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: what is explained, see `Target`; a `Unit` must lie behind the layer.
        layer: whose neurons share the score, by its dotted name or itself; None takes the last that gives a map, and
            says so in the log "saccade". Of a layer that runs several times the last run counts.
        baseline: the picture without anything, see `Fill`; black by default.
        steps: parts of the way, 1 or more; there is one gradient more than that.
        batch_size: points at once; by default as many as are fast and fit into memory.

    Returns:
        (N, C, h, w), as the layer gives out, in units of the score.

    Raises:
        SaccadeError: the pictures or the baseline have another shape or type, there is no such target or layer, the
            layer gives no maps, the unit does not lie behind it, or steps below 1.
    """
    operation = "compute conductance"
    if steps < 1:
        raise SaccadeError(f"Could not {operation}: {steps} steps were given, expected 1 or more.")
    with asking(network, pictures, target, operation) as question:
        part_of_network = cam_layer(question, layer)
        size = rows_at_once(question, steps + 1, batch_size)
        points = Line(fills(question, baseline), question.x, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
        found = []
        for part in chunks(len(question.x), size):
            n = part.stop - part.start
            total = before = slope_before = torch.zeros(())
            for which in chunks(steps + 1, at_once(part, steps + 1, size)):
                x, rows = batch(question, points, part, which)
                activation, score = split(question, part_of_network, rows, x)
                slopes = question.slope(score, activation)
                for i, (here, slope) in enumerate(
                    zip(torch.split(activation.detach(), n), torch.split(slopes, n), strict=True)
                ):
                    if which.start + i > 0:
                        total = total + (here - before) * (slope + slope_before) / 2
                    before, slope_before = here, slope
            found.append(total)
        return finished(torch.cat(found), operation)
