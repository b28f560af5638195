"""L-BFGS: against PyTorch's, against the solution of a bounded quadratic found by trying all active sets."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures import resize
from saccade.pictures.optimise import LBFGS, Adam, Box, Moment, Plain, Stage, optimise


def pictures(n: int, h: int = 4, w: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bowl(x: Tensor) -> Tensor:
    """Minus a convex quadratic plus a quartic, of any size."""
    flat = x.flatten(1)
    curve = torch.linspace(0.5, 4, flat.shape[1], dtype=x.dtype)
    return -(curve * (flat - 0.3).square() + (flat - 0.6) ** 4).sum(1)


def first_length(score: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Of the first step of PyTorch's L-BFGS."""
    leaf = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(score(leaf).sum(), leaf)
    return float(min(1.0, 1 / slope.abs().sum()) * slope.norm())


def pytorchs(score: Callable[[Tensor], Tensor], start: Tensor, low: float, high: float) -> Iterator[Tensor]:
    """Where PyTorch's L-BFGS is after each step, the picture clamped between them."""
    x = start.clone().requires_grad_()
    rule = torch.optim.LBFGS([x], lr=1, max_iter=1, history_size=10)

    def closure() -> Tensor:
        rule.zero_grad()
        loss = -score(x).sum()
        loss.backward()
        return loss

    while True:
        rule.step(closure)
        with torch.no_grad():
            x.clamp_(low, high)
        yield x.detach().clone()


def test_the_moves_are_those_of_pytorchs():
    start = pictures(1)
    points, theirs = [start], pytorchs(bowl, start, -torch.inf, torch.inf)
    rule = LBFGS(first_length(bowl, start))
    optimise(bowl, start, steps=8, rule=rule, callback=lambda m: points.append(m.pictures))
    before = start
    for k, x in zip(range(8), theirs, strict=False):
        move, before = x - before, x
        assert (points[k + 1] - points[k] - move).norm() < 1e-3 * move.norm()


def test_unheld_the_moves_are_those_of_pytorchs_whose_picture_is_clamped_between_steps():
    """Of a bowl whose middle lies outside in many values."""

    def outside(x: Tensor) -> Tensor:
        return bowl(1.5 * x - 0.5)

    start, points = pictures(1).clamp(0.55, 0.6), []
    rule = LBFGS(first_length(outside, start), low=0.55, high=0.6, held=False, noise=1e9)  # nothing is taken back
    optimise(outside, start, steps=12, rule=rule, callback=lambda m: points.append(m.pictures))
    for ours, x in zip(points, pytorchs(outside, start, 0.55, 0.6), strict=False):
        torch.testing.assert_close(ours, x, rtol=0, atol=1e-6)
    assert len(points) == 12
    assert ((x == 0.55) | (x == 0.6)).double().mean() > 0.3


@pytest.mark.parametrize("long", [0.25, 1.0])
def test_where_the_model_knows_nothing_steps_are_as_long_as_those_kept_suggest(long):
    """Across all moves and turns that are kept, so that nothing but the length is left of the model."""
    rule, state, x = LBFGS(0.1, memory=3, long=long), {}, pictures(1)
    points, slopes = [], []
    for _ in range(6):
        leaf = x.clone().requires_grad_()
        value = bowl(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        points.append(x.flatten())
        slopes.append(slope.flatten())
        with torch.no_grad():
            x = rule(x, value.detach(), slope, state)
    moves = torch.stack([b - a for a, b in itertools.pairwise(points)][-3:])
    turns = torch.stack([a - b for a, b in itertools.pairwise(slopes)][-3:])
    bend = (moves * turns).sum()
    expected = (bend / turns.square().sum()) ** (1 - long) * (moves.square().sum() / bend) ** long
    basis = torch.linalg.qr(torch.cat([moves, turns]).T).Q
    g = pictures(1, seed=5).flatten()
    g = (g - basis @ (basis.T @ g))[None]
    torch.testing.assert_close(rule._model(x.flatten(1), g, state), expected * g, rtol=1e-9, atol=1e-12)


def test_it_learns_from_a_step_that_it_takes_back():
    """The step overshoots the bowl; after it the model maps its turn to its move, as the secant equation says."""
    rule, state, x = LBFGS(30.0), {}, pictures(1)
    leaf = x.clone().requires_grad_()
    for _ in range(2):
        value = bowl(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        with torch.no_grad():
            before, leaf = leaf, rule(leaf, value, slope, state)
        leaf = leaf.detach().requires_grad_()
    assert float(bowl(before.detach())) < float(bowl(x))  # this was taken back
    assert torch.equal(state["x"].view_as(x), x)
    assert 0 < (leaf - x).detach().norm() <= 15.0 + 1e-9
    move, turn = state["moves"][0], state["turns"][0]
    torch.testing.assert_close(move.view_as(x), (before - x).detach())
    torch.testing.assert_close(rule._model(state["x"], turn, state), move, rtol=1e-9, atol=1e-12)


def test_rosenbrocks_valley():
    def valley(x: Tensor) -> Tensor:
        a, b = x.flatten(1)[:, 0::2], x.flatten(1)[:, 1::2]
        return -(100 * (b - a.square()).square() + (1 - a).square()).sum(1)

    found = optimise(valley, torch.zeros(1, 3, 2, 2, dtype=torch.float64), steps=200, rule=LBFGS(0.1))
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-5)


def test_it_goes_on_under_an_objective_that_is_lower_everywhere():
    """The best score so far is not to be compared with those of another objective; nothing is taken back for it."""
    start = pictures(1)
    stages = [Stage((4, 5), 8, bowl), Stage((4, 5), 8, lambda x: bowl(x) - 100)]
    found = optimise(bowl, start, stages=stages, rule=LBFGS(0.1))
    alone = optimise(bowl, start, steps=15, rule=LBFGS(0.1))  # a look less, which was at the same point again
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)


