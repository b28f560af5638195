"""What a picture is, checked once for every function of this room that takes one from a person.

The checks always run, so the functions that call them annotate their input as plain `Tensor`: a wrong shape
then gives one clear sentence to a user, under test as elsewhere.
"""

import torch
from torch import Tensor

from saccade.errors import SaccadeError

TOLERANCE = 1e-4  # arithmetic in float32 may leave [0, 1] by a rounding error; anything more is a mistake


def check_picture(picture: Tensor, operation: str) -> Tensor:
    """Return `picture` detached on the CPU as float32 (3, H, W) in [0, 1], or raise `SaccadeError`.

    `operation` begins the message: "Could not <operation>: ...". Overshoots up to 1e-4 are clamped.
    """
    return check_pictures(picture, operation, dims=(3,))


def check_pictures(pictures: Tensor, operation: str, *, dims: tuple[int, ...] = (3, 4)) -> Tensor:
    """The same for (3, H, W) or (N, 3, H, W), whichever `dims` allows."""
    if not isinstance(pictures, Tensor):
        raise SaccadeError(
            f"Could not {operation}: given a {type(pictures).__name__}, expected a torch tensor (3, height, "
            "width) of floats in [0, 1]. Convert an (H, W, 3) uint8 array by torch.from_numpy(a).permute(2, "
            "0, 1) / 255."
        )
    shape = tuple(pictures.shape)
    if pictures.ndim not in dims or pictures.shape[-3] != 3 or pictures.numel() == 0:
        wanted = " or ".join({3: "(3, height, width)", 4: "(n, 3, height, width)"}[d] for d in dims)
        raise SaccadeError(
            f"Could not {operation}: the picture has shape {shape}, expected {wanted}. " + _mend(pictures, dims)
        )
    if not pictures.is_floating_point():
        raise SaccadeError(
            f"Could not {operation}: the picture holds {_name(pictures.dtype)}, expected floats in [0, 1]. "
            "Divide 8-bit values by 255."
        )
    pictures = pictures.detach().to("cpu", torch.float32)
    low, high = (float(v) for v in pictures.aminmax())
    if not (-float("inf") < low and high < float("inf")):  # also true of NaN
        raise SaccadeError(
            f"Could not {operation}: the picture has values that are not finite (NaN or infinity), expected "
            "floats in [0, 1]. Look for the step that diverged; torch.nan_to_num replaces such values."
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise SaccadeError(
            f"Could not {operation}: the picture's values run from {low:.4g} to {high:.4g}, expected [0, 1]. "
            "Undo a normalisation, or clamp with picture.clamp(0, 1)."
        )
    return pictures.clamp(0, 1)


def check_size(value: int, name: str, operation: str) -> int:
    """Return `value` if it is a whole number of at least 1, or raise `SaccadeError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SaccadeError(f"Could not {operation}: {name} is {value!r}, expected a whole number of at least 1.")
    return value


def _mend(pictures: Tensor, dims: tuple[int, ...]) -> str:
    if pictures.numel() == 0:
        return "It is empty."
    if pictures.ndim == 4 and 4 not in dims and pictures.shape[1] == 3:
        return "Choose one picture of the batch, pictures[i], or lay them out with grid."
    if pictures.ndim in dims and pictures.shape[-1] == 3:
        return "Move the channels first with picture.movedim(-1, -3)."
    if pictures.ndim == 2 or (pictures.ndim in dims and pictures.shape[-3] == 1):
        return "Repeat a grey picture three times with picture.expand(3, -1, -1), or colour a map with heat."
    return "Colours are red, green, blue."


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
