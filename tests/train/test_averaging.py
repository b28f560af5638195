"""Averages against PyTorch's AveragedModel and closed forms; lookahead against airbench's own lines."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from saccade.train.averaging import Average, Lookahead


class Counter(nn.Module):
    """One weight, one float buffer and one whole-number buffer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value):
        with torch.no_grad():
            self.weight.fill_(value)
            self.mean.fill_(10 * value)
            self.count.fill_(int(value))


def test_average_is_pytorchs_once_its_warm_up_is_over():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ours, decay = Average(module, 0.8), 0.8
    ours.steps = 1000  # (1 + t) / (10 + t) is above the decay
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    theirs.update_parameters(module)  # its first call copies
    g = torch.Generator().manual_seed(0)
    for _ in range(10):
        module(torch.rand(4, 3, 8, 8, generator=g))  # moves the statistics
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=g))
        ours.update(module)
        theirs.update_parameters(module)
    for key, value in theirs.module.state_dict().items():
        if value.is_floating_point():  # PyTorch averages the batch counter too, which then counts nothing
            torch.testing.assert_close(ours.values[key], value, rtol=1e-5, atol=1e-6)
    assert int(ours.values["1.num_batches_tracked"]) == 10


def test_average_closed_form_with_warm_up():
    """d(t) = min(decay, (1 + t) / (10 + t)); the average is the sum of what each step let in and the rest kept."""
    module = Counter()
    module.set(7.0)
    average = Average(module, 0.3)
    expected = 7.0
    for t, value in enumerate([1.0, -2.0, 5.0, 3.0, 3.0, 8.0]):
        module.set(value)
        average.update(module)
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
        assert average.values["weight"].tolist() == pytest.approx([expected] * 2)
        assert float(average.values["mean"]) == pytest.approx(10 * expected, rel=1e-5)
        assert int(average.values["count"]) == int(value)


def test_half_life():
    """decay = 0.5 ** (1 / n): after n steps half of the start is left."""
    module = Counter()
    module.set(1.0)
    average = Average(module, 0.5 ** (1 / 40))
    average.steps = 10**6
    module.set(0.0)
    for _ in range(40):
        average.update(module)
    assert average.values["weight"].tolist() == pytest.approx([0.5] * 2)


def test_average_leaves_the_module_alone_and_comes_back_exactly():
    module = nn.Linear(3, 2)
    before = copy.deepcopy(module.state_dict())
    average, other = Average(module, 0.9), Average(nn.Linear(3, 2), 0.9)
    average.update(module)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    other.restore(average.state())
    with torch.no_grad():
        module.weight.mul_(3)
    average.update(module)
    other.update(module)
    assert all(torch.equal(average.values[k], v) for k, v in other.values.items())
    assert other.steps == average.steps == 2


def airbench_lookahead(start, fast_steps):
    """The lines of airbench94.py: every five steps, and once more with decay 1 at the end."""
    total = len(fast_steps)
    alpha = [0.95**5 * (i / total) ** 3 for i in range(total + 1)]
    slow = net = start
    for current, change in enumerate(fast_steps, 1):
        net = net + change
        if current % 5 == 0:
            slow = slow * alpha[current] + net * (1 - alpha[current])
            net = slow
        if current >= total:
            slow = slow * 1.0 + net * 0.0
            net = slow
    return net


@pytest.mark.parametrize("total", [1, 4, 5, 10, 23, 50])
def test_lookahead_is_airbenchs(total):
    changes = torch.randn(total, generator=torch.Generator().manual_seed(total), dtype=torch.float64).tolist()
    module = Counter()
    module.set(2.0)
    lookahead = Lookahead(module)
    for step, change in enumerate(changes):
        with torch.no_grad():
            module.weight.add_(change)
        lookahead.update(module, step, total)
    assert module.weight.tolist() == pytest.approx([airbench_lookahead(2.0, changes)] * 2, rel=1e-12)


def test_lookahead_moves_float_buffers_and_not_whole_numbers():
    module = Counter()
    lookahead = Lookahead(module)
    module.set(4.0)
    lookahead.update(module, 4, 10)
    share = 1 - 0.95**5 * 0.5**3
    assert float(module.mean) == pytest.approx(40 * share, rel=1e-5)
    assert int(module.count) == 4
    assert "count" not in lookahead.values
