"""EAD against its paper written plainly, near the optimum of linear networks, and its known mistakes elsewhere."""

from functools import partial

import pytest
import torch
from attack.nets import LINEAR, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, ratios

from saccade.attack.elastic_net import elastic_net
from saccade.errors import SaccadeError


@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_optimum_of_linear_networks(classes: int, scale: float, shift: float, binary: bool) -> None:
    found = ratios(elastic_net, "l1", classes, scale=scale, shift=shift, binary=binary, count=12)
    assert found.min() > 0.99
    assert found.max() <= 1.05


def test_as_published_it_spreads_a_change_more_than_l1_alone_would() -> None:
    found = ratios(partial(elastic_net, polish=False), "l1", 3, count=12)
    assert found.min() > 0.99
    assert 1.05 < found.mean() <= 1.3


@pytest.mark.parametrize("rule", ["l1", "en"])
def test_keeps_its_promises(rule: str) -> None:
    attack = partial(elastic_net, rule=rule, steps=20, searches=4)
    keeps_the_promises_of_minimum_norms(attack, "l1", weak={"lr": 0.0})


@pytest.mark.parametrize("rule", ["l1", "en"])
def test_agrees_with_its_paper(rule: str) -> None:
    """One picture after another; every search begins anew, and distances are from the picture as it was: where
    torchattacks goes on from the last search, and moves the picture that it measures from."""
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    found = elastic_net(network, x, labels, rule=rule, steps=15, searches=4, beta=0.004, polish=False)
    assert found.success.sum() >= 3
    for i in range(4):
        others = torch.arange(5) != labels[i]

        def lead(z: torch.Tensor, i: int = i, others: torch.Tensor = others) -> torch.Tensor:
            scores = network(z[None])[0]
            return scores[others].max() - scores[labels[i]]

        leaf = x[i].clone().requires_grad_()
        (slope,) = torch.autograd.grad(lead(leaf), leaf)
        c = 4 * lead(x[i]).abs().item() / slope.square().sum().item()
        lower, upper, best, least = 0.0, float("inf"), x[i], float("inf")
        for _ in range(4):
            z, y, hit = x[i], x[i], False
            for k in range(15):
                leaf = y.clone().requires_grad_()
                loss = c * (-lead(leaf)).clamp_min(0) + (leaf - x[i]).square().sum()
                (gradient,) = torch.autograd.grad(loss, leaf)
                step = y - 0.01 * (1 - k / 15) ** 0.5 * gradient
                up, down = (step - 0.004).clamp_max(1), (step + 0.004).clamp_min(0)
                change = step - x[i]
                new = torch.where(change > 0.004, up, torch.where(change < -0.004, down, x[i]))
                y, z = new + k / (k + 3) * (new - z), new
                if lead(z) > 0:
                    hit, l1 = True, (z - x[i]).abs().sum().item()
                    size = l1 if rule == "l1" else 0.004 * l1 + (z - x[i]).square().sum().item()
                    if size < least:
                        best, least = z, size
            lower, upper = (lower, min(upper, c)) if hit else (max(lower, c), upper)
            c = (lower + upper) / 2 if upper < float("inf") else 10 * c
        torch.testing.assert_close(found.adversarial[i], best, rtol=0, atol=1e-9)


def test_the_rules_keep_other_points() -> None:
    network, x = conv_net(), draw(8, 3, 8, 8)
    labels = labels_of(network, x)
    by_l1, by_net = (elastic_net(network, x, labels, rule=rule, beta=0.004, searches=5) for rule in ("l1", "en"))
    both = by_l1.success & by_net.success
    assert both.sum() >= 6
    assert (by_l1.norm <= by_net.norm)[both].all()
    l2 = [((found.adversarial - x).flatten(1).square().sum(1) + 0.004 * found.norm)[both] for found in (by_l1, by_net)]
    assert (l2[1] <= l2[0] + 1e-12).all()


def test_ead_leaves_the_pictures_alone_and_takes_any_number_of_steps() -> None:
    """torchattacks changes the picture in place, and divides by zero for less than ten steps."""
    network, x = conv_net(), draw(4, 3, 8, 8)
    before = x.clone()
    elastic_net(network, x, labels_of(network, x), steps=3, searches=2)
    assert torch.equal(x, before)


def test_says_what_is_wrong() -> None:
    with pytest.raises(SaccadeError, match="Could not attack with EAD: rule is 'l2', expected one of l1, en"):
        elastic_net(conv_net(), draw(2, 3, 8, 8), 0, rule="l2")
