"""Infidelity, sensitivity and completeness in closed form on linear and quadratic networks."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain import gradient, input_x_gradient
from saccade.explain.controls import centre_map
from saccade.explain.question import Unit
from saccade.explain.scores import completeness, infidelity, sensitivity
from saccade.explain.scores.common import squares


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


class Of(nn.Module):
    """Two scores: a function of the picture, and zero."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.function(x.flatten(1))
        return torch.stack([score, torch.zeros_like(score)], 1)


WEIGHT = random(3 * 6 * 8) - 0.5
LINEAR = Of(lambda x: x @ WEIGHT + 3)
SQUARE = Of(lambda x: (x.square() @ WEIGHT) / 2)
X = random(2, 3, 6, 8)


@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
def test_the_gradient_of_a_linear_network_is_faithful(perturbation: str) -> None:
    slopes = gradient(LINEAR, X, 0)
    for scaled in (False, True):
        found = infidelity(LINEAR, X, 0, slopes, kind="slope", perturbation=perturbation, scaled=scaled)
        torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-20)
    wrong = infidelity(LINEAR, X, 0, 3 * slopes, kind="slope", perturbation=perturbation)
    assert (wrong > 1e-3).all()
    right = infidelity(LINEAR, X, 0, 3 * slopes, kind="slope", perturbation=perturbation, scaled=True)
    torch.testing.assert_close(right, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-20)


def test_contributions_against_black_are_faithful_to_black() -> None:
    shares = input_x_gradient(LINEAR, X, 0)
    for given in (shares, shares.sum(1)):
        found = infidelity(LINEAR, X, 0, given, kind="contribution", fill=0.0)
        torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-20)
    assert (infidelity(LINEAR, X, 0, shares, kind="contribution", fill="mean") > 1e-3).all()


def test_of_nothing_it_is_the_mean_squared_drop() -> None:
    nothing = torch.zeros(2, 6, 8, dtype=torch.float64)
    found = infidelity(SQUARE, X, 0, nothing, kind="contribution", fill=0.5, samples=9, side=0.5, seed=4)
    masks = squares(6, 8, 3, 9, 4)
    for i in range(2):
        drops = [float(SQUARE(X[i : i + 1])[0, 0] - SQUARE(torch.where(m, 0.5, X[i])[None])[0, 0]) for m in masks]
        assert float(found[i]) == pytest.approx(sum(d * d for d in drops) / 9)
    scaled = infidelity(SQUARE, X, 0, nothing, kind="contribution", fill=0.5, samples=9, side=0.5, seed=4, scaled=True)
    assert torch.equal(scaled, found)


def test_of_a_quadratic_network_it_is_the_curvature() -> None:
    found = infidelity(SQUARE, X, 0, gradient(SQUARE, X, 0), kind="slope", perturbation="gaussian", samples=4000)
    # I . g - (f(x) - f(x - I)) = sum w I^2 / 2, with I normal of deviation 0.2
    expected = (0.2**4 / 4) * (2 * WEIGHT.square().sum() + WEIGHT.sum().square())
    torch.testing.assert_close(found, expected.expand(2), rtol=0.1, atol=0)


def test_squares_are_squares_anywhere() -> None:
    masks = squares(5, 7, 3, 400, 0)
    assert (masks.flatten(1).sum(1) == 9).all()
    assert all(bool(m.any(1).sum() == 3) and bool(m.any(0).sum() == 3) for m in masks)
    assert masks.flatten(1).unique(dim=0).shape[0] == 3 * 5
    assert torch.equal(squares(5, 5, 5, 2, 0), torch.ones(2, 5, 5, dtype=torch.bool))


def test_infidelity_does_not_depend_on_batches() -> None:
    maps = random(2, 6, 8)
    whole = infidelity(SQUARE, X, 0, maps, kind="contribution")
    torch.testing.assert_close(infidelity(SQUARE, X, 0, maps, kind="contribution", batch_size=5), whole)
    torch.testing.assert_close(infidelity(SQUARE, X[1:], 0, maps[1:], kind="contribution"), whole[1:])


