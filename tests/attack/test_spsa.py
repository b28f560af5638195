"""SPSA and NES: their estimates against the gradient, and what they reach on linear networks."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear
from torch import Tensor

from saccade.attack import Result, linear_attack
from saccade.attack.engine import searching
from saccade.attack.spsa import Draw, estimated_gradient, nes, normals, signs, spsa
from saccade.engine.seeding import generator


@pytest.mark.parametrize(("draw_directions", "own"), [(signs, 0.0), (normals, 2.0)])
def test_the_estimate_has_the_mean_and_the_variance_of_theory(draw_directions: Draw, own: float) -> None:
    """For a linear loss: mean g, and variance of entry i of sum_j g_j^2 + (E v^4 - 2) g_i^2, over the samples."""
    network, x = linear(2), draw(3, 3, 4, 4, seed=3)
    labels = labels_of(network, x)
    slope = (network.weight[1] - network.weight[0]).detach() * (1 - 2 * labels).view(-1, 1, 1, 1)
    with searching(network, x, labels, operation="test") as search:
        rows, settings = search.active, {"samples": 600, "delta": 0.3, "draw": draw_directions}
        found = estimated_gradient(search, x, rows, drawn=generator(5), **settings)
    variance = slope.square().sum((1, 2, 3), keepdim=True) + (own - 1) * slope.square()
    scores = (found - slope) / (variance / 600).sqrt()
    assert 0.6 < scores[0].square().mean() < 1.6  # that of 48 independent normals is in (0.6, 1.5) but once in 1000
    assert abs(scores[0].mean()) < 0.5


def test_the_estimate_is_the_sum_written_plainly_and_touches_the_mask_alone() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    labels, mask = labels_of(network, x), torch.zeros(8, 8, dtype=torch.float64)
    mask[2:5] = 1
    with searching(network, x, labels, operation="test", mask=mask) as search:
        settings = {"samples": 5, "delta": 0.05, "draw": normals}
        found = estimated_gradient(search, x, search.active, drawn=generator(8), **settings)
        assert search.forwards.tolist() == [11, 11]

    def margin(z: Tensor, label: int) -> Tensor:
        scores = network(z[None])[0].detach()
        return torch.cat([scores[:label], scores[label + 1 :]]).max() - scores[label]

    for i in range(2):
        drawn, total = generator(8), torch.zeros(3, 8, 8, dtype=torch.float64)
        for _ in range(5):
            v = torch.randn(3, 8, 8, generator=drawn, dtype=torch.float64) * mask
            up, down = (margin(x[i] + side * 0.05 * v, int(labels[i])) for side in (1, -1))
            total += (up - down) / 0.1 * v / 5
        torch.testing.assert_close(found[i], total)


@pytest.mark.parametrize("attack", [spsa, partial(nes, stride=0.3)])
def test_they_come_close_to_the_optimum_of_linear_networks(attack: Callable[..., Result]) -> None:
    network, x = linear(2), draw(30, 3, 4, 4, seed=2)
    labels = labels_of(network, x)
    exact = linear_attack(network, x, labels, eps=0.03)
    found = attack(network, x, labels, eps=0.03, steps=12, samples=30)
    assert not (found.success & ~exact.success).any()
    assert 3 <= exact.success.sum() < 30
    assert found.success.sum() >= 0.7 * exact.success.sum()
    standing = ~exact.success
    gained = (found.loss - (-(network(x)[:, 0] - network(x)[:, 1]).abs()))[standing]
    most = (exact.loss - (-(network(x)[:, 0] - network(x)[:, 1]).abs()))[standing]
    assert (gained >= 0.7 * most).all()


def test_the_first_step_of_adam_moves_every_value_by_its_rate() -> None:
    network, x = linear(2), 0.3 + 0.4 * draw(12, 3, 4, 4)
    labels = labels_of(network, x)
    found = spsa(network, x, labels, eps=1.0, steps=1, lr=0.25, samples=4)
    assert found.success.any()
    torch.testing.assert_close(found.norm[found.success], torch.full_like(found.norm[found.success], 0.25))


def test_targets_are_reached_not_fled_from() -> None:
    network, x = conv_net(), draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    targets = network(x).detach().topk(3, dim=1).indices[:, 2]
    found = spsa(network, x, labels, targets=targets, eps=0.3, steps=12, samples=20, lr=0.05)
    assert found.success.sum() >= 5
    assert torch.equal(labels_of(network, found.adversarial) == targets, found.success)
