"""What pictures are charged for: functions (N, 3, H, W) -> (N,), zero or more; subtract them from an objective."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.pictures.optimise.blur import gaussian_blur
from saccade.pictures.optimise.parametrise import colours


def total_variation(pictures: Float[Tensor, "n 3 h w"], beta: float = 2.0) -> Float[Tensor, " n"]:
    """Sum over pixels and colours of (difference to the pixel below, squared + to the right, squared)^(beta / 2).

    Mahendran and Vedaldi 2015, arXiv:1412.0035, section 3.1; with beta = 2 the plain sum of squared differences.
    """
    down = torch.nn.functional.pad(pictures.diff(dim=2).square(), (0, 0, 0, 1))
    across = torch.nn.functional.pad(pictures.diff(dim=3).square(), (0, 1))
    steep = down + across
    if beta != 2.0:
        steep = (steep + 1e-12) ** (beta / 2)  # the root has no slope at 0
    return steep.flatten(1).sum(1)


def l2(
    pictures: Float[Tensor, "n 3 h w"], about: float | Sequence[float] = 0.5, scale: float | Sequence[float] = 1.0
) -> Float[Tensor, " n"]:
    """Sum of ((pixel - about) / scale) squared; numbers for all colours, or three."""
    away = (pictures - colours(about, pictures)) / colours(scale, pictures)
    return away.square().flatten(1).sum(1)


def alpha_norm(
    pictures: Float[Tensor, "n 3 h w"], alpha: float = 6.0, about: float | Sequence[float] = 0.5
) -> Float[Tensor, " n"]:
    """Sum of |pixel - about|^alpha: nearly free in the middle of the range, dear at its ends (arXiv:1412.0035)."""
    return (pictures - colours(about, pictures)).abs().pow(alpha).flatten(1).sum(1)


def roughness(pictures: Float[Tensor, "n 3 h w"], sigma: float = 1.0) -> Float[Tensor, " n"]:
    """Half the squared distance to the blurred picture, which is held fixed: blur as an objective.

    Its gradient is `picture - blurred`, so a plain step of rate k on it mixes k of the blurred picture in.
    """
    with torch.no_grad():
        blurred = gaussian_blur(pictures, sigma)
    return (pictures - blurred).square().flatten(1).sum(1) / 2
