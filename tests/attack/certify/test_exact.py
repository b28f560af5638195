"""Exact verification against every activation pattern by itself, against attacks and against bounds."""

from itertools import product

import numpy as np
import pytest
import torch
from attack.nets import draw, labels_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from saccade.attack import pgd
from saccade.attack.certify import certify, verify
from saccade.attack.certify.program import Program
from saccade.errors import SaccadeError
from saccade.networks.bounds.intervals import Interval
from saccade.networks.bounds.lines import tighten
from saccade.networks.bounds.tape import record


def two_pixels(seed: int, leak: float = 0.0) -> nn.Sequential:
    """Two inputs, five hidden neurons, three classes, each of which is said somewhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.LeakyReLU(leak) if leak else nn.ReLU(), nn.Linear(5, 3))
        net = net.double().requires_grad_(False).eval()
        net[1].weight.mul_(3)
        net[1].bias.copy_(-net[1].weight.sum(1) / 2 + 0.3 * torch.randn(5))
        scores = net(draw(200, 1, 1, 2))
        net[3].bias.sub_(scores.mean(0))
    return net


def least_lead(net: nn.Sequential, x: Tensor, label: int, eps: float, leak: float) -> float:
    """The least lead of the label in the box: of each pattern of ReLUs, by a linear program of two variables."""
    (w, b), (v, c) = ((layer.weight.numpy(), layer.bias.numpy()) for layer in (net[1], net[3]))
    box = [(max(p - eps, 0), min(p + eps, 1)) for p in x.flatten().tolist()]
    least = np.inf
    for pattern in product((leak, 1.0), repeat=5):
        slope = np.array(pattern)
        sign = np.where(slope == 1, -1.0, 1.0)  # on: w x + b >= 0, off: <= 0
        for rival in {0, 1, 2} - {label}:
            lead = (v[label] - v[rival]) * slope
            found = linprog(lead @ w, A_ub=sign[:, None] * w, b_ub=-sign * b, bounds=box)
            if found.status == 0:
                least = min(least, found.fun + lead @ b + c[label] - c[rival])
    return least


@pytest.mark.parametrize("leak", [0.0, 0.2])
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_every_verdict_is_that_of_all_patterns(leak: float, method: str) -> None:
    truths = set()
    for seed in range(4):
        net, x = two_pixels(seed, leak), draw(3, 1, 1, 2, seed=seed + 50)
        labels = labels_of(net, x)
        found = verify(net, x, labels, 0.1, attack_steps=0, method=method)
        least = [least_lead(net, x[i], int(labels[i]), 0.1, leak) for i in range(3)]
        assert min(abs(v) for v in least) > 1.5e-5  # none is within the tolerance
        assert found.verified.tolist() == [v > 0 for v in least]
        assert found.fooled.tolist() == [v < 0 for v in least]
        assert not found.undecided.any()
        fooled = found.fooled
        assert (labels_of(net, found.adversarial[fooled]) != labels[fooled]).all()
        assert (found.adversarial - x).abs().max() <= 0.1 + 1e-9
        assert torch.equal(found.adversarial[~fooled], x[~fooled])
        truths |= set(fooled.tolist())
    assert truths == {True, False}


class Shortcut(nn.Module):
    """A shortcut, batch norm, a slice, an average pool, a ReLU and a leaky one."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(16, 3)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
        self.double().requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.conv1(2 * x - 1))
        b = nn.functional.leaky_relu(self.norm(self.conv2(a)) + a, 0.1)
        return self.last(nn.functional.avg_pool2d(b[:, :, :4, :4], 2).flatten(1))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), eps=st.sampled_from([0.0, 0.01, 0.1]))
