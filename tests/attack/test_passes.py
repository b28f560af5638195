"""Passes of a network that was learnt on the way, against the network itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear
from torch import Tensor, nn

from saccade.attack import passes as whole
from saccade.attack import pgd
from saccade.attack.engine import Search, searching
from saccade.attack.passes import AFTER, CLOSE, Passes
from saccade.engine.guards import differentiable

X = draw(6, 3, 8, 8, dtype=torch.float32)


@pytest.fixture(autouse=True)
def any_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "FULL", 1)


@contextmanager
def search_on(network: nn.Module, x: Tensor = X, **settings: Any) -> Iterator[Search]:
    dtype = next(network.parameters()).dtype
    with searching(network, x, labels_of(network, x.to(dtype)), operation="attack with this", **settings) as search:
        yield search


def learnt(network: nn.Module, x: Tensor = X) -> Passes:
    made = Passes(network, x, "attack with this")
    with torch.no_grad():
        made.learn(x[:2], network(x[:2]))
    return made


def test_learnt_passes_are_those_of_the_network() -> None:
    network = conv_net()
    x = X.double()
    with differentiable(network):
        passes = learnt(network, x)
        assert passes._fused is not None
        pull = draw(6, 5, seed=3)
        found = []
        for run in (network, passes.forward):
            leaf = x.clone().requires_grad_()
            scores = run(leaf)
            found.append((scores.detach(), passes.backward(scores, pull, leaf)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)
    assert not torch.equal(found[1][1], found[0][1])  # so it is another way


def test_a_network_is_learnt_once_it_was_asked_often() -> None:
    network = conv_net().float()
    with search_on(network) as search:
        few, rows = search.every_row[:3], search.every_row
        for _ in range(AFTER - 1):
            search.learn(few)
            search.ask(X[few], few)
            assert search.passes._fused is None
        search.look(X, rows)
        assert search.passes._fused is not None
        assert search.forwards.tolist() == [AFTER + 1] * 3 + [2] * 3  # learning is not a pass of a picture


class Beside:
    """In place of what was learnt: gives the network's scores with some noise on top."""

    steps = 1

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def run(self, run: Callable[[], Tensor]) -> Tensor:
        return run() + self.noise


def test_where_scores_are_close_the_network_itself_decides() -> None:
    network = linear(3, (3, 8, 8), dtype=torch.float32)
    with torch.no_grad():
        network.weight[1] = network.weight[0]
        network.bias[0] = network(X)[:, 2].max() + 1
        network.bias[1] = network.bias[0] - 1e-5  # class 0 is said of all
    passes = Passes(network, X, "attack with this")
    passes._fused = Beside(torch.tensor([0.0, 2e-5, 0.0]))  # type: ignore[assignment]
    with torch.no_grad():
        scores = passes.forward(X)
    assert scores.argmax(1).tolist() == [1] * 6
    assert torch.equal(passes.said(X, scores), network(X))
    with torch.no_grad():
        network.bias[1] -= 1
        scores = passes.forward(X)
    assert (scores[:, 1] > network(X)[:, 1]).all()
    assert torch.equal(passes.said(X, scores), scores)  # not close: not asked again


def test_what_says_something_else_when_learnt_is_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = conv_net().float()
    for noise, kept in ((0.1 * CLOSE, True), (10 * CLOSE, False)):
        largest = network(X[:2]).abs().max().item()
        monkeypatch.setattr(
            whole, "Fused", lambda *_, noise=noise, largest=largest: Beside(torch.tensor(noise * largest))
        )
        assert (learnt(network)._fused is not None) == kept


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = conv_net().float()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.inner(x + 0.05 * torch.randn_like(x))
        return scores


@pytest.mark.parametrize("make", [Noisy, lambda: conv_net().bfloat16(), lambda: linear(3, (3, 8, 8)).float()])
def test_what_is_not_learnt(make: Callable[[], nn.Module]) -> None:
    """A network that draws random numbers, one in half precision, and one without convolutions."""
    network = make()
    with search_on(network, random=isinstance(network, Noisy)) as search:
        for _ in range(AFTER + 2):
            search.look(X, search.every_row)
        assert search.passes._fused is None
        assert not search.passes.learns


def test_an_attack_finds_the_same_whether_the_network_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    network = conv_net()
    x = draw(12, 3, 8, 8)
    labels = labels_of(network, x)
    found = pgd(network, x, labels, eps=0.015, steps=40)
    assert not network.training
    assert labels_of(network, found.adversarial).ne(labels).equal(found.success)
    monkeypatch.setattr(Passes, "learn", lambda *_: None)
    plain = pgd(network, x, labels, eps=0.015, steps=40)
    assert 0 < plain.success.sum() < 12
    assert torch.equal(found.success, plain.success)
    assert torch.equal(found.forwards, plain.forwards)
    torch.testing.assert_close(found.loss, plain.loss)


@pytest.mark.parametrize(("side", "count", "batch"), [(32, 200, 128), (64, 200, 32), (32, 5, 5), (96, 40, 16)])
def test_small_pictures_are_asked_about_in_large_batches(side: int, count: int, batch: int) -> None:
    network = linear(2, (3, side, side), dtype=torch.float32)
    with search_on(network, torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))) as search:
        assert search.batch == batch
