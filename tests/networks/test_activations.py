"""Outputs of layers, as the layers give them."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.networks import Network, build
from saccade.networks.activations import activations, last_spatial_layer


def made() -> Network:
    torch.manual_seed(0)
    return Network(build("tinynet", num_classes=4, widths=(8, 16), units=(1, 1))).eval()


def test_outputs_are_those_of_the_parts_one_by_one():
    network = made()
    x = torch.rand(2, 3, 16, 16)
    found = activations(network, x, ["stem.conv", "stem", "stage1.unit1.norm", "stage2", "classifier"])
    module = network.module
    conv = module.stem.conv((x - network.mean) / network.std)
    assert_close(found["stem.conv"], conv)
    stem = torch.relu(module.stem.norm(conv))
    assert_close(found["stem"], stem)
    assert_close(
        found["stage1.unit1.norm"], module.stage1.unit1.norm(module.stage1.unit1.conv(module.stage1.pool(stem)))
    )
    assert_close(found["classifier"], network(x))
    assert (found["stage1.unit1.norm"] < 0).any()  # the ReLU behind it writes in place, but not into this


def test_the_network_runs_no_further_than_needed_and_is_left_as_it_was():
    network = made()
    ran = []
    network.module.stage2.register_forward_hook(lambda *_: ran.append("stage2"))
    hooks = {name: len(layer._forward_hooks) for name, layer in network.module.named_modules()}
    activations(network, torch.rand(1, 3, 16, 16), ["stage1"])
    assert ran == []
    assert hooks == {name: len(layer._forward_hooks) for name, layer in network.module.named_modules()}
    with pytest.raises(SaccadeError, match="has no layer 'stage9'"):
        activations(network, torch.rand(1, 3, 16, 16), ["stage9"])


def test_gradients_flow():
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    activations(made(), x, ["stem", "stage2"])["stem"].sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_a_layer_that_does_not_run_is_named():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    module.add_module("idle", nn.Identity())
    module.forward = lambda x: module[3](module[2](module[1](module[0](x))))
    network = Network(module)
    with pytest.raises(SaccadeError, match="The layer idle does not run"):
        activations(network, torch.rand(1, 3, 4, 4), ["0", "idle"])
    assert not any(layer._forward_hooks for layer in module.modules())


def test_the_last_map():
    x = torch.rand(1, 3, 32, 32)
    assert last_spatial_layer(made(), x) == "stage2"
    squeeze = Network(build("squeezenet1_1")).eval()
    assert last_spatial_layer(squeeze, torch.rand(1, 3, 64, 64)) == "features"
    with pytest.raises(SaccadeError, match="has no layer that gives a map"):
        last_spatial_layer(Network(nn.Sequential(nn.Flatten(), nn.Linear(48, 2))), torch.rand(1, 3, 4, 4))
