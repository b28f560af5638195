"""Which pictures, which class: what every function that asks a network is given."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.network import Network

Target = int | str | Sequence[int | str] | Tensor
"""A class as index or name, for all pictures; or a sequence or an integer tensor (N,) with one for each."""


def class_indices(network: nn.Module, target: Target, *, count: int, classes: int) -> Int[Tensor, " count"]:
    """`target` as one index in [0, classes) for each of `count` pictures.

    Names are understood if `network` is a `Network` that knows its classes. Raises `SaccadeError` for a class that is
    not there, and for another number of targets than pictures.
    """
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool or target.ndim > 1:
            raise SaccadeError(
                f"The target is a tensor {target.dtype} of shape {tuple(target.shape)}, expected class indices, "
                f"integers of shape ({count},). For scores, give scores.argmax(1)."
            )
        target = target.tolist()
    many = not isinstance(target, int | str)
    wanted: list[int | str] = list(target) if many else [target] * count  # type: ignore[arg-type, list-item]
    if len(wanted) != count:
        raise SaccadeError(f"{len(wanted)} targets were given for {count} pictures, expected one, or one for each.")
    indices = [_index(network, one, classes) for one in wanted]
    return torch.tensor(indices, dtype=torch.int64)


def check_input(pictures: Tensor, operation: str) -> None:
    """Raise `SaccadeError` unless `pictures` is a finite float tensor (N, 3, H, W)."""
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point() or pictures.numel() == 0:
        mend = "For a single picture, give picture[None]." if pictures.ndim == 3 else "Divide 8-bit values by 255."
        raise SaccadeError(
            f"Could not {operation}: the pictures are {pictures.dtype} of shape {tuple(pictures.shape)}, expected "
            f"floats (n, 3, height, width) in [0, 1]. {mend}"
        )
    if not torch.isfinite(pictures.detach()).all():
        raise SaccadeError(f"Could not {operation}: the pictures hold values that are not finite (NaN or infinity).")


def _index(network: nn.Module, target: int | str, classes: int) -> int:
    if isinstance(network, Network):
        target = network.class_index(target)
    if isinstance(target, str):
        raise SaccadeError(
            f"Class {target!r} was given by name, but the network knows no names; give its number, or wrap the "
            "module: saccade.networks.Network(module, classes=names)."
        )
    if not 0 <= target < classes:
        raise SaccadeError(f"There is no class {target}: the network has {classes}, counted from 0.")
    return target
