"""What a kept result was made from, as a short text, so that it is not taken up for anything else."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(network: nn.Module, tensors: Iterable[Tensor], settings: Mapping[str, Any]) -> str:
    """A hash of a network's weights, of tensors with their shapes and dtypes, and of settings that JSON can hold."""
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for tensor in [*tensors, *network.state_dict().values()]:
        sha.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
