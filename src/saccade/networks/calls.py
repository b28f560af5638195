"""Calls of PyTorch's functions, as those see them who follow a network by them."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS: dict[Any, str] = {
    **dict.fromkeys((torch.conv2d, F.conv2d), "conv"),
    **dict.fromkeys((torch.batch_norm, F.batch_norm), "norm"),
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, F.relu_, Tensor.relu, Tensor.relu_), "relu"),
}
"""What a function is, whatever its name."""


def tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors among the arguments of a call, and in lists there."""
    for one in (*args, *kwargs.values()):
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from (part for part in one if isinstance(part, Tensor))
