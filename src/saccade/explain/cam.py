"""What class activation maps share: a layer and its maps, the score behind it, and how a map becomes a picture.

A class activation map (CAM) is a weighted sum of the maps of one layer; the methods differ in the weights. The layer
cuts the network in two: what lies before it is run without a graph, and only what lies behind it is differentiated.
A layer that runs several times counts by its last run.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.errors import SaccadeError
from saccade.explain.question import Question, Target, Unit, asking
from saccade.networks.activations import find_layer, last_spatial_layer

Weigh = Callable[[Tensor, Tensor], Tensor]
"""Activations and their gradients, both (m, C, h, w), to maps (m, h, w)."""


def cam_layer(question: Question, layer: str | nn.Module | None) -> nn.Module:
    """The layer that a person named, or the last that gives a map, which is then told to the log "saccade".

    Raises `SaccadeError` if there is no such layer, or if the target is a unit of the layer itself.
    """
    if layer is None:
        with torch.no_grad():
            layer = last_spatial_layer(question.network, question.x[:1])
        logging.getLogger("saccade").info(
            "No layer was given to %s: taken is %s, the last that gives a map.", question.operation, layer
        )
    found = find_layer(question.network, layer)
    if isinstance(question.target, Unit) and find_layer(question.network, question.target.layer) is found:
        raise _not_behind(question, "is a part of the layer itself")
    return found


def batches(question: Question, batch_size: int | None) -> Iterator[Int[Tensor, " m"]]:
    """The numbers of all pictures, as many together as may be run at once."""
    size = rows_at_once(question.network, question.x, batch_size, wanted=len(question.x))
    rows = torch.arange(len(question.x), device=question.x.device)
    return (rows[chunk] for chunk in chunks(len(rows), size))


def split(
    question: Question, layer: nn.Module, rows: Int[Tensor, " m"], x: Float[Tensor, "m 3 h w"] | None = None
) -> tuple[Float[Tensor, "m c a b"], Float[Tensor, " m"]]:
    """What `layer` gives for some of the pictures, and the score as a function of it.

    The activations are a leaf of the graph that ends in the score; nothing is recorded before them. Under
    `torch.no_grad` nothing is recorded at all. x: what was made from those pictures, by default they themselves.
    """
    leaf: Tensor | None = None

    def cut(layer: nn.Module, inputs: Any, output: Any) -> Tensor:  # noqa: ARG001 - PyTorch's signature
        nonlocal leaf
        check_maps(question, layer, output, len(rows))
        leaf = output.detach().clone().requires_grad_()  # a copy, as a layer may give out what it was given
        return leaf.clone()  # a ReLU behind the layer may write into it

    hook = layer.register_forward_hook(cut)
    try:
        score = question.score(question.x[rows] if x is None else x, rows)
    finally:
        hook.remove()
    if leaf is None:
        raise did_not_run(question, layer)
    return leaf, score


def check_maps(question: Question, layer: nn.Module, output: Any, count: int) -> None:
    """Raise `SaccadeError` unless a layer's output is maps, (count, C, h, w)."""
    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != count:
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SaccadeError(
            f"Could not {question.operation}: the layer ({type(layer).__name__}) gives {given}, expected maps "
            f"({count}, channels, height, width). Name another layer."
        )


def did_not_run(question: Question, layer: nn.Module) -> SaccadeError:
    """What to raise if a layer did not run before the target was reached."""
    if isinstance(question.target, Unit):
        return _not_behind(question, "gives its output before the layer has run")
    return SaccadeError(f"Could not {question.operation}: the layer ({type(layer).__name__}) does not run.")


def gradient_map(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    operation: str,
    weigh: Weigh,
    layer: str | nn.Module | None,
    relu: bool,
    enlarge: bool,
    batch_size: int | None,
) -> Float[Tensor, "n a b"]:
    """The maps that `weigh` makes of a layer's activations and the gradients of the score by them."""
    with asking(network, pictures, target, operation) as question:
        part = cam_layer(question, layer)
        found = []
        for rows in batches(question, batch_size):
            activation, score = split(question, part, rows)
            found.append(weigh(activation.detach(), question.slope(score, activation)))
        return as_map(torch.cat(found), question, relu=relu, enlarge=enlarge)


def weighted_sum(weights: Float[Tensor, "m c"], activation: Float[Tensor, "m c a b"]) -> Float[Tensor, "m a b"]:
    """The sum of the maps of a layer, each times its weight."""
    return torch.einsum("mc,mcab->mab", weights, activation)


def as_map(found: Float[Tensor, "n a b"], question: Question, *, relu: bool, enlarge: bool) -> Float[Tensor, "n h w"]:
    """What is positive in a map, if wanted, and the map enlarged bilinearly to the size of the pictures, if wanted."""
    found = found.relu() if relu else found
    if not enlarge:
        return found
    size = question.x.shape[2:]
    return F.interpolate(found[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _not_behind(question: Question, how: str) -> SaccadeError:
    assert isinstance(question.target, Unit)
    unit = f"{question.target.layer}:{question.target.channel}"
    return SaccadeError(
        f"Could not {question.operation}: the unit {unit} {how}. A map explains what lies behind its layer; "
        "name an earlier layer, layer=..., or a later unit."
    )
