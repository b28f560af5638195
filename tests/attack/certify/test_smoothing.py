"""Randomised smoothing against linear networks, whose smoothed boundary is their own, and against the binomial law."""

import math
from statistics import NormalDist

import pytest
import torch
from attack.nets import Linear, draw, linear
from scipy.stats import binom, binomtest
from torch import Tensor, nn

from saccade.attack.certify import predict_smoothed, smoothed
from saccade.attack.certify.smoothing import _as_many_heads, lowest_probability
from saccade.errors import SaccadeError


def distance(network: Linear, x: Tensor) -> Tensor:
    """From each picture to the boundary between two classes."""
    slope = (network.weight[1] - network.weight[0]).detach()
    with torch.no_grad():
        scores = network(x)
    return (scores[:, 1] - scores[:, 0]).abs() / slope.norm()


def test_radii_of_a_linear_network_exceed_the_distance_as_seldom_as_promised() -> None:
    """Of 200 draws at a confidence of 95 % some 10 may; with 24 or more the promise would be broken (p < 1e-4)."""
    network, x = linear(2), draw(1, 3, 4, 4, seed=5)
    x[0, :, :2] = x[0, :, :2].round()  # noise leaves [0, 1] and must not be cut off there
    far = distance(network, x).item()
    std = far  # the true probability of the class is then that of a deviation, 0.84
    found = [smoothed(network, x, std=std, samples=300, confidence=0.95, seed=seed) for seed in range(200)]
    said = network(x).argmax(1)
    assert all((one.said == said).all() for one in found if one.radii > 0)
    above = sum(one.radii.item() > far for one in found)
    assert binom.sf(23, 200, 0.05) < 1e-4
    assert 0 < above < 24
    radii = torch.cat([one.radii for one in found])
    assert 0.8 * far < radii.mean() < far


def test_the_radius_is_that_of_the_counted_probability() -> None:
    """A network that says 1 where the first value is above 0.6: the probability is known, the radius near its own."""
    network = Linear(torch.zeros(2, 1, 1, 2).double())
    with torch.no_grad():
        network.weight[1, 0, 0, 0] = 1
        network.bias[1] = -0.6
    x = torch.tensor([0.9, 0.0, 0.65, 0.3]).double().view(4, 1, 1, 1).repeat(1, 1, 1, 2)
    found = smoothed(network, x, std=0.25, samples=20_000, chosen_by=1000)
    assert found.said.tolist() == [1, 0, 1, 0]
    exact = torch.tensor([0.3, 0.6, 0.05, 0.3]).double()
    assert (found.radii <= exact).all()
    assert (found.radii > exact - 0.03).all()
    probability = torch.tensor([NormalDist(0, 0.25).cdf(d) for d in exact.tolist()])
    torch.testing.assert_close(found.probability.float(), probability, atol=0.025, rtol=0)
    assert found.certified(torch.tensor([1, 0, 0, 0])).tolist() == [True, True, False, True]
    assert found.certified(torch.tensor([1, 0, 1, 0]), 0.25).tolist() == [True, True, False, True]
    assert torch.equal(predict_smoothed(network, x, std=0.05), torch.tensor([1, 0, 1, 0]))


def test_on_the_boundary_it_abstains() -> None:
    """There each class has probability one half: an answer is an error, of which 5 % are promised at most."""
    network, x = linear(2), torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    certified = [smoothed(network, x, std=0.3, samples=200, confidence=0.95, seed=s) for s in range(100)]
    said = [predict_smoothed(network, x, std=0.3, samples=200, confidence=0.95, seed=s) for s in range(100)]
    assert sum((one.said >= 0).item() for one in certified) <= 14  # 15 or more: p < 2e-4
    assert sum((one >= 0).item() for one in said) <= 14
    assert all((one.radii == 0).all() for one in certified if one.said == -1)


@pytest.mark.parametrize(("hits", "of"), [(1, 10), (10, 10), (990, 1000), (51, 100)])
def test_the_lower_bound_is_where_the_tail_is_one_minus_the_confidence(hits: int, of: int) -> None:
    found = lowest_probability(hits, of, confidence=0.99)
    assert binom.sf(hits - 1, of, found) == pytest.approx(0.01, rel=1e-6)
    assert lowest_probability(0, of, confidence=0.99) == 0


def test_the_test_of_two_counts_is_the_exact_one() -> None:
    for a, b in ((5, 5), (9, 3), (100, 60), (1, 0), (30, 0)):
        assert _as_many_heads(a, a + b) == pytest.approx(binomtest(a, a + b).pvalue, rel=1e-9)


def test_a_picture_does_not_depend_on_the_others_and_the_seed_decides() -> None:
    network, x = linear(3, dtype=torch.float32), draw(3, 3, 4, 4).float()
    whole = smoothed(network, x, std=1.0, samples=150)
    alone = smoothed(network, x[1:2], std=1.0, samples=150, batch_size=7)
    assert torch.equal(alone.probability, whole.probability[1:2])
    other = smoothed(network, x, std=1.0, samples=150, seed=1)
    assert not torch.equal(other.probability, whole.probability)
    most = math.sqrt(2) * 0.2 * 10  # all hits: no radius is infinite
    assert smoothed(network, x, std=0.0, samples=150).radii.max() < most


def test_what_makes_no_sense_is_refused() -> None:
    network, x = linear(2), draw(1, 3, 4, 4)
    with pytest.raises(SaccadeError, match="samples is 0"):
        smoothed(network, x, std=0.1, samples=0)
    with pytest.raises(SaccadeError, match="std is -1"):
        smoothed(network, x, std=-1.0)
    with pytest.raises(SaccadeError, match=r"confidence is 1\.0"):
        predict_smoothed(network, x, std=0.1, confidence=1.0)
    with pytest.raises(SaccadeError, match="train mode"):
        smoothed(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), x.float(), std=0.1)

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * torch.nan

    with pytest.raises(SaccadeError, match=r"not finite"):
        smoothed(Broken().eval(), x, std=0.1)
