"""Accuracy over budgets."""

import pytest
import torch
from attack.nets import draw, labels_of, linear

from saccade.attack import linear_attack
from saccade.attack.evaluate import evaluate, robustness_curve, wilson
from saccade.errors import SaccadeError


def test_each_point_counts_the_pictures_that_need_more() -> None:
    sizes = torch.tensor([0.0, 0.1, 0.2, 0.2, 0.5, torch.inf])
    found = robustness_curve(sizes, eps=0.2, points=5)
    reach = float(found.eps[-1])
    assert reach >= 0.4
    for eps, share, low, high in zip(*(each.tolist() for each in vars(found).values()), strict=True):
        count = sum(size > eps * (1 + 1e-6) for size in sizes.tolist())
        assert share == pytest.approx(count / 6)
        assert (low, high) == pytest.approx(wilson(count, 6))
    assert found.robust[0] == pytest.approx(5 / 6)  # without any change: clean accuracy


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_of_a_linear_network_it_is_that_of_the_closed_form(norm: str) -> None:
    network, x = linear(3), draw(16, 3, 4, 4)
    labels = labels_of(network, x)
    labels[0] = (labels[0] + 1) % 3
    found = evaluate(network, x, labels, suite=["fgsm"], norm=norm, checked=0)
    assert found.curve is not None
    at = found.curve.eps[8::16]
    for eps, share in zip(at.tolist(), found.curve.robust[8::16].tolist(), strict=True):
        exact = (~linear_attack(network, x, labels, norm=norm, eps=eps).success).double().mean()
        assert exact <= share + 1e-9  # no attack is better than the exact one
        assert share <= exact + 1.01 / 16


def test_nothing_to_find() -> None:
    found = robustness_curve(torch.tensor([0.0, torch.inf]))
    assert found.robust.tolist() == [0.5] * 65


@pytest.mark.parametrize(("count", "points"), [(0, 5), (3, 1)])
def test_refuses(count: int, points: int) -> None:
    with pytest.raises(SaccadeError, match="Could not draw a robustness curve"):
        robustness_curve(torch.zeros(count), points=points)
