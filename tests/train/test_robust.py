"""The losses of TRADES and MART against their formulas written out picture by picture, and their gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.train.robust import divergence, mart_loss, trades_loss


def logits(seed, n=4, classes=5, scale=3.0):
    g = torch.Generator().manual_seed(seed)
    clean, perturbed = torch.randn(2, n, classes, generator=g, dtype=torch.float64) * scale
    return clean, perturbed, torch.randint(0, classes, (n,), generator=g)


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def plain_trades(clean, perturbed, labels, beta):
    total = 0.0
    for c, d, y in zip(clean.tolist(), perturbed.tolist(), labels.tolist(), strict=True):
        p, q = softmax(c), softmax(d)
        total += -math.log(p[y]) + beta * kl(p, q)
    return total / len(labels)


def plain_mart(clean, perturbed, labels, beta):
    total = 0.0
    for c, d, y in zip(clean.tolist(), perturbed.tolist(), labels.tolist(), strict=True):
        p, q = softmax(c), softmax(d)
        rival = max(value for k, value in enumerate(q) if k != y)
        total += -math.log(q[y]) - math.log(1 - rival) + beta * kl(p, q) * (1 - p[y])
    return total / len(labels)


LOSSES = [(trades_loss, plain_trades), (mart_loss, plain_mart)]


@pytest.mark.parametrize(("loss", "plain"), LOSSES)
@given(seed=st.integers(0, 10**6), beta=st.floats(0, 10), classes=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_the_formula(loss, plain, seed, beta, classes):
    clean, perturbed, labels = logits(seed, classes=classes)
    found = float(loss(clean, perturbed, labels, beta=beta))
    assert found == pytest.approx(plain(clean, perturbed, labels, beta), rel=1e-9)


@pytest.mark.parametrize(("loss", "plain"), LOSSES)
def test_the_gradient_reaches_both_looks(loss, plain):
    clean, perturbed, labels = logits(3)
    clean.requires_grad_()
    perturbed.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, p: loss(c, p, labels, beta=2.5), (clean, perturbed))
    gradients = torch.autograd.grad(loss(clean, perturbed, labels, beta=2.5), (clean, perturbed))
    assert all(float(gradient.norm()) > 0.01 for gradient in gradients)


def test_divergence_is_zero_only_from_itself():
    clean, perturbed, _ = logits(1)
    assert torch.equal(divergence(clean, clean), torch.zeros(4, dtype=torch.float64))
    assert (divergence(clean, perturbed) > 0).all()
    torch.testing.assert_close(divergence(clean, clean + 7), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize(("loss", "plain"), LOSSES)
def test_without_a_perturbation_trades_is_the_cross_entropy_and_mart_boosts_it(loss, plain):
    clean, _, labels = logits(2)
    found, usual = float(loss(clean, clean, labels, beta=6.0)), float(F.cross_entropy(clean, labels))
    assert (found == pytest.approx(usual)) == (loss is trades_loss)
    assert found >= usual - 1e-12


def test_mart_is_finite_where_a_wrong_class_is_certain():
    """p rounds to 1, and -log(1 - p) would be infinite; it is the distance between the logits."""
    perturbed = torch.tensor([[0.0, 200.0, 0.0]])
    labels = torch.tensor([0])
    found = mart_loss(torch.zeros(1, 3), perturbed.requires_grad_(), labels, beta=0.0)
    assert float(found.detach()) == pytest.approx(200 + 200 - math.log(2))
    (gradient,) = torch.autograd.grad(found, perturbed)
    assert gradient.isfinite().all()
    two = mart_loss(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]), labels, beta=0.0)
    assert float(two) == pytest.approx(2 * math.log(1 + math.exp(3)))
