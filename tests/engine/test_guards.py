"""Whatever happens inside a guard, the network and the random generators are as before."""

import os

import pytest
import torch
from torch import nn

from saccade.engine.guards import evaluating, frozen, output_to_error, random_state


class Boom(Exception):
    pass


@pytest.fixture
def network():
    """Modes and flags of every mixture: a training network with a frozen layer and one in evaluation mode."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Sequential(nn.ReLU(), nn.Dropout()))
    module[0].weight.requires_grad_(False)
    module[1].eval()
    module[3][1].eval()
    return module


def trace(module):
    return (
        [layer.training for layer in module.modules()],
        [(p.requires_grad, p.grad is None) for p in module.parameters()],
        [value.clone() for value in module.state_dict().values()],
        torch.is_grad_enabled(),
    )


def same(a, b):
    return a[:2] == b[:2] and all(map(torch.equal, a[2], b[2])) and a[3] == b[3]


@pytest.mark.parametrize("guard", [frozen, evaluating])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(network, guard, fails):
    before = trace(network)
    try:
        with guard(network):
            assert not any(layer.training for layer in network.modules())
            network(torch.rand(2, 3, 8, 8))
            network[3].train()  # even what the body itself changes
            if fails:
                raise Boom
    except Boom:
        assert fails
    assert same(before, trace(network))


def test_frozen_lets_gradients_reach_the_picture_only(network):
    pictures = torch.rand(2, 3, 8, 8, requires_grad=True)
    with frozen(network):
        assert not any(p.requires_grad for p in network.parameters())
        network(pictures).sum().backward()
    assert pictures.grad is not None
    assert all(p.grad is None for p in network.parameters())


def test_evaluating_builds_no_graph(network):
    with evaluating(network):
        assert not network(torch.rand(2, 3, 8, 8, requires_grad=True)).requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_random_state_is_put_back(fails):
    before = torch.get_rng_state()
    try:
        with random_state():
            torch.manual_seed(3)
            torch.rand(10)
            if fails:
                raise Boom
    except Boom:
        assert fails
    assert torch.equal(before, torch.get_rng_state())


def test_what_native_code_prints_goes_to_standard_error(capfd):
    print("before")
    with output_to_error():
        os.write(1, b"of its own accord\n")
    with pytest.raises(Boom), output_to_error():
        raise Boom
    print("after")
    out, err = capfd.readouterr()
    assert out == "before\nafter\n"
    assert err == "of its own accord\n"
