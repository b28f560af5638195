"""Adversarial pictures: inside the ball, inside the range, and the exact worst case where that is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from saccade.train.adversarial import perturb, random_start


class Linear(nn.Module):
    """Two classes whose logits are a linear function of the picture: 0 and w . x."""

    def __init__(self, shape, seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x):
        score = (x * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def pictures(n=6, side=5, low=0.3, high=0.7, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def worst(network, x, labels, *, norm, eps):
    """The closed form away from the borders of the range: along the sign, or the direction, of the weight."""
    w = network.weight.detach()
    towards = torch.where(labels == 1, -1.0, 1.0).view(-1, 1, 1, 1)  # lowers the score of the right class
    step = w.sign() if norm == "linf" else w / w.norm()
    return x + eps * towards * step


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_case_of_a_linear_network(norm):
    network, x, labels = Linear((3, 5, 5)), pictures(), torch.tensor([0, 1] * 3)
    eps = 0.05 if norm == "linf" else 0.2
    g = torch.Generator().manual_seed(0)
    found = perturb(network, x, labels, norm=norm, eps=eps, steps=20, generator=g)
    expected = worst(network, x, labels, norm=norm, eps=eps)
    if norm == "linf":
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    else:  # on the sphere, and turned all but fully into the direction of the weight (steps of 2.5 eps in all)
        change = (found - x).flatten(1)
        torch.testing.assert_close(change.norm(dim=1), torch.full((6,), eps))
        assert F.cosine_similarity(change, (expected - x).flatten(1)).min() > 0.97
    with torch.no_grad():
        start, reached, most = (float(F.cross_entropy(network(p), labels)) for p in (x, found, expected))
    assert start < reached <= most * (1 + 1e-5)
    assert reached - start > 0.98 * (most - start)


def test_the_worst_case_at_the_borders_of_the_range():
    """With Linf each pixel is its own problem: the exact worst case is the clamped one."""
    network, x, labels = Linear((3, 5, 5)), pictures(low=0.0, high=1.0).round(), torch.tensor([0, 1] * 3)
    found = perturb(network, x, labels, norm="linf", eps=0.1, steps=10, generator=torch.Generator().manual_seed(0))
    expected = worst(network, x, labels, norm="linf", eps=0.1).clamp(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_single_step_is_wongs_formula():
    """clip(start + 1.25 eps sign(gradient), -eps, eps), with the same random start."""
    network, x, labels = Linear((3, 5, 5)), pictures(), torch.tensor([0, 1] * 3)
    start = random_start(x, norm="linf", eps=0.04, generator=torch.Generator().manual_seed(5))
    towards = torch.where(labels == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    expected = x + (start + 1.25 * 0.04 * towards * network.weight.detach().sign()).clamp(-0.04, 0.04)
    found = perturb(network, x, labels, norm="linf", eps=0.04, steps=1, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@given(st.sampled_from(["linf", "l2"]), st.floats(1e-3, 3), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_always_inside_the_ball_and_the_range(norm, eps, steps, seed):
    network, x, labels = Linear((3, 5, 5)), pictures(low=0.0, high=1.0, seed=seed), torch.tensor([0, 1] * 3)
    x[0], x[1] = 0, 1
    found = perturb(network, x, labels, norm=norm, eps=eps, steps=steps, generator=torch.Generator().manual_seed(seed))
    assert found.min() >= 0
    assert found.max() <= 1
    change = (found - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (size <= eps * (1 + 1e-5) + 1e-6).all()
    assert not found.requires_grad


def test_leaves_no_trace():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    network[1].eval()
    modes = [layer.training for layer in network.modules()]
    x, labels = pictures(), torch.tensor([0, 1] * 3)
    before, state = x.clone(), torch.get_rng_state()
    with torch.no_grad():  # as it may be called from an evaluation
        perturb(network, x, labels, norm="linf", eps=0.1, steps=2, generator=torch.Generator().manual_seed(0))
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert [layer.training for layer in network.modules()] == modes
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert torch.equal(state, torch.get_rng_state())


def test_a_zero_gradient_keeps_the_start():
    class Blind(nn.Module):
        def forward(self, x):
            return (x * 0).flatten(1)[:, :2]

    x, labels = pictures(), torch.tensor([0, 1] * 3)
    start = random_start(x, norm="l2", eps=0.1, generator=torch.Generator().manual_seed(2))
    found = perturb(Blind(), x, labels, norm="l2", eps=0.1, steps=3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(found, x + start, rtol=0, atol=1e-5)


def test_l2_starts_are_uniform_in_the_ball():
    """P(length < r) = (r / eps)^d for d dimensions; the directions have no preference."""
    d, count, eps = 3, 4000, 0.5
    start = random_start(torch.zeros(count, 3, 1, 1), norm="l2", eps=eps, generator=torch.Generator().manual_seed(0))
    lengths = start.flatten(1).norm(dim=1)
    assert lengths.max() <= eps + 1e-6
    for share in (0.25, 0.5, 0.8):
        expected = share**d
        found = float((lengths < share * eps).float().mean())
        assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    directions = start.flatten(1) / lengths[:, None]
    assert (directions.mean(0).abs() < 4 / math.sqrt(3 * count)).all()
    torch.testing.assert_close(directions.T @ directions / count, torch.eye(3) / 3, rtol=0, atol=0.02)


def test_linf_starts_are_uniform_in_the_cube():
    start = random_start(torch.zeros(50, 3, 8, 8), norm="linf", eps=0.2, generator=torch.Generator().manual_seed(0))
    assert start.abs().max() <= 0.2
    assert start.var() == pytest.approx(0.2**2 / 3, rel=0.05)
    assert abs(start.mean()) < 0.005