def test_nothing_that_the_network_can_do_is_cut_off(seed: int, eps: float) -> None:
    """Of points of the box, the values of all neurons keep every row and bound, and the scores are the program's."""
    net, x = Shortcut(), draw(1, 3, 4, 4, seed=seed)
    box = Interval((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))
    tape = record(net, x, "test")
    with torch.no_grad():
        program = Program(tape, tighten(tape, box, 0.0, "crown"))
    assert any(program.binary) or eps < 0.1
    inside = box.lower + (box.upper - box.lower) * draw(*x.shape, seed=seed + 1)
    for point in (x, box.lower, box.upper, inside):
        values, v = [point], np.full(program.count, np.nan)
        v[program.columns[0]] = point.flatten()
        for node, step in enumerate(tape.steps, 1):
            given_values = [values[i] for i in step.inputs]
            out = step.linear(*given_values) if hasattr(step, "linear") else step.function(*given_values)
            shift = getattr(step, "shift", None)
            values.append(out if shift is None else out + shift)
            if node in program.columns:
                columns = program.columns[node]
                assert not values[-1].flatten()[columns < 0].any()
                v[columns[columns >= 0]] = values[-1].flatten()[columns >= 0]
        spare = np.isnan(v)  # the binary columns: on or off as the neuron is
        assert spare.tolist() == [bool(b) for b in program.binary]
        for choice in (0.0, 1.0):
            v[spare] = choice
            kept = [
                (m @ v[: m.shape[1]] >= lo - 1e-7) & (m @ v[: m.shape[1]] <= hi + 1e-7) for m, lo, hi in program.rows
            ]
            if choice == 0.0:
                off = kept
        for (matrix, _, _), a, b in zip(program.rows, off, kept, strict=True):
            assert (a | b).all()  # each row holds for one of the choices, or has none
            assert matrix.shape[0] == len(a)
        assert (v[~spare] >= np.array(program.low)[~spare] - 1e-9).all()
        assert (v[~spare] <= np.array(program.high)[~spare] + 1e-9).all()
        matrix, constant = program.form(len(tape.steps), torch.eye(3, dtype=torch.float64))
        np.testing.assert_allclose(matrix @ v + constant, net(point)[0], atol=1e-9)


def small_conv() -> tuple[nn.Sequential, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 6), nn.ReLU())
        net.append(nn.Linear(6, 3))
        net.eval()
        x = draw(10, 3, 5, 5).float()
        with torch.no_grad():
            net[-1].weight *= 8
            net[-1].bias -= net(x).mean(0)
    return net, x, labels_of(net, x)


def test_it_finds_what_attacks_find_and_proves_what_bounds_prove() -> None:
    net, x, labels = small_conv()
    labels[3] = (labels[3] + 1) % 3  # wrong before
    found = verify(net, x, labels, 0.05, attack_steps=0)
    attacked = pgd(net, x, labels, eps=0.05, steps=40).success
    proved = certify(net, x, labels, 0.05).certified
    assert not found.undecided.any()
    assert (found.fooled | ~attacked).all()
    assert (found.verified | ~proved).all()
    assert found.verified.sum() > proved.sum()
    assert found.fooled.sum() > 1
    assert torch.equal(labels_of(net, found.adversarial) != labels, found.fooled)
    assert (found.adversarial - x).abs().max() <= 0.05 + 1e-6
    helped = verify(net, x, labels, 0.05)
    assert torch.equal(helped.fooled, found.fooled)
    assert torch.equal(helped.verified, found.verified)
    assert not helped.seconds[attacked].any()  # nothing was left to do
    assert all(p.requires_grad and p.dtype == torch.float32 for p in net.parameters())


def test_without_time_it_says_that_it_does_not_know() -> None:
    net, x, labels = small_conv()
    found = verify(net, x, labels, 0.05, attack_steps=0, time_limit=0.0, method="ibp")
    proved = certify(net, x, labels, 0.05, method="ibp").certified
    assert torch.equal(found.verified, proved)
    assert torch.equal(found.undecided, ~proved)
    assert found.undecided.any()


def test_other_functions_are_refused() -> None:
    x = draw(1, 3, 4, 4).float()
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)).eval()
    with pytest.raises(SaccadeError, match=r"other functions than ReLUs .* max pools"):
        verify(pooled, x, labels_of(pooled, x), 0.5)
    with pytest.raises(SaccadeError, match="time_limit is -1"):
        verify(pooled, x, 0, 0.1, time_limit=-1)
