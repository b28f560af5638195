"""Projections, best points, starts and roundings against plain second implementations and exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from attack.nets import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from saccade.attack.balls import NORMS, ORDERS, Ball, Norm, ball, crossing, distance, moved, steepest
from saccade.errors import SaccadeError

ORDER = {"linf": float("inf"), "l2": 2, "l1": 1}
SIDE = 4


def made(
    norm: Norm, eps: float | list[float], *, count: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Ball:
    """Balls around random pictures, a quarter of whose values are at a border of the box."""
    x = draw(count, 3, SIDE, SIDE, seed=seed) * 1.4 - 0.2
    radius = torch.tensor(eps, dtype=dtype).expand(count).view(-1, 1, 1, 1)
    low, high = torch.zeros(1, 1, 1, 1, dtype=dtype), torch.ones(1, 1, 1, 1, dtype=dtype)
    return ball(norm, x.clamp(0, 1).to(dtype), radius, low, high, "test")


def length(change: Tensor, norm: Norm) -> Tensor:
    return torch.linalg.vector_norm(change.double().flatten(1), ord=ORDER[norm], dim=1)


def feasible(where: Ball, seed: int) -> Tensor:
    """Random points of ball and box, many of them at the borders of both."""
    change = (draw(*where.x.shape, seed=seed) - 0.5) * (draw(*where.x.shape, seed=seed + 1) < 0.3)
    size = length(change, where.norm).view(-1, 1, 1, 1)
    return (where.x + change * where.eps / size).clamp(0, 1)


@pytest.mark.parametrize("norm", NORMS)
@given(
    eps=st.sampled_from([1e-3, 0.05, 0.3, 1.0, 4.0, 100.0]),
    far=st.sampled_from([0.01, 0.3, 5.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_the_projection_is_the_nearest_point(norm: Norm, eps: float, far: float, seed: int) -> None:
    where = made(norm, eps, seed=seed)
    z = where.x + far * (draw(*where.x.shape, seed=seed + 500) - 0.5)
    near = where.project(z)
    assert (length(near - where.x, norm) <= eps * (1 + 1e-9)).all()
    assert near.min() >= 0
    assert near.max() <= 1
    torch.testing.assert_close(where.project(near), near, rtol=0, atol=2e-7 * max(1, eps))
    for k in range(8):  # of a convex set: no point of it lies on the far side of the plane through the nearest
        other = feasible(where, 1000 + 10 * k + seed)
        side = ((z - near) * (other - near)).flatten(1).sum(1)
        assert (side <= 1e-6 * far * max(1, eps)).all()
    inside = feasible(where, seed)
    inside = where.x + 0.99 * (inside - where.x)
    torch.testing.assert_close(where.project(inside), inside, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_projection_meets_the_condition_of_lagrange(norm: Norm) -> None:
    where = made(norm, 0.7)
    z = where.x + 0.8 * (draw(*where.x.shape, seed=3) - 0.5)
    for x, point, found in zip(where.x, z, where.project(z), strict=True):
        low, high = 0.0, 10.0  # bisection for the multiplier, in plain words
        for _ in range(200):
            t = (low + high) / 2
            v = point - x
            change = v / (1 + t) if norm == "l2" else v.sign() * (v.abs() - t).clamp_min(0)
            change = (x + change).clamp(0, 1) - x
            low, high = (t, high) if change.norm(ORDER[norm]) > 0.7 else (low, t)
        torch.testing.assert_close(found, x + change, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.02, 0.6, 3.0, 50.0])
def test_the_best_point_of_a_linear_function(norm: Norm, eps: float) -> None:
    where = made(norm, eps)
    gradient = draw(*where.x.shape, seed=7) - 0.5
    gradient[:, 0, 0] = 0.0
    gradient[1] *= 1e-25  # a tiny slope is a slope
    best = where.best(gradient)
    assert (length(best - where.x, norm) <= eps * (1 + 1e-9)).all()
    assert best.min() >= 0
    assert best.max() <= 1
    assert torch.equal(best[:, 0, 0], where.x[:, 0, 0])
    gain = (gradient * (best - where.x)).flatten(1).sum(1)
    for k in range(20):
        other = feasible(where, 50 * k)
        assert (gain >= (gradient * (other - where.x)).flatten(1).sum(1) * (1 - 2e-7) - 1e-30).all()
    if norm == "l2":
        size = gradient.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
        far = where.project(where.x + 1e7 * gradient / size)
        torch.testing.assert_close(best, far, rtol=0, atol=1e-5)
        return
    for i in (0, 1):  # the same as a linear programme, of what is added and what is taken away
        x, g = where.x[i].flatten().numpy(), gradient[i].flatten().numpy()
        g = g / np.abs(g).max()
        reach = (1 - x, x) if norm == "l1" else (np.minimum(1 - x, eps), np.minimum(x, eps))
        limits = [(0, most) for most in np.concatenate(reach)]
        budget = {"A_ub": np.ones((1, 2 * len(x))), "b_ub": [eps]} if norm == "l1" else {}
        optimum = -linprog(np.concatenate([-g, g]), bounds=limits, **budget).fun
        assert gain[i].item() / gradient[i].abs().max().item() == pytest.approx(optimum, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_border_the_best_point_gains_eps_times_the_dual_norm(norm: Norm) -> None:
    x = 0.4 + 0.2 * draw(3, 3, SIDE, SIDE)
    eps = torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64).view(-1, 1, 1, 1)
    where = ball(norm, x, eps, torch.full((1, 1, 1, 1), -1.0), torch.full((1, 1, 1, 1), 2.0), "test")
    gradient = draw(*x.shape, seed=7) - 0.5
    gain = (gradient * (where.best(gradient) - x)).flatten(1).sum(1)
    dual = {"linf": 1, "l2": 2, "l1": float("inf")}[norm]
    torch.testing.assert_close(gain, eps.flatten() * gradient.flatten(1).norm(dual, dim=1), rtol=2e-7, atol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 8 / 255, 0.5, 12.0])
def test_budgets_hold_in_float32(norm: Norm, eps: float) -> None:
    where = made(norm, eps, count=40, dtype=torch.float32)
    gradient = (draw(*where.x.shape, seed=2) - 0.5).float()
    outside = where.x + 20 * eps * steepest(gradient, norm)
    for point in (where.project(outside), where.best(gradient), where.random(5)):
        assert point.dtype == torch.float32
        assert (length(point.double() - where.x.double(), norm) <= eps * (1 + 1e-6)).all()
        assert point.min() >= 0
        assert point.max() <= 1


@given(st.floats(0, 1, width=32), st.floats(-1, 1, width=32, allow_subnormal=False))
@settings(max_examples=300, deadline=None)
def test_moved_rounds_towards_where_it_came_from(x: float, change: float) -> None:
    z = moved(torch.tensor(x), torch.tensor(change)).item()
    exact = Fraction(x) + Fraction(change)
    assert abs(Fraction(z) - Fraction(x)) <= abs(Fraction(change))
    ulp = Fraction(float(np.spacing(np.float32(max(abs(z), abs(x))))))
    assert abs(Fraction(z) - exact) <= 2 * ulp


@pytest.mark.parametrize("norm", NORMS)
def test_starts_are_uniform_in_the_ball_and_the_same_for_every_picture(norm: Norm) -> None:
    eps = torch.tensor([0.2, 0.1], dtype=torch.float64).view(-1, 1, 1, 1)
    x = torch.full((2, 1, 1, 3), 0.5, dtype=torch.float64)
    low, high = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    where = ball(norm, x, eps, low, high, "test")
    points = torch.stack([where.random(seed) for seed in range(2000)]) - x
    torch.testing.assert_close(points[:, 0], 2 * points[:, 1], rtol=0, atol=1e-12)
    share = points[:, 0].flatten(1).norm(ORDER[norm], dim=1) / 0.2
    assert share.max() <= 1
    for part in (0.25, 0.5, 0.75):  # in three dimensions the cubes of the lengths are uniform
        assert (share**3 < part).double().mean().item() == pytest.approx(part, abs=0.04)
    assert points[:, 0].mean(0).abs().max() < 0.01
    assert torch.equal(where.random(3), where.random(3))
    shares = points[:, 0].flatten(1).abs()  # no axis is preferred
    assert shares.mean(0).max() / shares.mean(0).min() < 1.1


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_steps_have_their_length(scale: float) -> None:
    gradient = (draw(3, 3, SIDE, SIDE) - 0.5).float() * scale
    gradient[2] = 0
    assert torch.equal(steepest(gradient, "linf"), gradient.sign())
    for norm in ("l2", "l1"):
        step = steepest(gradient, norm)
        torch.testing.assert_close(step.flatten(1).norm(dim=1), torch.tensor([1.0, 1.0, 0.0]))
        along = (step * (gradient / scale)).flatten(1).sum(1)[:2]
        torch.testing.assert_close(along, (gradient / scale).flatten(1).norm(dim=1)[:2])


@pytest.mark.parametrize("norm", NORMS)
def test_a_climb_is_a_step_and_a_projection(norm: Norm) -> None:
    where = made(norm, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    gradient = draw(*where.x.shape, seed=4) - 0.5
    z = where.project(where.x + draw(*where.x.shape, seed=5) - 0.5)
    alpha = where.eps / 2
    if norm == "linf":
        step = alpha * gradient.sign()
    elif norm == "l2":
        step = alpha * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    else:
        step = (where.best(gradient) - where.x) / 2
    torch.testing.assert_close(where.climb(z, gradient, alpha), where.project(z + step), rtol=0, atol=1e-12)
    for _ in range(60):  # of a linear function it ends at the best point
        z = where.climb(z, gradient, alpha)
    gain, most = ((gradient * (point - where.x)).flatten(1).sum(1) for point in (z, where.best(gradient)))
    torch.testing.assert_close(gain, most, rtol=0.01 if norm == "l1" else 1e-3, atol=1e-9)


def test_distances() -> None:
    change = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]]).view(2, 3, 1, 1)
    found = {norm: distance(change, norm).tolist() for norm in ("linf", "l2", "l1", "l0")}
    assert found == {"linf": [4, 0], "l2": [5, 0], "l1": [7, 0], "l0": [2, 0]}


def test_a_part_of_the_balls_and_an_unknown_norm() -> None:
    where = made("l1", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    z = where.x + 1
    on = torch.tensor([True, False, False, True, False, True])
    assert torch.equal(where[on].project(z[on]), where.project(z)[on])
    with pytest.raises(SaccadeError, match="norm is 'l7', expected one of linf, l2, l1"):
        made("l7", 0.1)


@pytest.mark.parametrize("norm", list(ORDERS))
@given(need=st.sampled_from([0.0, 1e-4, 0.1, 1.0, 4.0, 1e3]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_crossing_is_the_nearest_point_that_gains_so_much(norm: Norm, need: float, seed: int) -> None:
    x = made("l2", 1.0, seed=seed).x
    gradient = draw(*x.shape, seed=seed + 900) - 0.5
    low, high = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    z = crossing(norm, x, gradient, torch.full((6,), need, dtype=torch.float64), low, high)
    assert z.min() >= 0
    assert z.max() <= 1
    gain = (gradient * (z - x)).flatten(1).sum(1)
    most = (gradient * (torch.where(gradient > 0, 1.0, 0.0) - x)).flatten(1).sum(1)
    torch.testing.assert_close(gain, most.clamp(max=need), rtol=1e-9, atol=1e-9)
    size = distance(z - x, norm)
    reached = (most > need) & (size > 0)
    less = torch.floor(size - 1) if norm == "l0" else size * (1 - 1e-6)  # no ball that is smaller holds such a point
    where = ball(norm, x, less.clamp_min(0).view(-1, 1, 1, 1), low, high, "test")
    best = (gradient * (where.best(gradient) - x)).flatten(1).sum(1)
    assert (best < need)[reached].all()


def test_the_ball_of_l0_keeps_the_values_that_matter_most() -> None:
    where = made("l0", [0.0, 1.0, 2.0, 3.9, 10.0, 48.0])
    z = where.x + draw(*where.x.shape, seed=9) - 0.5
    found = where.project(z)
    for x, point, near, count in zip(where.x, z, found, (0, 1, 2, 3, 10, 48), strict=True):
        inside = point.clamp(0, 1)
        saved = ((point - x).square() - (point - inside).square()).flatten()
        kept = torch.zeros(48, dtype=torch.bool)
        kept[saved.argsort(descending=True)[:count]] = True
        torch.testing.assert_close(near.flatten(), torch.where(kept, inside.flatten(), x.flatten()))
    gradient = draw(*where.x.shape, seed=8) - 0.5
    best = where.best(gradient)
    assert (distance(best - where.x, "l0") <= where.eps.flatten()).all()
    gains = (gradient * (torch.where(gradient > 0, 1.0, 0.0) - where.x)).flatten(1).sort(1, descending=True).values
    most = torch.stack([row[:count].sum() for row, count in zip(gains, (0, 1, 2, 3, 10, 48), strict=True)])
    torch.testing.assert_close((gradient * (best - where.x)).flatten(1).sum(1), most)
