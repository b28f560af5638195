"""The attacks of Carlini and Wagner against the closed form of linear networks, and their known mistakes elsewhere."""

from functools import partial

import pytest
import torch
from attack.nets import (
    LINEAR,
    Linear,
    conv_net,
    draw,
    keeps_the_promises_of_minimum_norms,
    labels_of,
    linear,
    optimum,
    ratios,
)

from saccade.attack.carlini_wagner import Box, carlini_wagner, descent, next_constant
from saccade.errors import SaccadeError

NORMS = ["l2", "linf", "l0"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_optimum_of_linear_networks(
    norm: str, classes: int, scale: float, shift: float, binary: bool
) -> None:
    attack = partial(carlini_wagner, norm=norm, searches={"l2": 4, "linf": 20, "l0": 30}[norm])
    found = ratios(attack, norm, classes, scale=scale, shift=shift, binary=binary, count=10)
    assert found.min() > 0.99
    assert found.max() <= 1.05


@pytest.mark.parametrize(("norm", "most"), [("l2", 1.05), ("linf", 1.06), ("l0", 1.35)])
def test_as_published_it_comes_near_the_optimum(norm: str, most: float) -> None:
    found = ratios(partial(carlini_wagner, norm=norm, polish=False), norm, 2, count=10)
    assert found.min() > 0.99
    assert found.mean() <= most


@pytest.mark.parametrize("norm", NORMS)
def test_keeps_its_promises(norm: str) -> None:
    attack = partial(carlini_wagner, norm=norm, searches=4, steps=20, lr=0.03)
    keeps_the_promises_of_minimum_norms(attack, norm, weak={"steps": 0})


def test_cw_is_unmoved_by_a_shift_of_all_logits() -> None:
    """One-hot times logits, as torchattacks has it: a shift by -100 drops its success from 100 % to 3 %."""
    plain, x = linear(4), draw(4, 3, 4, 4)
    labels = labels_of(plain, x)
    found = []
    for shift in (0.0, -100.0):
        network = Linear(plain.weight.detach(), plain.bias.detach(), shift=shift)
        found.append(carlini_wagner(network, x, labels, lr=0.05, searches=4))
    assert found[0].success.all()
    for other in found[1:]:
        torch.testing.assert_close(other.adversarial, found[0].adversarial, rtol=0, atol=1e-3)


def test_cw_changes_pictures_of_zeros_and_ones() -> None:
    """With w at infinity no pixel moves (torchattacks: 0 % success); here all can, and reach the optimum."""
    network = linear(2)
    x = (draw(4, 3, 4, 4) > 0.5).double()
    labels = labels_of(network, x)
    found = carlini_wagner(network, x, labels, lr=0.03, searches=6)
    assert found.success.all()
    assert (found.norm / optimum(network, x, labels, "l2")).mean() <= 1.05


def test_cw_of_a_picture_does_not_depend_on_the_batch() -> None:
    """Early stops by the cost of the whole batch make it so elsewhere (torchattacks, foolbox)."""
    network, x = conv_net(), draw(5, 3, 8, 8)
    labels = labels_of(network, x)
    together = carlini_wagner(network, x, labels, steps=30, searches=3)
    alone = [carlini_wagner(network, x[i : i + 1], labels[i : i + 1], steps=30, searches=3) for i in range(5)]
    assert together.forwards.tolist() == [int(one.forwards) for one in alone]
    torch.testing.assert_close(together.norm, torch.cat([one.norm for one in alone]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_cw_returns_the_original_where_it_fails(norm: str) -> None:
    """foolbox begins at black pictures, returns them, and counts them as success."""
    network = Linear(torch.stack([torch.ones(3, 4, 4), torch.ones(3, 4, 4) * 0.99]), torch.tensor([9.0, 0.0]))
    x = draw(3, 3, 4, 4).float()
    found = carlini_wagner(network, x, 0, norm=norm, steps=10, searches=3)
    assert not found.success.any()
    assert torch.equal(found.adversarial, x)
    assert not found.norm.any()


def test_cw_is_sure_by_as_much_as_told() -> None:
    network, x = conv_net(), draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    plain, sure = (carlini_wagner(network, x, labels, confidence=k, steps=50, searches=4) for k in (0.0, 1.0))
    assert sure.success.all()
    scores = network(sure.adversarial).detach()
    lead = scores.scatter(1, labels[:, None], -torch.inf).amax(1) - scores.gather(1, labels[:, None])[:, 0]
    assert (lead >= 1).all()
    assert (sure.norm > plain.norm).all()


def test_the_box_has_an_inverse_and_a_slope() -> None:
    low, high = torch.zeros(1, 1, 1, 4, dtype=torch.float64), torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]]).double()
    box = Box(low, high)
    z = torch.tensor([[[[0.0, 1.0, 0.3, 0.0]]]]).double()
    w = box.inverse(z)
    assert torch.isfinite(w).all()
    torch.testing.assert_close(box.point(w), z)
    assert box.point(w + 5)[..., 3] == 0  # where nothing may change
    inside = torch.tensor([[[[0.2, -0.4, 0.0, 0.0]]]]).double()
    off = 1e-6
    numeric = (box.point(inside + off) - box.point(inside - off)) / (2 * off)
    torch.testing.assert_close(box.slope(inside), numeric, rtol=1e-8, atol=1e-9)
    assert (box.slope(w)[..., :2] > 0.05).all()


def test_the_descent_is_adam() -> None:
    w = torch.nn.Parameter(draw(2, 1, 2, 2))
    adam, mine = torch.optim.Adam([w], lr=0.1), descent(w.detach().clone())
    for k in range(5):
        gradient = draw(2, 1, 2, 2, seed=k) - 0.5
        w.grad = gradient
        adam.step()
        mine = mine.step(gradient, 0.1)
    torch.testing.assert_close(mine.w, w.detach())


def test_the_constant_is_searched_for_each_picture() -> None:
    c, lower, upper = torch.tensor([1.0, 1.0]), torch.zeros(2), torch.full((2,), torch.inf)
    seen = []
    for _ in range(6):
        c, lower, upper = next_constant(c, lower, upper, c >= torch.tensor([0.3, 37.0]))
        seen.append(c.tolist())
    assert seen[0] == [0.5, 10.0]
    assert seen[1] == [0.25, 100.0]
    assert seen[2] == [0.375, 55.0]
    assert (lower < torch.tensor([0.3, 37.0])).all()
    assert (upper >= torch.tensor([0.3, 37.0])).all()


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    with pytest.raises(SaccadeError, match="norm is 'l1', expected one of l2, linf, l0"):
        carlini_wagner(network, x, 0, norm="l1")
    with pytest.raises(SaccadeError, match="confidence is -1"):
        carlini_wagner(network, x, 0, confidence=-1)
