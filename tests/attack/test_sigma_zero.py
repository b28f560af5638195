"""sigma-zero against the least counts of linear networks, and against its paper written plainly."""

import math
from functools import partial

import pytest
import torch
from attack.nets import LINEAR, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, ratios

from saccade.attack.sigma_zero import sigma_zero
from saccade.errors import SaccadeError


@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_least_count_of_linear_networks(classes: int, scale: float, shift: float, binary: bool) -> None:
    attack = partial(sigma_zero, steps=100)
    found = ratios(attack, "l0", classes, scale=scale, shift=shift, binary=binary, count=16)
    assert (found == 1).all()


def test_keeps_its_promises() -> None:
    keeps_the_promises_of_minimum_norms(partial(sigma_zero, steps=40), "l0", weak={"lr": 0.0})


def test_agrees_with_its_paper() -> None:
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    found = sigma_zero(network, x, labels, steps=30, polish=False)
    assert found.success.all()
    for i in range(4):
        picture, change = x[i], torch.zeros_like(x[i])
        mean, square, cut, rate = torch.zeros_like(change), torch.zeros_like(change), 0.3, 1.0
        least = math.inf
        for k in range(31):
            leaf = change.clone().requires_grad_()
            scores = network((picture + leaf)[None])[0]
            others = torch.cat([scores[: labels[i]], scores[labels[i] + 1 :]])
            fooled = bool(others.max() > scores[labels[i]])
            least = min(least, int((change != 0).sum())) if fooled else least
            count = (leaf.square() / (leaf.square() + 0.001)).mean()
            (gradient,) = torch.autograd.grad((scores[labels[i]] - others.max()).clamp_min(0) + count, leaf)
            gradient = gradient / gradient.abs().max().clamp_min(1e-12)
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            step = mean / (1 - 0.9 ** (k + 1)) / ((square / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
            change = (picture + change - rate * step).clamp(0, 1) - picture
            rate = 0.1 + 0.9 * (1 + math.cos(math.pi * k / 30)) / 2
            cut = min(max(cut + (0.01 if fooled else -0.01) * rate, 0), 1)
            change = torch.where(change.abs() < cut, 0, change)
        assert found.norm[i] == least


def test_says_what_is_wrong() -> None:
    with pytest.raises(SaccadeError, match="Could not attack with sigma-zero: sigma is 0"):
        sigma_zero(conv_net(), draw(2, 3, 8, 8), 0, sigma=0)
