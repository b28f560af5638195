"""The loop that grows pictures, on objectives whose answers are known."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures import resize
from saccade.pictures.optimise import (
    LBFGS,
    Adam,
    Box,
    Calibrated,
    Fourier,
    Jitter,
    Moment,
    Normalised,
    Pixels,
    Plain,
    Progress,
    Rotate,
    Scale,
    optimise,
)


def pictures(n: int, h: int = 6, w: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def towards(goal: Tensor, weight: Tensor | float = 1.0):
    """Minus half the weighted squared distance to `goal`: a quadratic whose maximum is there."""
    return lambda x: -(weight * (x - goal).square()).flatten(1).sum(1) / 2


def bumpy(x: Tensor) -> Tensor:
    """Neither quadratic nor separable, of any size."""
    return (3 * x).sin().flatten(1).sum(1) + (x[..., 1:] * x[..., :-1]).flatten(1).sum(1)


def test_a_plain_step_contracts_a_quadratic_by_its_closed_form():
    start, goal = pictures(2), pictures(2, seed=1)
    found = optimise(towards(goal, 2.0), start, steps=7, rule=Plain(0.1))
    torch.testing.assert_close(found, goal + (start - goal) * (1 - 0.2) ** 7, rtol=1e-12, atol=1e-14)


def test_a_normalised_step_has_its_length():
    start, goal = pictures(3), pictures(3, seed=1)
    found = optimise(towards(goal), start, steps=2, rule=Normalised(0.25))
    way = goal - start
    length = way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, start + 0.5 * way / length, rtol=1e-12, atol=1e-14)
    found = optimise(towards(goal), start, steps=1, rule=Normalised(0.25, by="mean"))
    torch.testing.assert_close((found - start).abs().mean((1, 2, 3)), torch.full((3,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("rule", [Normalised(0.1), Normalised(0.1, by="mean"), Progress(1.0, 5.0), Calibrated(1.0)])
def test_where_the_gradient_is_zero_nothing_moves(rule):
    start = pictures(2)
    assert torch.equal(optimise(lambda x: 0 * x.flatten(1).sum(1), start, steps=2, rule=rule), start)


def test_progress_raises_a_linear_objective_by_what_was_asked():
    slopes = pictures(2, seed=3) - 0.5
    linear = lambda x: (slopes * x).flatten(1).sum(1)  # noqa: E731
    start = pictures(2)
    for rule, steps, rise in ((Progress(2.0, 1e9), 3, 6.0), (Calibrated(0.5), 3, 1.5)):
        found = optimise(linear, start, steps=steps, rule=rule)
        torch.testing.assert_close(linear(found) - linear(start), torch.full((2,), rise, dtype=torch.float64))
    capped = optimise(linear, start, steps=1, rule=Progress(2.0, 0.01))
    torch.testing.assert_close(capped, start + 0.01 * slopes)


def test_a_calibrated_rate_stays_that_of_the_first_step():
    start, goal = pictures(1), pictures(1, seed=1)
    rate = 0.1 / (goal - start).square().sum().item()
    found = optimise(towards(goal), start, steps=4, rule=Calibrated(0.1))
    torch.testing.assert_close(found, goal + (start - goal) * (1 - rate) ** 4)


def test_adam_steps_as_pytorchs():
    start = pictures(2)
    found = optimise(bumpy, start, steps=9, rule=Adam(0.03, (0.8, 0.9), 1e-6))
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.03, betas=(0.8, 0.9), eps=1e-6, maximize=True)
    for _ in range(9):
        adam.zero_grad()
        bumpy(x).sum().backward()
        adam.step()
    torch.testing.assert_close(found, x.detach(), rtol=1e-12, atol=1e-13)


def test_lbfgs_finds_the_top_of_an_ill_conditioned_quadratic():
    goal, start = pictures(2, seed=1), pictures(2)
    weight = 10.0 ** (torch.arange(goal[0].numel(), dtype=torch.float64).view(1, *goal.shape[1:]) % 4)
    found = optimise(towards(goal, weight), start, steps=40, rule=LBFGS())
    torch.testing.assert_close(found, goal, rtol=0, atol=1e-6)  # of four curvatures, so few steps will do
    plain = optimise(towards(goal, weight), start, steps=40, rule=Plain(1e-3))  # the largest rate that is stable
    assert (plain - goal).abs().max() > 0.1


def test_lbfgs_takes_back_steps_that_went_down():
    scores: list[float] = []
    steep = lambda x: -(x - 0.5).abs().pow(1.5).flatten(1).sum(1)  # noqa: E731
    found = optimise(steep, pictures(1), steps=60, rule=LBFGS(rate=50.0), callback=lambda m: scores.append(m.score[0]))
    assert scores[1] < scores[0]  # a first step of length 50 goes far beyond
    assert steep(found)[0] >= max(scores) - 1e-12
    assert steep(found)[0] > -1e-3


@pytest.mark.parametrize(
    "rule", [Plain(0.02), Normalised(0.1), Progress(0.1, 1.0), Calibrated(0.1), Adam(0.02), LBFGS()]
)
@pytest.mark.parametrize("parametrise", [Pixels(0.4, 0.2), Fourier()])
def test_a_picture_does_not_depend_on_the_others(rule, parametrise):
    start = pictures(4)
    settings = {
        "steps": 5,
        "rule": rule,
        "parametrise": parametrise,
        "transforms": (Jitter(-2, 2), Rotate(5)),
        "octaves": 2,
        "seed": 3,
    }
    together = optimise(bumpy, start, **settings)
    for i in range(4):
        alone = optimise(bumpy, start[i : i + 1], **settings)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-11)
    assert (together[0] - start[0]).abs().max() > 1e-3


def test_the_penalty_sees_what_the_transforms_have_not_touched():
    seen: list[Tensor] = []

    def objective(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    charged: list[Tensor] = []

    def penalty(x: Tensor) -> Tensor:
        charged.append(x.detach())
        return 3 * x.flatten(1).sum(1)

    start = pictures(1)
    found = optimise(objective, start, steps=1, rule=Plain(0.1), transforms=(Jitter(1, 1),), penalty=penalty)
    assert torch.equal(seen[0], start.roll((1, 1), (2, 3)))
    assert torch.equal(charged[0], start)
    torch.testing.assert_close(found, start - 0.2)


def test_the_jitter_is_undone_in_the_gradient_exactly():
    goal, start = pictures(1, seed=1), pictures(1)
    rolled = optimise(towards(goal.roll((3, 2), (2, 3))), start, steps=3, rule=Plain(0.1), transforms=(Jitter(2, 2),))
    same = optimise(towards(goal.roll((1, 0), (2, 3))), start, steps=3, rule=Plain(0.1))
    assert torch.equal(rolled, same)


def test_octaves_carry_what_has_grown_over_to_the_next_size():
    start, sizes = pictures(1, 20, 28), []

    def objective(x: Tensor) -> Tensor:
        sizes.append(tuple(x.shape[2:]))
        return x.flatten(1).sum(1)

    found = optimise(objective, start, steps=2, rule=Plain(0.01), octaves=3, octave_scale=2.0)
    assert sizes == [(4, 8)] * 2 + [(10, 14)] * 2 + [(20, 28)] * 2  # even, and the last that of the start
    torch.testing.assert_close(found, start + 0.06)  # what has grown is constant, so it is enlarged exactly
    assert resize(start, (4, 8)).shape[2:] == (4, 8)


def test_the_callback_sees_each_step():
    moments: list[Moment] = []
    start, goal = pictures(2), pictures(2, seed=1)
    found = optimise(towards(goal), start, steps=3, rule=Plain(0.5), octaves=1, callback=moments.append)
    assert [(m.step, m.steps) for m in moments] == [(1, 3), (2, 3), (3, 3)]
    torch.testing.assert_close(moments[0].score, towards(goal)(start))
    torch.testing.assert_close(moments[1].score, towards(goal)(moments[0].pictures))
    assert torch.equal(moments[-1].pictures, found)


class Stop(Exception):
    pass


@pytest.mark.parametrize("rule", [Adam(0.05), LBFGS(), Calibrated(0.1), Normalised(0.1)])
@pytest.mark.parametrize("stop", [4, 7, 13])
def test_interrupted_and_taken_up_again_it_is_the_same(tmp_path: Path, rule, stop):
    start, file = pictures(2), tmp_path / "run.pt"
    settings = {
        "steps": 8,
        "rule": rule,
        "parametrise": Fourier(),
        "transforms": (Jitter(-2, 2), Scale(0.8, 1.2)),
        "octaves": 2,
        "seed": 5,
    }
    expected = optimise(bumpy, start, **settings)

    def interrupt(moment: Moment) -> None:
        if moment.step == stop:
            raise Stop

    kept = {"checkpoint": file, "checkpoint_every": 3}
    with pytest.raises(Stop):
        optimise(bumpy, start, **settings, **kept, callback=interrupt)
    assert file.exists()
    steps: list[int] = []
    found = optimise(bumpy, start, **settings, **kept, callback=lambda moment: steps.append(moment.step))
    assert torch.equal(found, expected)
    assert steps[0] == (stop - 1) // 3 * 3 + 1
    assert list(tmp_path.iterdir()) == []  # nothing is left to take up


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    start, file = pictures(1), tmp_path / "run.pt"

    def interrupt(moment: Moment) -> None:
        if moment.step == 5:
            raise Stop

    kept = {"checkpoint": file, "checkpoint_every": 2, "rule": Adam(0.05)}
    with pytest.raises(Stop):
        optimise(bumpy, start, steps=8, callback=interrupt, **kept)
    with pytest.raises(SaccadeError, match="another start, or with other settings"):
        optimise(bumpy, start, steps=9, **kept)
    with pytest.raises(SaccadeError, match="another start, or with other settings"):
        optimise(bumpy, start + 0.1, steps=8, **kept)
    with pytest.raises(SaccadeError, match="another objective"):
        optimise(lambda x: 1.1 * bumpy(x), start, steps=8, **kept)
    assert file.exists()
    file.write_bytes(b"torn")
    with pytest.raises(SaccadeError, match="damaged"):
        optimise(bumpy, start, steps=8, **kept)


@pytest.mark.parametrize(
    ("objective", "start", "settings", "message"),
    [
        (bumpy, torch.rand(3, 4, 4), {}, r"expected floats \(n, 3, height, width\)"),
        (bumpy, torch.zeros(1, 3, 4, 4, dtype=torch.uint8), {}, "torch.uint8"),
        (bumpy, torch.full((1, 3, 4, 4), torch.nan), {}, "not finite"),
        (bumpy, torch.rand(1, 3, 4, 4), {"steps": 0}, "steps is 0"),
        (bumpy, torch.rand(1, 3, 4, 4), {"octaves": 0}, "octaves is 0"),
        (bumpy, torch.rand(1, 3, 4, 4), {"octave_scale": 1.0}, "octave_scale is 1.0"),
        (bumpy, torch.rand(1, 3, 4, 5), {"parametrise": Fourier()}, "their width is 5"),
        (lambda x: x.sum(), torch.rand(2, 3, 4, 4), {}, "one number for each of 2"),
        (lambda x: x.detach().flatten(1).sum(1), torch.rand(2, 3, 4, 4), {}, "does not depend on it differentiably"),
        (
            lambda x: (x - 2).flatten(1).sum(1).log(),
            torch.rand(2, 3, 4, 4),
            {},
            "is not finite for picture 0 at step 1",
        ),
        (lambda x: (x * 0).flatten(1).sum(1).sqrt(), torch.rand(2, 3, 4, 4), {}, "its gradient is not finite"),
    ],
)
def test_says_what_is_wrong(objective, start, settings, message):
    with pytest.raises(SaccadeError, match=message):
        optimise(objective, start, **{"steps": 2, **settings})


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off_and_leaves_no_trace(context):
    start = torch.rand(1, 3, 6, 8).requires_grad_()
    expected = optimise(bumpy, start, steps=3, projections=(Box(),))
    state, before = torch.get_rng_state(), start.detach().clone()
    with context():
        found = optimise(bumpy, start.detach().clone(), steps=3, projections=(Box(),), transforms=())
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert start.grad is None
    assert torch.equal(start.detach(), before)
    assert torch.equal(torch.get_rng_state(), state)