def test_scores_that_are_a_little_wrong_do_not_stop_it():
    """Rosenbrock's valley from 20 up, each value off by up to 1 in 1000: told so, it goes on where it else halves."""
    draw = torch.Generator().manual_seed(0)

    def valley(x: Tensor) -> Tensor:
        a, b = x.flatten(1)[:, 0::2], x.flatten(1)[:, 1::2]
        value = 20 + (100 * (b - a.square()).square() + (1 - a).square()).sum(1)
        return -value * (1 + 1e-3 * (2 * torch.rand(1, generator=draw, dtype=torch.float64) - 1))

    start = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    blind, told = (optimise(valley, start, steps=200, rule=LBFGS(0.1, noise=noise)) for noise in (0.0, 4e-3))
    assert (told - 1).norm() < 0.2 * (blind - 1).norm()


@pytest.mark.parametrize("seed", range(4))
def test_in_a_box_it_solves_a_bounded_quadratic(seed):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(6, 6, dtype=torch.float64, generator=g)
    curve = root @ root.T + 0.3 * torch.eye(6, dtype=torch.float64)
    pull = curve @ (3 * torch.rand(6, dtype=torch.float64, generator=g) - 1)
    loss = lambda x: x @ curve @ x / 2 - pull @ x  # noqa: E731
    best = None
    for held in itertools.product((None, 0.0, 1.0), repeat=6):  # every set of bounds that may be active
        x = torch.tensor([bound or 0.0 for bound in held], dtype=torch.float64)
        free = torch.tensor([bound is None for bound in held])
        if free.any():
            x[free] = torch.linalg.solve(curve[free][:, free], pull[free] - curve[free][:, ~free] @ x[~free])
        if bool(((x >= 0) & (x <= 1)).all()) and (best is None or loss(x) < loss(best)):
            best = x
    score = lambda p: -torch.stack([loss(one) for one in p.flatten(1)])  # noqa: E731
    start = torch.full((1, 3, 1, 2), 0.5, dtype=torch.float64)
    found = optimise(score, start, steps=100, rule=LBFGS(0.1, low=0.0, high=1.0))
    torch.testing.assert_close(found.flatten(), best, rtol=0, atol=1e-6)


def test_pictures_do_not_influence_each_other_and_a_step_is_a_look():
    looks: list[int] = []

    def steep(x: Tensor) -> Tensor:  # halvings at different steps
        looks.append(len(x))
        scale = torch.ones(len(x), dtype=x.dtype)
        return scale * -(x - 0.5).abs().pow(1.5).flatten(1).sum(1) + 0.1 * (9 * x).sin().flatten(1).sum(1)

    start = torch.cat([pictures(1), 7 * pictures(1, seed=1)])
    together = optimise(steep, start, steps=25, rule=LBFGS(5.0))
    assert looks == [2] * 25
    for i in range(2):
        alone = optimise(steep, start[i : i + 1], steps=25, rule=LBFGS(5.0))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-9, atol=1e-11)


def test_nothing_is_read_from_the_device(monkeypatch):
    rule, state = LBFGS(0.5, low=0.0, high=1.0), {}

    def guard(name: str):
        plain = getattr(Tensor, name)

        def read(tensor: Tensor, *args):
            if state.get("count") is not tensor:
                raise AssertionError(f"{name} waits for the device")
            return plain(tensor, *args)

        return read

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero"):
        monkeypatch.setattr(Tensor, name, guard(name))
    values = pictures(2)
    for _ in range(13):
        x = values.detach().requires_grad_()
        score = bowl(x)
        (slope,) = torch.autograd.grad(score.sum(), x)
        values = rule(x.detach(), score.detach(), slope, state)
    monkeypatch.undo()
    assert int(state["count"]) == 12


