"""The learning rate against closed forms, PyTorch's schedulers and airbench's own lines."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.train.recipe import Recipe
from saccade.train.recipes import RECIPES
from saccade.train.schedule import factor


def make(**changes):
    return Recipe("test", "tinynet", "none", **changes)


def values(steps, recipe):
    return [factor(step, steps, recipe) for step in range(steps)]


def test_one_cycle_closed_form():
    recipe = make(schedule="one-cycle", warmup=0.25, start_factor=0.1, end_factor=0.02)
    assert values(8, recipe) == pytest.approx(
        [0.1, 0.55, 1.0, 1 - 0.98 / 6, 1 - 0.98 * 2 / 6, 1 - 0.98 * 3 / 6, 1 - 0.98 * 4 / 6, 1 - 0.98 * 5 / 6]
    )


def test_cosine_closed_form():
    recipe = make(schedule="cosine", warmup=0.0, end_factor=0.1)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert values(20, recipe) == pytest.approx(expected)


def test_cosine_is_pytorchs():
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30, eta_min=0.05)
    theirs = []
    for _ in range(30):
        theirs.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    assert values(30, make(schedule="cosine", warmup=0.0, end_factor=0.05)) == pytest.approx(theirs)


def test_linear_and_constant():
    assert values(5, make(schedule="linear", warmup=0.4, end_factor=0.5)) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    assert values(4, make(schedule="constant", warmup=0.5, start_factor=0.5)) == pytest.approx([0.5, 0.75, 1, 1])
    assert values(3, make(schedule="constant", warmup=0.0)) == [1, 1, 1]


@pytest.mark.parametrize(("epochs", "per_epoch", "milestones"), [(10, 391, (6, 8)), (7, 13, (1, 2, 5)), (3, 1, (2,))])
def test_step_is_pytorchs_multi_step(epochs, per_epoch, milestones):
    """PyTorch's scheduler, stepped once an epoch: the milestone's first step already has the lower rate."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(milestones), gamma=0.1)
    theirs = []
    for _ in range(epochs):
        theirs += [scheduler.get_last_lr()[0]] * per_epoch
        optimiser.step()
        scheduler.step()
    recipe = make(schedule="step", warmup=0.0, milestones=milestones, epochs=epochs)
    assert values(epochs * per_epoch, recipe) == pytest.approx(theirs, rel=1e-12)


def test_the_course_divides_by_ten_at_the_start_of_epochs_6_and_8():
    recipe, per_epoch = RECIPES["course-resnet32"], 766
    steps = recipe.epochs * per_epoch
    for epoch in range(10):
        expected = 0.01 * (1.0 if epoch < 6 else 0.1 if epoch < 8 else 0.01)
        for step in (epoch * per_epoch, (epoch + 1) * per_epoch - 1):
            assert recipe.lr * factor(step, steps, recipe) == pytest.approx(expected, rel=1e-12)


def test_the_fast_recipe_is_airbenchs_triangle():
    """airbench94.py: warm-up of int(0.23 * steps) steps from 0.2, then down to 0.07."""
    steps = 500
    warmup = int(steps * 0.23)

    def airbench(step):
        if step < warmup:
            share = step / warmup
            return 0.2 * (1 - share) + 1.0 * share
        share = (step - warmup) / (steps - warmup)
        return 1.0 * (1 - share) + 0.07 * share

    assert values(steps, RECIPES["fast94-sgd"]) == pytest.approx([airbench(step) for step in range(steps)])


@given(
    st.sampled_from(["one-cycle", "cosine", "linear", "step", "constant"]),
    st.integers(1, 200),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_rises_then_falls_and_stays_in_range(schedule, steps, warmup, start, end):
    recipe = make(
        schedule=schedule, warmup=warmup, start_factor=start, end_factor=end, epochs=10, milestones=(3.0, 7.5)
    )
    rates = values(steps, recipe)
    rise = 0 if schedule == "linear" else math.ceil(warmup * steps)
    up, down = rates[:rise], rates[rise:]
    assert all(a <= b + 1e-12 for a, b in pairwise(up))
    assert all(a >= b - 1e-12 for a, b in pairwise(down))
    lowest = 0.01 if schedule == "step" else 1 if schedule == "constant" else end
    assert all(min(start, lowest) - 1e-12 <= rate <= 1 + 1e-12 for rate in rates)
    if schedule in ("one-cycle", "cosine", "linear") and warmup * steps == 0:
        assert rates[0] == pytest.approx(1)


def test_the_end_is_reached_as_the_steps_run_out():
    for schedule in ("one-cycle", "cosine", "linear"):
        recipe = make(schedule=schedule, warmup=0.1, end_factor=0.25)
        assert factor(10**6 - 1, 10**6, recipe) == pytest.approx(0.25, abs=1e-5)
