"""DDN against the closed form of linear networks, and against its paper written plainly."""

import math
from functools import partial

import pytest
import torch
from attack.nets import LINEAR, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, ratios
from torch.nn import functional as F

from saccade.attack.ddn import ddn
from saccade.errors import SaccadeError


@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_meets_the_optimum_of_linear_networks(
    classes: int, scale: float, shift: float, binary: bool, loss: str
) -> None:
    found = ratios(partial(ddn, loss=loss), "l2", classes, scale=scale, shift=shift, binary=binary)
    assert found.min() > 0.99
    assert found.max() <= 1.05


def test_keeps_its_promises() -> None:
    keeps_the_promises_of_minimum_norms(partial(ddn, steps=25, eps=0.5), "l2", weak={"eps": 1e-5, "steps": 2})


def test_agrees_with_its_paper() -> None:
    """One picture after another, far from the borders of the box, where stretching and clipping are the same."""
    network, x = conv_net(), 0.4 + 0.2 * draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    found = ddn(network, x, labels, steps=25, eps=0.3, polish=False)
    for i in range(6):
        picture, change, radius = x[i : i + 1], torch.zeros_like(x[:1]), 0.3
        best, least = picture, math.inf
        for k in range(26):
            leaf = (picture + change).requires_grad_()
            scores = network(leaf)
            fooled = scores.argmax().item() != labels[i]
            if fooled and change.norm() < least:
                best, least = picture + change, change.norm()
            if k == 25:
                break
            (gradient,) = torch.autograd.grad(F.cross_entropy(scores, labels[i : i + 1]), leaf)
            alpha = 0.01 + (1 - 0.01) * (1 + math.cos(math.pi * k / 25)) / 2
            change = change + alpha * gradient / gradient.norm()
            radius *= 0.95 if fooled else 1.05
            change = radius * change / change.norm()
        torch.testing.assert_close(found.adversarial[i], best[0].detach(), rtol=0, atol=1e-6)
        assert found.success[i] == (least < math.inf)
    assert found.success.sum() >= 3


def test_finds_pictures_that_survive_eight_bits() -> None:
    network = conv_net().float()
    x = (draw(10, 3, 8, 8) * 255).round().float() / 255
    labels = labels_of(network, x)
    found = ddn(network, x, labels, levels=256)
    assert found.success.all()
    saved = (found.adversarial * 255).round().byte()
    assert torch.equal(saved.float() / 255, found.adversarial)
    assert torch.equal(labels_of(network, saved.float() / 255) != labels, found.success)
    assert not torch.equal(ddn(network, x, labels).adversarial, found.adversarial)


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    with pytest.raises(SaccadeError, match="Could not attack with DDN: steps is -1"):
        ddn(network, x, 0, steps=-1)
    for wrong in ({"gamma": 1.0}, {"levels": 1}):
        with pytest.raises(SaccadeError, match="expected a share below 1 and 2 or more"):
            ddn(network, x, 0, **wrong)
    with pytest.raises(SaccadeError, match="eps is -1"):
        ddn(network, x, 0, eps=-1)
