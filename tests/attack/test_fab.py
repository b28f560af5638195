"""FAB against closed forms, and against the paper's iteration written plainly, picture by picture."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from attack.nets import (
    conv_net,
    draw,
    keeps_the_promises_of_minimum_norms,
    labels_of,
    linear,
    optimum,
    ratios,
    sizes,
)
from scipy.optimize import linprog
from torch import Tensor, nn

from saccade.attack.fab import _hop, _to_plane, fab
from saccade.errors import SaccadeError

X = draw(6, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)
NORMS = ["linf", "l2", "l1"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 5])
def test_on_linear_networks_it_finds_the_nearest_point(norm: str, classes: int) -> None:
    for goals in (0, 9):
        found = ratios(partial(fab, norm=norm, steps=20, classes=goals), norm, classes, count=12)
        assert found.min() > 1 - 1e-4
        assert found.max() < 1.01


@pytest.mark.parametrize(
    "settings",
    [{"scale": 1000.0, "shift": -100.0}, {"shift": 100.0}, {"binary": True}],
    ids=["scale", "shift", "binary"],
)
def test_it_is_unmoved_by_scale_and_shift_of_the_scores_and_by_black_and_white(settings: dict[str, Any]) -> None:
    assert ratios(partial(fab, norm="linf"), "linf", 3, count=12, steps=20, **settings).max() < 1.01


@pytest.mark.parametrize("norm", NORMS)
def test_keeps_the_promises(norm: str) -> None:
    keeps_the_promises_of_minimum_norms(partial(fab, norm=norm, steps=8), norm, weak={"eps": 1e-5, "steps": 3})


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_onto_plane_and_box(norm: str) -> None:
    """The least norm as a linear program, or for l2 by the condition of Lagrange."""
    z, slope = draw(6, 1, 2, 4, seed=1), draw(6, 1, 2, 4, seed=2) - 0.5
    z[0], slope[1, 0, 0, :2] = (z[0] > 0.5).double(), 0.0
    gap = torch.tensor([-0.3, 0.2, -0.6, 0.5, -0.05, -9.0], dtype=torch.float64)  # the last is out of reach
    zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    found = _to_plane(z, zero, one, slope, gap, norm)
    assert (z + found).min() >= 0
    assert (z + found).max() <= 1
    reached = gap + (slope * found).flatten(1).sum(1)
    torch.testing.assert_close(reached[:5], torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-9)
    farthest = torch.where(slope > 0, 1 - z, torch.where(slope < 0, -z, 0))
    torch.testing.assert_close(found[5], farthest[5])
    for i in range(5):
        d, s = found[i].flatten(), slope[i].flatten()
        low, high = -z[i].flatten(), 1 - z[i].flatten()
        if norm == "l2":
            free = (d > low + 1e-9) & (d < high - 1e-9) & (s != 0)
            multiplier = d[free] / s[free]
            torch.testing.assert_close(multiplier, multiplier[:1].expand_as(multiplier))
            bound = ~free & (s != 0)
            assert (d[bound].abs() <= (multiplier[0] * s[bound]).abs() + 1e-9).all()
            continue
        n = len(d)
        if norm == "linf":  # variables: change, size
            cost = np.r_[np.zeros(n), 1]
            bounds = [*zip(low.tolist(), high.tolist(), strict=True), (0, None)]
            upper = np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]])
        else:  # change, and the magnitude of each value
            cost = np.r_[np.zeros(n), np.ones(n)]
            bounds = [*zip(low.tolist(), high.tolist(), strict=True), *[(0, None)] * n]
            upper = np.block([[np.eye(n), -np.eye(n)], [-np.eye(n), -np.eye(n)]])
        equal = np.r_[s.numpy(), np.zeros(len(cost) - n)][None]
        best = linprog(cost, upper, np.zeros(len(upper)), equal, [-gap[i].item()], bounds=bounds)
        assert best.success
        assert sizes(found[i : i + 1], norm).item() == pytest.approx(best.fun, rel=1e-6)


def plainly(network: nn.Module, x: Tensor, label: int, goal: int, norm: str, steps: int) -> float:
    """Algorithm 1 of arXiv:1907.02044 for one picture and one other class: the least norm that was found."""
    z, best = x.clone(), torch.inf
    for _ in range(steps):
        z.requires_grad_()
        scores = network(z[None])[0]
        (slope,) = torch.autograd.grad(scores[goal] - scores[label], z)
        gap, z = (scores[goal] - scores[label]).detach(), z.detach()
        zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
        from_z = _to_plane(z[None], zero, one, slope[None], gap[None], norm)[0]
        from_x = _to_plane(x[None], zero, one, slope[None], (gap + (slope * (x - z)).sum())[None], norm)[0]
        long, short = sizes(from_z[None], norm), sizes(from_x[None], norm)
        alpha = min(long / (long + short), 0.1)
        z = ((1 - alpha) * (z + 1.05 * from_z) + alpha * (x + 1.05 * from_x)).clamp(0, 1)
        with torch.no_grad():
            if network(z[None]).argmax() != label:
                best = min(best, sizes((z - x)[None], norm).item())
                z = x + 0.9 * (z - x)
    return best


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_algorithm_of_the_paper(norm: str) -> None:
    found = fab(NETWORK, X, LABELS, norm=norm, steps=9, classes=1)
    with torch.no_grad():
        goals = NETWORK(X).topk(2, dim=1).indices[:, 1]
    for i in range(6):
        expected = plainly(NETWORK, X[i], int(LABELS[i]), int(goals[i]), norm, 9)
        assert found.norm[i].item() == pytest.approx(0 if expected == torch.inf else expected, rel=1e-6)
    assert found.success.all()


def test_untargeted_it_goes_to_the_nearest_of_all_boundaries() -> None:
    network, x = linear(5), draw(6, 3, 4, 4)
    labels = labels_of(network, x)
    one_step = fab(network, x, labels, norm="l2", steps=2)
    least = optimum(network, x, labels, "l2")
    torch.testing.assert_close(one_step.norm, 1.05 * least, rtol=0.06, atol=0)  # the first step overshoots the plane
    assert one_step.backwards.max() <= 3 * 4  # a gradient for each of the four boundaries


def test_a_picture_leaves_once_it_is_fooled_within_eps() -> None:
    least = fab(NETWORK, X, LABELS, norm="linf", steps=20, classes=9)
    eps = least.norm.median().item() * 1.001
    early = fab(NETWORK, X, LABELS, norm="linf", steps=20, classes=9, eps=eps)
    assert torch.equal(early.success, least.norm <= eps)
    assert early.norm.max() <= eps
    assert torch.equal(early.adversarial[~early.success], X[~early.success])
    assert (early.forwards[early.success] < least.forwards[early.success]).all()
    assert torch.equal(early.forwards[~early.success], least.forwards[~early.success])
    each = torch.linspace(0.5, 1.5, 6).double() * least.norm
    assert torch.equal(fab(NETWORK, X, LABELS, steps=20, classes=9, eps=each).success, each >= least.norm)


def test_more_starts_find_nothing_farther() -> None:
    for norm in NORMS:
        once = fab(NETWORK, X, LABELS, norm=norm, steps=5, classes=1)
        more = fab(NETWORK, X, LABELS, norm=norm, steps=5, classes=1, restarts=2, seed=3)
        assert (more.norm <= once.norm).all()
        assert (more.forwards > once.forwards).all()


def test_fab_takes_gradients_that_do_not_lie_in_the_usual_order() -> None:
    """`.view` of a gradient that is laid out channels last raises in other implementations."""
    network = conv_net().to(memory_format=torch.channels_last)
    for settings in ({}, {"classes": 2}, {"targets": (LABELS + 1) % 5}):
        found = fab(network, X.to(memory_format=torch.channels_last), LABELS, steps=4, **settings)
        expected = fab(NETWORK, X, LABELS, steps=4, **settings)
        torch.testing.assert_close(found.norm, expected.norm)


def test_fab_toward_targets_keeps_to_each_pictures_own_target() -> None:
    """The targets of others' rows are taken elsewhere as soon as one picture was wrong before."""
    x = draw(12, 3, 8, 8)
    with torch.no_grad():
        first, second = NETWORK(x).topk(2, dim=1).indices.T
    labels = first.clone()
    labels[::3] = (second[::3] + 1) % 5  # a third is wrong before
    found = fab(NETWORK, x, labels, targets=second, norm="l2", steps=15)
    assert torch.equal(labels_of(NETWORK, found.adversarial) == second, found.success)
    assert found.success.sum() >= 11
    for i in (1, 5, 10):
        alone = fab(NETWORK, x[i : i + 1], labels[i : i + 1], targets=second[i : i + 1], norm="l2", steps=15)
        torch.testing.assert_close(alone.norm[0], found.norm[i])
    aimed = fab(NETWORK, x, first, norm="l2", steps=15, classes=1)  # the goal is that of the row too
    for i in (1, 5, 10):
        alone = fab(NETWORK, x[i : i + 1], first[i : i + 1], norm="l2", steps=15, classes=1)
        torch.testing.assert_close(alone.norm[0], aimed.norm[i])


def test_a_step_stays_in_its_box() -> None:
    slope, gap = draw(6, 3, 8, 8, seed=8) - 0.5, torch.full((6,), -3.0, dtype=torch.float64)
    low, high = (X - 0.05).clamp_min(0), (X + 0.02).clamp_max(1)
    for norm in NORMS:
        z = _hop(X, X, low, high, slope, gap, norm)
        assert ((z >= low) & (z <= high)).all()
        assert (z != X).flatten(1).any(1).all()


def test_what_it_refuses() -> None:
    for settings, message in (
        ({"steps": 0}, "Could not attack with FAB: steps is 0"),
        ({"classes": 9, "targets": 0}, "both targets and classes"),
        ({"norm": "l0"}, "norm is 'l0'"),
    ):
        with pytest.raises(SaccadeError, match=message):
            fab(NETWORK, X, LABELS, **settings)
