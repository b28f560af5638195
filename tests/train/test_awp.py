"""Adversarial weight perturbation: exactly as far as asked, uphill, and gone without a trace."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.engine.distributed import World
from saccade.train.awp import worse_weights

ALONE = World(0, 1, torch.device("cpu"))


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()


def batch():
    g = torch.Generator().manual_seed(1)
    return torch.rand(5, 3, 5, 5, generator=g, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])


def parameters(network):
    return {key: value.detach().clone() for key, value in network.named_parameters()}


def test_each_matrix_moves_along_its_gradient_by_its_share():
    network, (x, y) = small(), batch()
    before = parameters(network)
    gradients = dict(
        zip(before, torch.autograd.grad(F.cross_entropy(network(x), y), network.parameters()), strict=True)
    )
    with worse_weights(network, lambda: F.cross_entropy(network(x), y), size=0.01, world=ALONE):
        after = parameters(network)
    for key, value in before.items():
        if value.ndim == 1:
            assert torch.equal(after[key], value)
        else:
            expected = value + 0.01 * value.norm() * gradients[key] / gradients[key].norm()
            torch.testing.assert_close(after[key], expected, rtol=1e-12, atol=0)


def test_the_loss_is_higher_inside_and_the_weights_are_back_bit_by_bit():
    network, (x, y) = small().float(), batch()
    x = x.float()
    before, start = parameters(network), F.cross_entropy(network(x), y).detach()
    with worse_weights(network, lambda: F.cross_entropy(network(x), y), size=0.02, world=ALONE):
        assert F.cross_entropy(network(x), y).detach() > start + 0.001
    assert all(torch.equal(value, before[key]) for key, value in network.named_parameters())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_weights_are_back_after_an_error_too():
    network, (x, y) = small(), batch()
    before = parameters(network)
    with (
        pytest.raises(ZeroDivisionError),
        worse_weights(network, lambda: F.cross_entropy(network(x), y), size=0.5, world=ALONE),
    ):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[key]) for key, value in network.named_parameters())


def test_what_is_frozen_or_unused_stays():
    network, (x, y) = small(), batch()
    network[0].weight.requires_grad_(False)
    network.spare = nn.Linear(2, 2).double()
    before = parameters(network)
    loss = lambda: F.cross_entropy(network[4](network[3](network[2](network[1](network[0](x))))), y)  # noqa: E731
    with worse_weights(network, loss, size=0.1, world=ALONE):
        after = parameters(network)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"4.weight"}
