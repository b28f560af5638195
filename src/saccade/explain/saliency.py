"""Saliency: how much the score of a class would change if a pixel did.

Simonyan, Vedaldi, Zisserman 2014, "Deep Inside Convolutional Networks", arXiv:1312.6034, section 3; the first block of
the course's third notebook.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.explain.question import Question, Target, asking, finished


def gradient(
    network: nn.Module, pictures: Tensor, target: Target, *, batch_size: int | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Gradient of the raw score by the picture, signed: score per unit of pixel value.

    The map of one picture does not depend on the others, up to rounding. The network is run in evaluation mode and
    left as it was; no gradient reaches its parameters.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is followed, see `Target`.
        batch_size: pictures at once; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type, or there is no such target.
    """
    operation = "compute a gradient"
    with asking(network, pictures, target, operation) as question:
        return finished(_gradients(question, batch_size), operation)


def saliency(
    network: nn.Module, pictures: Tensor, target: Target, *, batch_size: int | None = None
) -> Float[Tensor, "n h w"]:
    """Absolute gradient of the raw score by the picture, its maximum over the colours: (N, H, W), zero or more.

    Arguments and errors are those of `gradient`.
    """
    operation = "compute a saliency map"
    with asking(network, pictures, target, operation) as question:
        return finished(_gradients(question, batch_size).abs().amax(1), operation)


def input_x_gradient(
    network: nn.Module, pictures: Tensor, target: Target, *, batch_size: int | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Gradient times picture, signed; of a network that is linear without a bias it sums to the score.

    Shrikumar and others 2016, arXiv:1605.01713. Arguments and errors are those of `gradient`.
    """
    operation = "compute gradient x input"
    with asking(network, pictures, target, operation) as question:
        return finished(_gradients(question, batch_size) * question.x, operation)


def _gradients(question: Question, batch_size: int | None) -> Float[Tensor, "n 3 h w"]:
    rows = torch.arange(len(question.x), device=question.x.device)
    size = rows_at_once(question.network, question.x, batch_size, wanted=len(rows))
    parts = [question.gradient(question.x[part], rows[part])[1] for part in chunks(len(rows), size)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
