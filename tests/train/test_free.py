"""Free adversarial training: one pass forward and one back serve the weights and the perturbation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.train.free import replay


class Linear(nn.Module):
    """Two classes: 0 and w . x + b. The worst change within Linf is along the sign of w, whatever the weights' size."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4, 4, generator=g)), nn.Parameter(torch.zeros(()))
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        score = (x * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


LABELS = torch.tensor([0, 1, 1])


def run(network, x, change, *, replays, rate, norm="linf", eps=0.05):
    losses = []

    def descend(objective):
        network.zero_grad()
        loss = objective()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= rate * parameter.grad
        losses.append(loss.detach())
        return losses[-1]

    change, mean = replay(network, descend, x, LABELS, change, norm=norm, eps=eps, replays=replays)
    return change, mean, losses


def pictures(n=3):
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2


@pytest.mark.parametrize("replays", [1, 2, 5])
def test_a_pass_a_replay_and_the_mean_loss(replays):
    network = Linear()
    _, mean, losses = run(network, pictures(), None, replays=replays, rate=0.1)
    assert network.passes == len(losses) == replays
    torch.testing.assert_close(mean, torch.stack(losses).mean())


def test_the_perturbation_climbs_while_the_weights_descend():
    """From none, over the worst of the first weights, to the worst of those that a step of descent has made."""
    network, x = Linear(), pictures()
    towards = torch.where(LABELS == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    first = towards * 0.05 * network.weight.detach().sign()
    with torch.no_grad():
        expected = [F.cross_entropy(network(x), LABELS)]
    change, _, losses = run(network, x, None, replays=1, rate=0.1)
    torch.testing.assert_close(change, first)
    with torch.no_grad():
        expected.append(F.cross_entropy(network(x + first), LABELS))
    change, _, more = run(network, x, change, replays=1, rate=0.1)
    torch.testing.assert_close([*losses, *more], expected)


def test_a_perturbation_of_another_shape_is_dropped():
    x = pictures()
    from_none = run(Linear(), x, None, replays=2, rate=0.1)[0]
    assert torch.equal(run(Linear(), x, torch.full((3, 3, 5, 5), 0.05), replays=2, rate=0.1)[0], from_none)
    assert not torch.equal(run(Linear(), x, torch.full_like(x, 0.05), replays=1, rate=0.1)[0], torch.zeros_like(x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_stays_in_the_ball_and_the_range(norm):
    x = pictures().round()  # at the borders
    change, _, _ = run(Linear(), x, torch.full_like(x, 0.5), replays=3, rate=0.1, norm=norm, eps=0.3)
    size = change.abs().amax() if norm == "linf" else change.flatten(1).norm(dim=1).amax()
    assert size <= 0.3 * (1 + 1e-6)
    assert (x + change).min() >= 0
    assert (x + change).max() <= 1
    assert not change.requires_grad
