"""How pictures should lie in memory for a network to run fast."""

from collections.abc import Sequence

import torch
from torch import nn

from saccade.networks.network import Network

MANY = 300_000
"""Pixels from which on a batch runs faster channels last, also where that means to copy the weights every time."""


def memory_layout(network: nn.Module, shape: Sequence[int]) -> torch.memory_format:
    """How pictures of a shape (N, 3, H, W) should lie: channels last if all weights of convolutions do, or if they are
    `MANY` pixels.

    Where the weights do not, every run copies them, which costs few and small pictures up to 1.4 times their time.
    Other networks keep the usual layout, as some call `view` on a map.
    """
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    last = bool(weights) and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    ours = isinstance(network, Network) and network.architecture is not None
    many = shape[0] * shape[2] * shape[3] >= MANY
    return torch.channels_last if last or (ours and many) else torch.contiguous_format
