"""The watch over single-step adversarial training: what it takes for a collapse, and what it gives back."""

import pytest
import torch
from torch import nn

from saccade.data.images import ImageSet
from saccade.train.monitor import Monitor
from saccade.train.recipe import Recipe

FAST = {"adversarial": "linf", "eps": 0.1}


def monitor(**changes):
    return Monitor(Recipe("test", "tinynet", "squares", **{**FAST, **changes}))


@pytest.mark.parametrize(
    ("strong", "fast", "collapsed"),
    [
        (0.26, 0.9, False),  # more than half of the best, 0.5
        (0.24, 0.9, True),
        (0.24, 0.5, True),
        (0.24, 0.47, False),  # both have fallen
        (0.0, 0.0, False),
        (0.6, 0.7, False),
    ],
)
def test_a_fall_by_half_that_a_single_step_does_not_share(strong, fast, collapsed):
    watch = monitor()
    assert watch.judge(0.3, 0.4, {"epoch": 0}) is None
    assert watch.judge(0.5, 0.6, {"epoch": 1}) is None
    assert watch.judge(0.4, 0.9, {"epoch": 2}) is None
    assert watch.judge(strong, fast, {"epoch": 3}) == ({"epoch": 1} if collapsed else None)
    assert watch.attack_steps == (3 if collapsed else 1)
    if collapsed:
        assert watch.judge(0.0, 0.9, {"epoch": 4}) is None  # no second time


def test_what_is_remembered_is_a_copy():
    watch, weight = monitor(), torch.ones(2)
    watch.judge(0.5, 0.5, {"weight": weight})
    weight.zero_()
    assert torch.equal(watch.judge(0.1, 0.5, {})["weight"], torch.ones(2))
    assert watch.values is None


@pytest.mark.parametrize("changes", [{"attack_steps": 2}, {"defence": "free"}, {"adversarial": "none"}])
def test_other_training_is_not_watched(changes):
    watch = monitor(**changes)
    assert not watch.watching
    assert watch.judge(0.5, 0.5, {"a": 1}) is None
    assert watch.judge(0.0, 0.9, {"a": 1}) is None
    assert watch.values is None
    assert watch.attack_steps == watch.recipe.attack_steps


def test_its_state_survives():
    watch, other = monitor(), monitor()
    watch.judge(0.5, 0.5, {"epoch": 7})
    other.restore(watch.state())
    assert other.judge(0.1, 0.5, {}) == {"epoch": 7}
    watch.restore(other.state())
    assert (watch.attack_steps, watch.best, watch.values) == (3, 0.5, None)


class Brightness(nn.Module):
    """The first class is for pictures whose mean is above 0.455."""

    def forward(self, x):
        score = x.flatten(1).mean(1) - 0.455
        return torch.stack([score, -score], 1)


def test_it_measures_ten_steps_and_one():
    """Of a grey of 0.549, ten steps within 0.1 bring every pixel to 0.449. One step of 0.125 from a uniform start u
    leaves max(u - 0.125, -0.1), on average -0.086: 0.463."""
    pictures = torch.full((8, 12, 12, 3), 140, dtype=torch.uint8)
    images = ImageSet("grey", pictures, torch.zeros(8, dtype=torch.long), ("light", "dark"))
    assert monitor().measure(Brightness(), images, torch.device("cpu")) == (0.0, 1.0)
