"""HopSkipJump and Boundary against the closed form of linear networks; and that they use decisions alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear, ratios
from torch import Tensor, nn

from saccade.attack import Result
from saccade.attack.boundary import _aside, boundary
from saccade.attack.engine import searching
from saccade.attack.hop_skip_jump import _normal, hop_skip_jump, to_boundary
from saccade.engine.seeding import generator


@pytest.mark.parametrize(
    ("attack", "norm", "most"),
    [
        (partial(hop_skip_jump, steps=12, samples=50), "l2", 1.05),
        (partial(hop_skip_jump, steps=12, samples=50, norm="linf"), "linf", 1.1),
        (partial(boundary, steps=900), "l2", 1.1),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_they_meet_the_optimum_of_linear_networks(
    attack: Callable[..., Result], norm: str, most: float, scale: float
) -> None:
    found = ratios(attack, norm, 2, scale=scale, shift=-100.0, count=5)
    assert found.min() > 0.999
    assert found.max() <= most


class Deaf(nn.Module):
    """Says which class, and nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x)
        return torch.zeros_like(scores).scatter(1, scores.argmax(1, keepdim=True), 7.0)


ATTACKS = [
    partial(hop_skip_jump, steps=2, samples=15),
    partial(hop_skip_jump, steps=2, samples=15, norm="linf"),
    partial(boundary, steps=30),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_only_decisions_count_and_more_steps_come_nearer(attack: partial[Result]) -> None:
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    found, deaf = attack(network, x, labels), attack(Deaf(network), x, labels)
    assert found.success.all()
    assert torch.equal(found.adversarial, deaf.adversarial)
    first = attack(network, x, labels, steps=0)
    assert first.success.all()
    assert (found.norm <= first.norm).all()
    assert found.norm.sum() < 0.96 * first.norm.sum()


@pytest.mark.parametrize("attack", ATTACKS)
def test_they_begin_where_they_are_told(attack: partial[Result]) -> None:
    network, x = conv_net(), draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    other = torch.tensor([int((labels != label).nonzero()[0]) for label in labels])
    found = attack(network, x, labels, targets=labels[other], starts=x[other], noises=0)
    assert found.success.all()
    assert torch.equal(labels_of(network, found.adversarial), labels[other])
    assert (found.norm < (x[other] - x).flatten(1).norm(dim=1)).all()
    useless = attack(network, x, labels, starts=x, noises=0)
    assert not useless.success.any()
    assert torch.equal(useless.adversarial, x)
    assert useless.forwards.tolist() == [2] * 6


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_bisection_ends_at_the_boundary(norm: str) -> None:
    network, x = linear(2), draw(8, 3, 4, 4)
    labels = labels_of(network, x)
    with searching(network, x, labels, operation="test", norm=norm) as search:
        far = torch.stack([x[int((labels != label).nonzero()[0])] for label in labels])
        near = to_boundary(search, far, search.active, 1e-6)
    scores = network(near).detach()
    lead, before = (scores[:, 0] - scores[:, 1]).abs(), network(far).detach()
    assert torch.equal(scores.argmax(1), 1 - labels)
    assert (lead <= 1e-4 * (before[:, 0] - before[:, 1]).abs().clamp_min(0.1)).all()


def test_the_estimated_normal_points_along_the_true_one() -> None:
    network, x = linear(2), 0.3 + 0.4 * draw(4, 3, 4, 4)
    labels = labels_of(network, x)
    weight = (network.weight[1] - network.weight[0]).detach()
    on_it = (
        x + (network(x) @ torch.tensor([1.0, -1.0]).double()).detach().view(-1, 1, 1, 1) * weight / weight.norm() ** 2
    )
    with searching(network, x, labels, operation="test", norm="l2") as search:
        probe = torch.full((4,), 0.05, dtype=torch.float64)
        normal = _normal(search, on_it, search.active, probe, 1500, generator(2))
    cosine = (normal * weight).sum((1, 2, 3)) / weight.norm() * (1 - 2 * labels)
    torch.testing.assert_close(normal.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert (cosine > 0.9).all()


def test_a_step_aside_keeps_the_distance() -> None:
    x, z = draw(5, 3, 4, 4), draw(5, 3, 4, 4, seed=1)
    turn = torch.full((5, 1, 1, 1), 0.2, dtype=torch.float64)
    new = _aside(x, z, turn, draw(3, 4, 4, seed=2) - 0.5)
    before, after = ((one - x).flatten(1) for one in (z, new))
    torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1))
    cosine = (before * after).sum(1) / before.norm(dim=1) ** 2
    torch.testing.assert_close(cosine, torch.full_like(cosine, 1 / 1.04**0.5))  # by 0.2 across, then back to the sphere
