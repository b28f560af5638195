"""Linear networks, whose worst pictures are known: the exact attack, and how near the others come to it."""

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear

from saccade.attack import ATTACKS, linear_attack
from saccade.attack.balls import Norm
from saccade.errors import SaccadeError

EVERY = [(name, attack.norms[0]) for name, attack in ATTACKS.items() if attack.linear]
EVERY += [("pgd", "l2"), ("pgd", "l1"), ("vni-fgsm", "l2"), ("linear", "l2"), ("linear", "l1")]


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_exact_attack_is_the_dual_norm(norm: Norm, classes: int) -> None:
    network = linear(classes)
    x = 0.45 + 0.1 * draw(30, 3, 4, 4)  # no border is near
    labels = labels_of(network, x)
    dual = {"linf": 1, "l2": 2, "l1": float("inf")}[norm]
    weight = network.weight.detach().flatten(1)
    scores = network(x).detach()
    steep = (weight[None] - weight[labels][:, None]).norm(dual, dim=2)
    gap = scores.gather(1, labels[:, None]) - scores
    needed = torch.where(steep > 0, gap / steep, torch.inf).amin(1)  # how far the nearest other class is
    near = needed < 0.4
    x, labels, steep, gap, needed = x[near], labels[near], steep[near], gap[near], needed[near]
    assert len(x) > 20
    assert not linear_attack(network, x, labels, norm=norm, eps=needed * 0.999).success.any()
    found = linear_attack(network, x, labels, norm=norm, eps=needed * 1.001)
    assert found.success.all()
    torch.testing.assert_close(found.norm, needed * 1.001, rtol=1e-6, atol=0)
    eps = 0.02 + needed.mean()
    best = linear_attack(network, x, labels, norm=norm, eps=eps)
    torch.testing.assert_close(
        best.loss, (eps * steep - gap).where(steep > 0, -torch.inf).amax(1), rtol=1e-6, atol=1e-6
    )


def test_the_exact_attack_tries_every_corner() -> None:
    network = linear(3, (3, 1, 2), seed=5)
    x = draw(20, 3, 1, 2)
    labels = labels_of(network, x)
    corners = torch.cartesian_prod(*[torch.tensor([-0.2, 0.2], dtype=torch.float64)] * 6).view(-1, 3, 1, 2)
    found = linear_attack(network, x, labels, eps=0.2)
    for i, label in enumerate(labels.tolist()):
        scores = network((x[i] + corners).clamp(0, 1)).detach()
        margin = scores.scatter(1, torch.full((64, 1), label), -1e9).amax(1) - scores[:, label]
        assert found.loss[i].item() == pytest.approx(margin.max().item())
        assert found.success[i].item() == (margin.max().item() > 0)


def test_the_exact_attack_says_that_a_network_is_not_linear() -> None:
    with pytest.raises(SaccadeError, match="Could not attack exactly: the network is not linear"):
        linear_attack(conv_net(), draw(4, 3, 8, 8), labels_of(conv_net(), draw(4, 3, 8, 8)), eps=0.3)


@pytest.mark.parametrize(("name", "norm"), EVERY)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 100.0), (1000.0, -100.0)])
def test_meets_the_optimum_of_linear_networks(name: str, norm: Norm, scale: float, shift: float) -> None:
    """CE saturates at logits times 1000 (PGD of torchattacks: 17 % instead of 77 %), margins of one-hot times logits
    fail where all are negative."""
    plain = linear(2)
    network = Linear(plain.weight.detach(), plain.bias.detach(), scale=scale, shift=shift).float()
    x = draw(40, 3, 4, 4, dtype=torch.float32)
    labels = labels_of(network, x)
    eps = {"linf": 0.02, "l2": 0.13, "l1": 0.55}[norm]
    settings = {"steps": 20} if "steps" not in ATTACKS[name].settings and name != "linear" else {}
    found = ATTACKS[name](network, x, labels, norm=norm, eps=eps, **settings)
    near = 1e-5 if norm == "linf" or name == "linear" else 0.01
    sure = linear_attack(network, x, labels, norm=norm, eps=eps * (1 - near)).success
    never = ~linear_attack(network, x, labels, norm=norm, eps=eps * (1 + 1e-5)).success
    assert 10 < sure.sum() < 35
    assert found.success[sure].all()
    assert not found.success[never].any()


@pytest.mark.parametrize("classes", [3, 5, 10])
@pytest.mark.parametrize("name", ["pgd", "pgd-l2", "pgd-l1", "mi-fgsm", "upgd"])
def test_meets_the_optimum_of_linear_networks_of_more_classes(name: str, classes: int) -> None:
    """By the margin, whose slope is that of the class it is nearest to; cross entropy may weigh several against each
    other, and can miss it."""
    network, x = linear(classes), draw(40, 3, 4, 4)
    labels = labels_of(network, x)
    norm = ATTACKS[name].norms[0]
    eps = {"linf": 0.02, "l2": 0.13, "l1": 0.55}[norm]
    exact, surely = (linear_attack(network, x, labels, norm=norm, eps=e).success for e in (eps * 1.00001, eps * 0.97))
    assert 10 < surely.sum() < 37
    found = ATTACKS[name](network, x, labels, norm=norm, eps=eps, steps=20, loss="margin").success
    assert not (found & ~exact).any()
    assert (surely & ~found).sum() <= (norm == "l1")  # whose starts may lie beside another class
    soft = ATTACKS[name](network, x, labels, norm=norm, eps=eps, steps=20, loss="ce").success
    assert not (soft & ~exact).any()
    assert (surely & ~soft).sum() <= 3
