"""Reading weights that others wrote and fitting them to a module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.network import read_weights

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel, `Network` and torch.compile put before every name."""

NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts put the weights among other things."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The weights in a .safetensors file, or in a .pth, .pt, .bin or .th file of PyTorch, by plain names.

    A PyTorch file is read with `weights_only=True`, so nothing in it is executed. Raises `SaccadeError` if
    the file is missing, cut short, or holds anything but tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return plain_names(read_weights(path)[1])
    if not path.is_file():
        raise SaccadeError(f"There is no weight file {path}; `saccade models` lists the networks there are.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises a dozen kinds here, for a cut file as for a foreign object
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            why = "it holds more than tensors, which is not unpickled because that can run any code"
        else:
            why = f"it is damaged or no PyTorch file ({type(error).__name__})"
        raise SaccadeError(
            f"Reading the weights in {path}: {why}. Copy it again, or save the state_dict() alone."
        ) from error
    return plain_names(_tensors(content, path))


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without the prefixes that wrappers add to every name."""
    state = dict(state)
    while state and (prefix := next((w for w in WRAPPERS if all(k.startswith(w) for k in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy `state` into `module`, which keeps its dtype and device; every name and shape must fit.

    Only the batch counters of batch norms may be missing: files from before PyTorch 0.4.1 have none. Raises
    `SaccadeError` that names what differs; the module is then unchanged.
    """
    own = module.state_dict()
    counters = {key: torch.tensor(0) for key in own if key.endswith("num_batches_tracked")}
    complete = counters | dict(state)
    problems = [
        *_listed("missing", [key for key in own if key not in complete]),
        *_listed("too many", [key for key in complete if key not in own]),
        *_listed(
            "of another shape",
            [
                f"{key} is {_size(value)}, not {_size(own[key])}"
                for key, value in complete.items()
                if key in own and value.shape != own[key].shape
            ],
        ),
    ]
    if problems:
        raise SaccadeError(
            f"The weights in {origin} do not fit: {'; '.join(problems)}. Check the architecture and its num_classes."
        )
    module.load_state_dict(complete)


def count_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of the weights: the length of what `module` has as its last parameter."""
    name = [name for name, _ in module.named_parameters()][-1]
    return state[name].shape[0] if name in state and state[name].ndim else None


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the weights in what a file held: a dictionary of tensors, or one inside a dictionary."""
    for key in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise SaccadeError(
            f"Reading the weights in {path}: a dictionary of tensors was expected, alone or under one of "
            f"{', '.join(NESTS)}; save the state_dict() of the network."
        )
    return {str(key): value for key, value in content.items()}


def _listed(kind: str, names: list[str], most: int = 3) -> list[str]:
    """[] or one phrase such as "5 missing (a, b, c, ...)"."""
    if not names:
        return []
    return [f"{len(names)} {kind} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
