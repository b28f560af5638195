"""SparseFool against the closed form of linear networks, whose boundary it must cross in one step."""

from functools import partial

import pytest
import torch
from attack.nets import LINEAR, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, linear, ratios

from saccade.attack.sparsefool import sparsefool
from saccade.errors import SaccadeError


@pytest.mark.parametrize("norm", ["l1", "l0"])
@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_optimum_of_linear_networks(
    norm: str, classes: int, scale: float, shift: float, binary: bool
) -> None:
    """The nearest of several classes is that of DeepFool, in L2: only at the end all of them are looked at."""
    found = ratios(partial(sparsefool, norm=norm), norm, classes, scale=scale, shift=shift, binary=binary)
    assert found.min() > 0.99
    assert found.max() <= 1.05


@pytest.mark.parametrize("norm", ["l1", "l0"])
def test_keeps_its_promises(norm: str) -> None:
    keeps_the_promises_of_minimum_norms(
        partial(sparsefool, norm=norm), norm, least=10, targeted=False, weak={"steps": 0}
    )


def test_fewer_values_change_than_by_deepfool_and_a_push_changes_more() -> None:
    network, x = conv_net(), draw(10, 3, 8, 8)
    labels = labels_of(network, x)
    near, far = (sparsefool(network, x, labels, push=push) for push in (1.0, 3.0))
    assert near.success.all()
    assert far.success.all()
    assert near.norm.max() < 60  # of 192
    assert near.norm.mean() < far.norm.mean()
    assert far.forwards.sum() <= near.forwards.sum()


def test_values_are_taken_in_the_order_of_the_norm() -> None:
    """A slope of 3 with little room against a slope of 2 with much."""
    network = linear(2, (3, 1, 1))
    with torch.no_grad():
        network.weight[1] = torch.tensor([3.0, 2.0, 0.1]).view(3, 1, 1)
        network.weight[0] = 0
        network.bias[:] = torch.tensor([0.0, -4.0])
    x = torch.tensor([0.9, 0.4, 0.5], dtype=torch.float64).view(1, 3, 1, 1)  # a lead of 0.45
    for norm, moved in (("l1", [True, True, False]), ("l0", [False, True, False])):
        found = sparsefool(network, x, 0, norm=norm)
        assert (found.adversarial != x).flatten().tolist() == moved
        assert found.success.all()


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    with pytest.raises(SaccadeError, match="norm is 'l2', expected one of l1, l0"):
        sparsefool(network, x, 0, norm="l2")
    with pytest.raises(SaccadeError, match=r"push is 0\.5, expected a finite number, 1 or more"):
        sparsefool(network, x, 0, push=0.5)
