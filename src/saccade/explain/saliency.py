"""Saliency: how much the score of a class would change if a pixel did.

Simonyan, Vedaldi, Zisserman 2014, "Deep Inside Convolutional Networks", arXiv:1312.6034, section 3; the first block of
the course's third notebook.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import frozen
from saccade.errors import SaccadeError
from saccade.explain.targets import Target, check_input, class_indices


def saliency(network: nn.Module, pictures: Tensor, target: Target) -> Float[Tensor, "n h w"]:
    """Absolute gradient of the raw class score by the picture, its maximum over the colours.

    The map of one picture does not depend on the others, up to rounding. The network is run in evaluation mode and
    left as it was; no gradient reaches its parameters.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: the class whose score is followed: an index or a name for all pictures, or one for each.

    Returns:
        (N, H, W), zero or more, score per unit of pixel value; of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type, or there is no such class.
    """
    check_input(pictures, "compute a saliency map")
    with torch.inference_mode(False), torch.enable_grad(), frozen(network):
        x = pictures.detach().clone().requires_grad_()
        scores = network(x)
        if scores.ndim != 2 or len(scores) != len(x):
            raise SaccadeError(
                f"Could not compute a saliency map: the network gives {tuple(scores.shape)} for {len(x)} pictures, "
                "expected scores (N, classes). Give the classifier, not a part of it."
            )
        wanted = class_indices(network, target, count=len(x), classes=scores.shape[1])
        # Each score depends on its own picture only, so the gradient of the sum holds the gradient of each.
        total = scores.gather(1, wanted.to(scores.device)[:, None]).sum()
        (gradient,) = torch.autograd.grad(total, x)
    return gradient.abs().amax(dim=1)
