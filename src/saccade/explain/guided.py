"""Guided backpropagation and the deconvnet: gradients that pass a ReLU by another rule, see `networks.relu_rules`."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node

from saccade.engine.chunks import chunks, rows_at_once
from saccade.errors import SaccadeError
from saccade.explain.question import Question, Target, asking, finished
from saccade.networks.graph import steps
from saccade.networks.relu_rules import Rule, follow, relus


def guided_backprop(
    network: nn.Module, pictures: Tensor, target: Target, *, batch_size: int | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Guided backpropagation: the gradient, with its negative values dropped at every ReLU on the way back.

    Springenberg and others 2014, arXiv:1412.6806, section 3.4. Sharp, but it hardly changes when the weights are drawn
    anew (Adebayo and others 2018, arXiv:1810.03292): it shows the picture's structure more than the network's reasons.
    With a `Unit` as target it shows what that unit sees. Other activations of the network keep their gradient.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax; with ReLUs, or with
            activations that are cut off below 0 as they are, such as ReLU6.
        pictures: float (N, 3, H, W), on the device of the network.
        target: what is explained, see `Target`.
        batch_size: pictures at once; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), signed, of the device and dtype of `pictures`.

    Raises:
        SaccadeError: there is no ReLU on the way to the score, the pictures have another shape or type, or there is no
            such target.
    """
    return _through_relus(network, pictures, target, batch_size, "compute guided backpropagation", "guided")


def deconvnet(
    network: nn.Module, pictures: Tensor, target: Target, *, batch_size: int | None = None
) -> Float[Tensor, "n 3 h w"]:
    """The deconvnet: what a score or a unit saw, projected back with ReLUs that look at the gradient only.

    Zeiler and Fergus 2013, arXiv:1311.2901, section 2.1. Max pooling is undone by its switches, each value going back
    to the place of the maximum, which is its ordinary gradient; convolutions are transposed, as in any gradient. Batch
    norms, which the paper has not, and other activations keep their gradient. Arguments and errors are those of
    `guided_backprop`.
    """
    return _through_relus(network, pictures, target, batch_size, "compute the deconvnet", "deconvnet")


def _through_relus(
    network: nn.Module, pictures: Tensor, target: Target, batch_size: int | None, operation: str, rule: Rule
) -> Float[Tensor, "n 3 h w"]:
    with asking(network, pictures, target, operation) as question:
        found = torch.empty_like(question.x)
        size = rows_at_once(network, question.x, batch_size, wanted=len(found))
        for part in chunks(len(found), size):
            x = question.x[part].detach().requires_grad_()
            score = question.score(x, torch.arange(part.start, part.stop, device=x.device))
            follow(_relus(question, score), rule)
            found[part] = question.slope(score, x)
    return finished(found, operation)


def _relus(question: Question, score: Tensor) -> list[Node]:
    """The steps that cut off what is below 0; raises `SaccadeError` if the score was computed without any."""
    found = relus(score)
    if not found and any(steps(score)):
        raise SaccadeError(
            f"Could not {question.operation}: it changes how gradients pass ReLUs, and there is none on the way to the "
            "score (other activations, such as GELU, SiLU or sigmoid, have no such rule; a compiled network hides its "
            "own). Take the gradient, SmoothGrad or integrated gradients."
        )
    return found
