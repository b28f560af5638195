"""One file that holds the whole state of a computation, so that it can be taken up again after a crash."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from saccade.engine.files import atomic_path
from saccade.errors import SaccadeError


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and plain containers of them, atomically.

    A crash while writing leaves the checkpoint that was there before. Raises `SaccadeError` when the disk is
    full.
    """
    buffer = io.BytesIO()  # torch.save to a file reports a full disk as an unspecific RuntimeError
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: str | Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; only plain data is unpickled.

    Raises `SaccadeError` if it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise SaccadeError(f"There is no checkpoint {path}; start the run anew.")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not look at the checksums
            if archive.testzip() is not None:
                raise ValueError("checksum")
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch raise a dozen kinds
        raise SaccadeError(
            f"The checkpoint {path} is damaged and cannot be read ({type(error).__name__}). Delete it to start "
            "the run anew; the best weights so far lie beside it in best.safetensors."
        ) from error
    if not isinstance(state, dict):
        raise SaccadeError(f"{path} is no checkpoint of a run (it holds a {type(state).__name__}).")
    return state
