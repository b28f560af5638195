"""Whose folder it is: what an explorer must have in common with the one that was begun there."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data import ImageSet
from saccade.engine.files import write_text
from saccade.errors import SaccadeError


def identity(network: nn.Module, pictures: ImageSet | Tensor | None, *, top: int, grown: bool) -> dict[str, Any]:
    """What must be the same when a run goes on: the weights, the pictures (of which eight are compared)."""
    weights = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        weights.update(name.encode())
        weights.update(_bytes(tensor))
    seen = hashlib.sha256()
    if pictures is not None:
        some = torch.linspace(0, len(pictures) - 1, 8).long()
        seen.update(_bytes(pictures.take(some)[0] if isinstance(pictures, ImageSet) else pictures[some]))
    count = 0 if pictures is None else len(pictures)
    return {
        "format": 1,
        "weights": weights.hexdigest(),
        "pictures": [count, seen.hexdigest()],
        "top": top,
        "grown": grown,
    }


def claim(folder: Path, identity: dict[str, Any], operation: str) -> None:
    """Make the folder, or see that it holds an explorer of the same; what a killed run left half written is removed."""
    file = folder / "explorer.json"
    if file.is_file():
        if json.loads(file.read_text("utf-8")) != identity:
            raise SaccadeError(
                f"Could not {operation}: {folder} holds one of another network, other pictures or another number of "
                "patches. Choose another folder, or delete it."
            )
    elif (folder / "index.html").exists():
        raise SaccadeError(f"Could not {operation}: {folder} holds another page. Choose another folder.")
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.\w+", path.name):  # see `atomic_path`
            path.unlink(missing_ok=True)
    write_text(file, json.dumps(identity, indent=1))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