def test_the_mean_of_the_steps_in_closed_form():
    start = pictures(1)
    points: list[Tensor] = []
    found = optimise(bowl, start, steps=6, rule=Plain(0.01), average=0.8, callback=lambda m: points.append(m.pictures))
    weights = [0.8 ** (5 - k) for k in range(6)]
    mean = sum(w * p for w, p in zip(weights, points, strict=True)) / sum(weights)
    torch.testing.assert_close(found, mean, rtol=1e-12, atol=1e-14)


def test_stages_go_through_their_sizes_and_objectives():
    seen: list[tuple[int, int]] = []

    def rising(x: Tensor) -> Tensor:
        seen.append((x.shape[2], x.shape[3]))
        return x.flatten(1).sum(1)

    start = pictures(1, 8, 12)
    stages = [
        Stage((3, 4), 2),
        Stage((8, 12), 1, lambda x: -rising(x)),
        Stage((8, 12), 2),
    ]
    found = optimise(rising, start, stages=stages, rule=Plain(0.01))
    assert seen == [(3, 4)] * 2 + [(8, 12)] * 3
    torch.testing.assert_close(found, start + 0.02 - 0.01 + 0.02)
    assert resize(start, (3, 4)).shape == (1, 3, 3, 4)


def test_adams_moments_go_on_at_the_next_size():
    flat = torch.full((1, 3, 6, 6), 0.5, dtype=torch.float64)
    points: list[float] = []
    stages = [Stage((3, 3), 3), Stage((6, 6), 3)]
    slope = lambda x: (torch.linspace(1, 2, 3, dtype=x.dtype)[:, None, None] * x.square()).mean((1, 2, 3))  # noqa: E731
    record = lambda m: points.append(float(m.pictures.mean()))  # noqa: E731
    optimise(slope, flat, stages=stages, rule=Adam(0.02, (0.9, 0.99), eps=0.0, carried=True), callback=record)
    carried, points = points, []
    optimise(slope, flat, stages=stages, rule=Adam(0.02, (0.9, 0.99), eps=0.0), callback=record)
    moves = [[b - a for a, b in itertools.pairwise(each)] for each in (carried, points)]
    torch.testing.assert_close(moves[1][2], 0.02)  # a fresh Adam's first step has length `rate`
    assert abs(moves[0][2] - 0.02) > 1e-4  # one with a history does not


RUN = [Stage((4, 6), 6), Stage((8, 12), 8)]
RULES = [
    ({"rule": LBFGS(0.3, low=0.0, high=1.0)}),
    ({"rule": Adam(0.02, carried=True), "average": 0.9, "projections": (Box(),)}),
]


@pytest.mark.parametrize("settings", RULES, ids=["lbfgs", "adam"])
@pytest.mark.parametrize("at", [3, 6, 7, 11])
def test_stopped_and_taken_up_again_it_is_the_same(tmp_path: Path, settings, at):
    start, file = pictures(2, 8, 12), tmp_path / "run"
    expected = optimise(bowl, start, stages=RUN, **settings)
    halfway = optimise(bowl, start, stages=RUN, **settings, checkpoint=file, stop=lambda m: m.step == at)
    assert file.exists()
    assert halfway.shape == start.shape
    assert not torch.equal(halfway, expected)
    steps: list[Moment] = []
    found = optimise(bowl, start, stages=RUN, **settings, checkpoint=file, callback=steps.append)
    assert [m.step for m in steps] == list(range(at + 1, 15))
    assert torch.equal(found, expected)
    assert not file.exists()


@pytest.mark.parametrize("settings", RULES, ids=["lbfgs", "adam"])
def test_killed_and_taken_up_again_it_is_the_same(tmp_path: Path, settings):
    start, file = pictures(1, 8, 12), tmp_path / "run"
    expected = optimise(bowl, start, stages=RUN, **settings)

    def die(moment: Moment) -> None:
        if moment.step == 9:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        optimise(bowl, start, stages=RUN, **settings, checkpoint=file, checkpoint_every=4, callback=die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps: list[int] = []
    found = optimise(bowl, start, stages=RUN, **settings, checkpoint=file, callback=lambda m: steps.append(m.step))
    assert steps[0] == 9
    assert torch.equal(found, expected)


def test_a_stopped_run_belongs_to_its_stages(tmp_path: Path):
    start, file = pictures(1, 8, 12), tmp_path / "run"
    optimise(bowl, start, stages=RUN, rule=LBFGS(), checkpoint=file, stop=lambda m: True)
    with pytest.raises(SaccadeError, match="with other settings"):
        optimise(bowl, start, stages=RUN[1:], rule=LBFGS(), checkpoint=file)
