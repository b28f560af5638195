"""What every attack is asked with, checked: pictures, labels, targets, the region it may touch, its budget."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.pictures.check import TOLERANCE

Budget = float | Sequence[float] | Tensor
"""A size in pixel units, for all pictures; or a sequence or a float tensor (N,) with one for each."""


def check_pictures(pictures: Tensor, operation: str) -> Float[Tensor, "n c h w"]:
    """A copy of `pictures`, float32 or float64 (N, C, H, W), clamped to [0, 1].

    Raises `SaccadeError` for anything else, and for values more than 1e-4 outside [0, 1]: those of a picture that was
    normalised, whose distances would mean nothing.
    """
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or pictures.numel() == 0:
        given = f"of shape {tuple(pictures.shape)}" if isinstance(pictures, Tensor) else type(pictures).__name__
        raise SaccadeError(
            f"Could not {operation}: the pictures are {given}, expected a tensor (n, channels, height, width). "
            "For a single picture, give picture[None]."
        )
    if pictures.dtype not in (torch.float32, torch.float64):
        raise SaccadeError(
            f"Could not {operation}: the pictures are {pictures.dtype}, expected float32 or float64, as no "
            "budget can be kept in less. Divide 8-bit values by 255; give half precision as pictures.float(); the "
            "network may stay in its own."
        )
    low, high = (value.item() for value in pictures.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also true of NaN
        raise SaccadeError(
            f"Could not {operation}: the values of the pictures run from {low:.4g} to {high:.4g}, expected [0, 1]. "
            "Undo a normalisation and do it in the network: saccade.networks.Network(module, mean=..., std=...)."
        )
    return pictures.detach().clamp(0, 1)


def check_network(network: nn.Module, pictures: Tensor, operation: str, *, train_mode: bool = False) -> None:
    """Raise `SaccadeError` for a network on another device than the pictures, or in train mode unless that will do."""
    training = [name or "the network itself" for name, layer in network.named_modules() if layer.training]
    if training and not train_mode:
        raise SaccadeError(
            f"Could not {operation}: {len(training)} layers of the network are in train mode (the first is "
            f"{training[0]}), so that what it says would depend on the batch or on chance. Call network.eval()."
        )
    held = next(network.parameters(), None)
    if held is not None and held.device != pictures.device:
        raise SaccadeError(
            f"Could not {operation}: the network is on {held.device}, the pictures on {pictures.device}. Move one."
        )


def check_mask(mask: Tensor | None, pictures: Tensor, operation: str) -> Bool[Tensor, "n c h w"] | None:
    """The region that may be touched, as large as the pictures; None is all of them.

    mask: bool, or numbers 0 and 1, of a shape that spreads over (N, C, H, W), as (H, W) or (N, 1, H, W) do.
    """
    if mask is None:
        return None
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise SaccadeError(f"Could not {operation}: the mask holds other values than 0 and 1; give mask > 0.5.")
    try:
        return mask.to(pictures.device).bool().expand(pictures.shape)
    except RuntimeError as error:
        raise SaccadeError(
            f"Could not {operation}: the mask is {tuple(mask.shape)}, the pictures {tuple(pictures.shape)}, expected "
            "(height, width), (n, 1, height, width) or (n, channels, height, width)."
        ) from error


def per_picture(value: Budget, pictures: Tensor, name: str, operation: str) -> Float[Tensor, "n 1 1 1"]:
    """A budget as one number a picture, of the pictures' dtype; raises `SaccadeError` unless they are 0 or more."""
    count = len(pictures)
    sizes = torch.as_tensor(value, dtype=pictures.dtype, device=pictures.device).detach()
    if sizes.ndim > 1 or sizes.numel() not in (1, count):
        raise SaccadeError(
            f"Could not {operation}: {name} has shape {tuple(sizes.shape)} for {count} pictures, expected one number, "
            "or one for each."
        )
    if not (torch.isfinite(sizes) & (sizes >= 0)).all():
        raise SaccadeError(f"Could not {operation}: {name} is {value}, expected finite numbers of 0 or more.")
    return sizes.expand(count).view(count, 1, 1, 1)


def check_settings(operation: str, least: float, **settings: float) -> None:
    """Raise `SaccadeError` for a setting below `least`, or one that is not finite."""
    for name, value in settings.items():
        if not least <= value < float("inf"):
            raise SaccadeError(f"Could not {operation}: {name} is {value}, expected a finite number, {least} or more.")
