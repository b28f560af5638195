"""Small networks in float64, on which what is grown can be checked."""

import pytest
import torch
from torch import nn

from saccade.networks import Network, build


def make_network() -> Network:
    """With batch norm, in-place ReLUs and three classes that have names; takes any size."""
    torch.manual_seed(0)
    module = build("tinynet", num_classes=3, widths=(4, 6), units=(1, 2)).double()
    network = Network(module, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), classes=("cat", "dog", "owl"), input_size=16)
    network.double().train()
    with torch.no_grad():
        network(torch.rand(16, 3, 16, 16, dtype=torch.float64))  # running statistics other than 0 and 1
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.uniform_(-0.3, 0.3)
    return network


@pytest.fixture
def network() -> Network:
    return make_network()


@pytest.fixture
def photographs() -> torch.Tensor:
    return torch.rand(2, 3, 16, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