@pytest.mark.parametrize(
    ("maps", "settings", "message"),
    [
        (X[:, 0], {"kind": "slope"}, "slopes need"),
        (X, {"kind": "contribution", "perturbation": "gaussian"}, "noise removes nothing"),
        (X, {"kind": "slope", "samples": 0}, "samples=0"),
        (X, {"kind": "slope", "side": 0.0}, "side=0.0"),
        (X * torch.nan, {"kind": "slope"}, "not finite"),
    ],
)
def test_infidelity_says_what_is_wrong(maps: torch.Tensor, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        infidelity(LINEAR, X, 0, maps, **settings)  # type: ignore[arg-type]


def test_a_constant_map_is_not_sensitive() -> None:
    assert torch.equal(sensitivity(SQUARE, X, 0, centre_map), torch.zeros(2, dtype=torch.float64))
    assert torch.equal(sensitivity(LINEAR, X, 0, gradient), torch.zeros(2, dtype=torch.float64))
    nothing = sensitivity(LINEAR, X, 0, lambda network, pictures, target: pictures[:, 0] * 0)
    assert torch.equal(nothing, torch.zeros(2, dtype=torch.float64))  # and not 0 / 0


def test_sensitivity_of_a_quadratic_network() -> None:
    bowl = Of(lambda x: 1.5 * x.square().sum(1))  # its gradient is 3 x, so the map moves by three times the change
    found = sensitivity(bowl, X, 0, gradient, relative=False, samples=6, seed=9)
    draw = generator(9, 0x5E45)
    changes = [(2 * torch.rand(3, 6, 8, dtype=torch.float64, generator=draw) - 1) * 0.02 for _ in range(6)]
    assert all(float(each.abs().max()) <= 0.02 for each in changes)
    expected = max(3 * float(each.norm()) for each in changes)
    torch.testing.assert_close(found, torch.full((2,), expected, dtype=torch.float64))
    assert 0.8 < expected / (3 * 0.02 * (144 / 3) ** 0.5) < 1.2  # the root mean square of a uniform number
    relative = sensitivity(bowl, X, 0, gradient, samples=6, seed=9)
    torch.testing.assert_close(relative, expected / (3 * X.flatten(1).norm(dim=1)))
    wider = sensitivity(bowl, X, 0, gradient, samples=6, seed=9, radius=0.04)
    torch.testing.assert_close(wider, 2 * relative)
    torch.testing.assert_close(sensitivity(bowl, X[1:], 0, gradient, samples=6, seed=9), relative[1:])
    assert (sensitivity(bowl, X, 0, gradient, samples=12, seed=9) >= relative).all()


def test_sensitivity_passes_settings_on_and_checks_its_own() -> None:
    def method(network: nn.Module, pictures: torch.Tensor, target: object, *, factor: float) -> torch.Tensor:
        return pictures[:, 0] * factor

    one = sensitivity(SQUARE, X, 0, method, relative=False, factor=1.0)
    torch.testing.assert_close(sensitivity(SQUARE, X, 0, method, relative=False, factor=2.0), 2 * one)
    with pytest.raises(SaccadeError, match="radius=0"):
        sensitivity(SQUARE, X, 0, method, radius=0.0)
    with pytest.raises(SaccadeError, match=r"picture\[None\]"):
        sensitivity(SQUARE, X[0], 0, method)


def test_completeness_of_a_linear_network() -> None:
    shares = input_x_gradient(LINEAR, X, 0)  # sum to the score without its bias, which is 3
    against_score = completeness(LINEAR, X, 0, shares)
    torch.testing.assert_close(against_score.gap, torch.full((2,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(against_score.relative, 3 / LINEAR(X)[:, 0].abs())
    against_black = completeness(LINEAR, X, 0, shares, baseline=0.0)
    torch.testing.assert_close(against_black.gap, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(against_black.total, shares.flatten(1).sum(1))
    against_grey = completeness(LINEAR, X, 0, shares.sum(1), baseline=torch.full((3, 1, 1), 0.5))
    torch.testing.assert_close(against_grey.gap, (WEIGHT.sum() / 2).abs().expand(2))
    half = completeness(LINEAR, X, 0, shares / 2, baseline=0.0)
    torch.testing.assert_close(half.relative, torch.full((2,), 0.5, dtype=torch.float64))


def test_completeness_for_each_its_own_target() -> None:
    found = completeness(LINEAR, X, [0, 1], X * 0, batch_size=1)
    torch.testing.assert_close(found.expected, torch.stack([LINEAR(X)[0, 0], LINEAR(X)[1, 1]]))
    layer = nn.Sequential(nn.Flatten(), nn.Linear(144, 2).double())
    found = completeness(layer, X, Unit("1", 1), X * 0)
    torch.testing.assert_close(found.expected, layer(X)[:, 1].detach())
    with pytest.raises(SaccadeError, match="broadcasts"):
        completeness(LINEAR, X, 0, X, baseline=torch.zeros(2))
