"""The tape of a whole batch: batch norm with the batch's own statistics, as a map that stays as it is."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.networks.bounds.intervals import Interval, propagate
from saccade.networks.bounds.steps import Affine
from saccade.networks.bounds.tape import record, record_batch


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()


def pictures(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_replayed_on_its_own_pictures_it_gives_their_scores() -> None:
    net, x = network(), pictures()
    tape, scores = record_batch(net, x, "test")
    torch.testing.assert_close(scores, network()(x))
    values = [x]
    for step in tape.steps:
        given = [values[i] for i in step.inputs]
        if isinstance(step, Affine):
            out = step.linear(*given)
            values.append(out if step.shift is None else out + step.shift)
        else:
            values.append(step.function(*given))
    torch.testing.assert_close(values[-1], scores)
    point = propagate(tape, Interval(x, x), 0.0).intervals[-1]
    torch.testing.assert_close(point.lower, scores)


def test_it_moves_the_running_statistics_once_as_training_does() -> None:
    net, same, x = network(), network(), pictures()
    record_batch(net, x, "test")
    same(x)
    for ours, theirs in zip(net.buffers(), same.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_certificate_takes_no_batch_statistics() -> None:
    with pytest.raises(SaccadeError, match=r"'batch_norm' with such arguments in 1 \(BatchNorm2d\)"):
        record(network(), pictures(), "test")
