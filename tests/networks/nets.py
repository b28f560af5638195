"""Networks for tests of what runs them in another way."""

from collections.abc import Callable

import torch
from torch import nn


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with random weights, whose batch norms have random statistics, in evaluation mode and float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().double()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.2)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.2)
    return module.eval()
