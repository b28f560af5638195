"""Sensitivity: how much a map changes when the picture changes by what nobody sees.

Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, "On the (In)fidelity and Sensitivity of Explanations", arXiv:1901.09392,
definition 3.1, by Monte Carlo. A constant map is the best there is by this measure, so it says little alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.question import Target
from saccade.networks.targets import check_input


def sensitivity(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    method: Callable[..., Tensor],
    *,
    radius: float = 0.02,
    samples: int = 10,
    relative: bool = True,
    seed: int = 0,
    **settings: Any,
) -> Float[Tensor, " n"]:
    """The largest change of the map, its L2 norm, over random pictures in an L-infinity ball; low is stable.

    Args:
        method: (network, pictures, target, **settings) -> (N, 3, H, W) or (N, H, W).
        radius: of the ball, in pixel units; changes are uniform, and the same for every picture.
        samples: how many changed pictures, so it is a lower bound of the true maximum.
        relative: divide by the norm of the unchanged map, so that methods can be compared.

    Returns:
        (N,), zero or more; infinite, if relative, for a map of zeros that does not stay so.

    Raises:
        SaccadeError: a number out of range, pictures of another shape; whatever the method raises.
    """
    operation = "score by sensitivity"
    check_input(pictures, operation)
    if samples < 1 or not radius > 0:
        raise SaccadeError(
            f"Could not {operation}: samples={samples} and radius={radius} were given, expected 1 or more, above 0."
        )
    x = pictures.detach()
    draw = generator(seed, 0x5E45)
    clean = method(network, x, target, **settings).detach()
    largest = torch.zeros(len(x), dtype=clean.dtype, device=clean.device)
    for _ in range(samples):
        noise = (2 * torch.rand(x.shape[1:], dtype=torch.float64, generator=draw) - 1) * radius
        change = method(network, x + noise.to(x), target, **settings).detach() - clean
        largest = torch.maximum(largest, change.flatten(1).norm(dim=1))
    if not relative:
        return largest
    return torch.where(largest == 0, largest, largest / clean.flatten(1).norm(dim=1))
