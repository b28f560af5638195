"""FMN in all norms against the closed form of linear networks, and against its paper written plainly."""

import math
from functools import partial

import pytest
import torch
from attack.nets import LINEAR, ORDER, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, linear, ratios
from torch import Tensor

from saccade.attack.fmn import fmn
from saccade.errors import SaccadeError

NORMS = ["linf", "l2", "l1", "l0"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_optimum_of_linear_networks(
    norm: str, classes: int, scale: float, shift: float, binary: bool
) -> None:
    found = ratios(partial(fmn, norm=norm), norm, classes, scale=scale, shift=shift, binary=binary)
    assert found.min() > 0.99
    assert found.max() <= 1.05


@pytest.mark.parametrize("norm", NORMS)
def test_keeps_its_promises(norm: str) -> None:
    keeps_the_promises_of_minimum_norms(partial(fmn, norm=norm, steps=25), norm, weak={"alpha": 0.0})


def projected(change: Tensor, norm: str, radius: float) -> Tensor:
    if norm == "linf":
        return change.clamp(-radius, radius)
    return change * min(1.0, radius / max(change.norm().item(), 1e-30))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_its_paper(norm: str) -> None:
    """One picture after another, far from the borders of the box."""
    network, x = conv_net(), 0.4 + 0.2 * draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    found = fmn(network, x, labels, norm=norm, steps=20, alpha=0.1, polish=False)
    dual = {"linf": 1, "l2": 2}[norm]
    for i in range(6):
        picture, change, radius = x[i : i + 1], torch.zeros_like(x[:1]), math.inf
        best, least = picture, math.inf
        for k in range(21):
            leaf = (picture + change).requires_grad_()
            scores = network(leaf)[0]
            others = torch.cat([scores[: labels[i]], scores[labels[i] + 1 :]])
            lead = others.max() - scores[labels[i]]
            size = change.norm(ORDER[norm]).item()
            if lead > 0 and size < least:
                best, least = picture + change, size
            if k == 20:
                break
            (gradient,) = torch.autograd.grad(lead, leaf)
            cosine = (1 + math.cos(math.pi * k / 20)) / 2
            share = 0.001 + (0.05 - 0.001) * cosine
            if lead > 0:
                radius = min(radius * (1 - share), least)
            elif least < math.inf:
                radius *= 1 + share
            else:
                radius = (size + (-lead / gradient.norm(dual)).item()) * 1.001
            step = (0.001 + (0.1 - 0.001) * cosine) * gradient / gradient.norm()
            change = projected(change + step, norm, radius)
        torch.testing.assert_close(found.adversarial[i], best[0].detach(), rtol=0, atol=1e-6)
        assert found.success[i] == (least < math.inf)
    assert found.success.sum() >= 3


def test_l2_points_are_projected_onto_their_ball() -> None:
    """The factor of foolbox is 1 whatever the norms are, that of adversarial-library scales up to the sphere: a point
    within the ball must stay, one outside must not."""
    network = linear(2)
    x = 0.4 + 0.2 * draw(20, 3, 4, 4)
    labels = labels_of(network, x)
    weight = network.weight.detach()
    lead = network(x).detach().sort(1, descending=True).values
    needed = (lead[:, 0] - lead[:, 1]) / (weight[0] - weight[1]).norm()
    first = fmn(
        network, x, labels, norm="l2", steps=1, polish=False
    )  # a step of length 1, projected onto the first radius
    assert first.success.all()
    torch.testing.assert_close(first.norm, 1.001 * needed, rtol=1e-6, atol=0)
    short = fmn(
        network, x, labels, norm="l2", steps=1, alpha=1e-3, polish=False
    )  # 0.001 does not reach the sphere, and stays
    assert torch.equal(short.success, needed < 1e-3)


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    with pytest.raises(SaccadeError, match="Could not attack with FMN: gamma is 1"):
        fmn(network, x, 0, gamma=1.0)
    with pytest.raises(SaccadeError, match="alpha is -1"):
        fmn(network, x, 0, alpha=-1.0)
    with pytest.raises(SaccadeError, match="norm is 'l3'"):
        fmn(network, x, 0, norm="l3")
