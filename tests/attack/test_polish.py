"""The last steps of attacks for the smallest change: exact where scores are linear, and never a step back."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear, optimum, sizes
from torch import Tensor, nn

from saccade.attack.carlini_wagner import carlini_wagner
from saccade.attack.ddn import ddn
from saccade.attack.elastic_net import elastic_net
from saccade.attack.engine import Search, searching
from saccade.attack.fmn import fmn
from saccade.attack.polish import HALVINGS, go_nearer
from saccade.attack.sigma_zero import sigma_zero
from saccade.attack.sparsefool import sparsefool


def far_point(search: Search, network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Offer a fooling point far from each picture: noise that happens to be of another class."""
    for seed in range(40):
        z = draw(*x.shape, seed=100 + seed).to(x)
        search.offer(z, search.every_row, search.ask(z, search.every_row))
    assert search.success.all()
    return search.norm.clone()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("classes", [2, 5, 10])
def test_it_goes_to_the_optimum_of_linear_networks_from_anywhere(norm: str, classes: int) -> None:
    network, x = linear(classes), draw(16, 3, 4, 4)
    labels = labels_of(network, x)
    with searching(network, x, labels, operation="attack with this", norm=norm) as search:
        before = far_point(search, network, x, labels)
        go_nearer(search, search.every_row)
        found = search.result()
    least = optimum(network, x, labels, norm)
    assert (before / least).mean() > 2
    assert (found.norm / least).min() >= 1 - 1e-9
    assert (found.norm / least).max() <= 1.002
    torch.testing.assert_close(found.norm, sizes(found.adversarial - x, norm))
    assert (labels_of(network, found.adversarial) != labels).all()
    assert found.backwards.tolist() == [classes - 1 + 1] * 16
    assert found.forwards.tolist() == [1 + 40 + 2 * 3 + (0 if norm == "l0" else HALVINGS)] * 16


ATTACKS: dict[str, tuple[Callable[..., Any], str]] = {
    "cw-l2": (partial(carlini_wagner, steps=30, searches=3), "l2"),
    "cw-linf": (partial(carlini_wagner, norm="linf", steps=30, searches=5), "linf"),
    "ead": (partial(elastic_net, steps=30, searches=3), "l1"),
    "ddn": (partial(ddn, steps=30), "l2"),
    "fmn-l1": (partial(fmn, norm="l1", steps=30), "l1"),
    "sigma-zero": (partial(sigma_zero, steps=60), "l0"),
    "sparsefool": (sparsefool, "l0"),
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_attack_never_gets_worse_by_it(name: str) -> None:
    attack, norm = ATTACKS[name]
    network, x = conv_net(), draw(12, 3, 8, 8)
    labels = labels_of(network, x)
    mask = torch.zeros(8, 8)
    mask[1:7, 1:7] = 1
    for settings in ({}, {"mask": mask}):
        rough, fine = (attack(network, x, labels, polish=polish, **settings) for polish in (False, True))
        assert torch.equal(rough.success, fine.success)
        assert rough.success.sum() >= 8
        assert (fine.norm <= rough.norm).all()
        assert torch.equal(labels_of(network, fine.adversarial) != labels, fine.success)
        torch.testing.assert_close(fine.norm, sizes(fine.adversarial - x, norm))
        assert fine.adversarial.min() >= 0
        assert fine.adversarial.max() <= 1
        assert torch.equal(fine.adversarial[~fine.success], x[~fine.success])
    assert not ((fine.adversarial != x) & (mask == 0)).any()


def test_it_helps_on_networks_that_are_not_linear() -> None:
    network, x = conv_net(), draw(12, 3, 8, 8)
    labels = labels_of(network, x)
    attack = ATTACKS["cw-linf"][0]
    rough, fine = (attack(network, x, labels, polish=polish) for polish in (False, True))
    assert (fine.norm / rough.norm).mean() < 0.97


def test_targets_and_confidence_are_kept() -> None:
    network, x = conv_net(), draw(12, 3, 8, 8)
    labels = labels_of(network, x)
    with torch.no_grad():
        wanted = network(x).topk(2, dim=1).indices[:, 1]
    rough, fine = (
        carlini_wagner(network, x, labels, targets=wanted, confidence=0.5, steps=40, searches=4, polish=polish)
        for polish in (False, True)
    )
    assert fine.success.sum() >= 8
    assert torch.equal(rough.success, fine.success)
    assert (fine.norm[fine.success] < rough.norm[fine.success]).any()
    scores = network(fine.adversarial[fine.success]).detach().scatter(1, wanted[fine.success, None], -torch.inf)
    own = network(fine.adversarial[fine.success]).detach().gather(1, wanted[fine.success, None])[:, 0]
    assert (own - scores.amax(1)).min() >= 0.5 - 1e-9


def test_a_tie_of_scores_does_not_replace_what_is_clear() -> None:
    """In another batch it may be broken the other way, and the picture would not fool any more."""
    network, x = linear(2).float(), draw(1, 3, 4, 4).float()
    labels = labels_of(network, x)
    with searching(network, x, labels, operation="attack with this", norm="l2") as search:
        rows = search.every_row
        clear, tie = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]])
        clear[0, 1 - labels[0]] += 0.1
        tie[0, 1 - labels[0]] += 6e-8
        search.offer(x + 0.2, rows, clear)
        search.offer(x + 0.1, rows, tie)
        assert torch.equal(search.best, x + 0.2)
        search.offer(x + 0.1, rows, clear)
        assert torch.equal(search.best, x + 0.1)


def test_what_was_not_fooled_costs_nothing() -> None:
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    labels[0] = (labels[0] + 1) % 5  # wrong before
    with searching(network, x, labels, operation="attack with this", norm="l2") as search:
        go_nearer(search, search.every_row)
        found = search.result()
    assert found.forwards.tolist() == [1] * 4
    assert found.success.tolist() == [True, False, False, False]
