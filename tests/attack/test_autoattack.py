"""AutoAttack: what it is made of, the worst case over its attacks, and what only the modes do."""

import sys
from functools import partial
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear, sizes
from torch import Tensor, nn

from saccade.attack import AttackWarning, linear_attack
from saccade.attack import autoattack as whole
from saccade.attack.apgd import run_apgd
from saccade.attack.autoattack import MODES, autoattack, nearest_classes
from saccade.attack.engine import searching
from saccade.attack.fab import run_fab
from saccade.attack.losses import cross_entropy, dlr
from saccade.attack.square import run_square
from saccade.errors import SaccadeError

X = draw(8, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the steps and few queries."""
    monkeypatch.setattr(whole, "run_apgd", lambda *a, **k: run_apgd(*a, **{**k, "steps": k.get("steps", 100) // 10}))
    monkeypatch.setattr(whole, "run_fab", lambda *a, **k: run_fab(*a, **{**k, "steps": 10}))
    monkeypatch.setattr(whole, "run_square", lambda *a, **k: run_square(*a, **{**k, "queries": 30}))


Called = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The attacks that are run, none of which does anything, and their settings."""
    calls: Called = []

    def note(name: str, search: Any, eps: Any, **settings: Any) -> None:
        settings = {key: value for key, value in settings.items() if key not in ("rows", "seed")}
        calls.append((name, settings))

    for name in ("run_apgd", "run_fab", "run_square"):
        monkeypatch.setattr(whole, name, partial(note, name))
    return calls


def many_classes() -> tuple[nn.Module, Tensor, Tensor]:
    network = linear(12)
    x = draw(3, 3, 4, 4)
    return network, x, labels_of(network, x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_autoattack_is_made_of_the_published_attacks(called: Called, norm: str) -> None:
    """Others build it of attacks with a tenth of the steps, and with another schedule of Square."""
    network, x, labels = many_classes()
    found = autoattack(network, x, labels, norm=norm)
    assert found.stages == ("apgd-ce", "apgd-t", "fab-t", "square")
    names = [name for name, _ in called]
    targets = 5 if norm == "l1" else 9
    assert names == ["run_apgd"] * (1 + targets) + ["run_fab"] * 9 + ["run_square"]
    first = called[0][1]
    assert first.pop("loss") is cross_entropy
    assert first == ({"restarts": 5, "wide": True} if norm == "l1" else {})
    ranked = network(x).argsort(1, descending=True)
    for i in range(targets):
        settings = called[1 + i][1]
        assert settings["loss"] is dlr
        assert torch.equal(settings["goal"], ranked[:, 1 + i])  # the second highest score first
        assert settings.get("wide", False) == (norm == "l1")
    for i in range(9):
        settings = called[1 + targets + i][1]
        assert torch.equal(settings.pop("goal"), ranked[:, 1 + i])
        assert settings == {}
    assert called[-1][1] == {}  # the defaults of each are 100 steps, one start, 5,000 queries


def test_what_the_other_modes_are_made_of(called: Called) -> None:
    network, x, labels = many_classes()
    found = autoattack(network, x, labels, mode="plus")
    assert found.stages == ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
    assert [called[i][1].get("restarts") for i in range(4)] == [5, 5, 5, None]
    assert len(called) == 4 + 9 + 9
    called.clear()
    assert autoattack(network, x, labels, mode="rand").stages == ("apgd-ce", "apgd-dlr")
    assert [settings["eot"] for _, settings in called] == [20, 20]
    assert not any(settings["wide"] for _, settings in called)
    called.clear()
    fast = autoattack(network, x, labels, mode="fast")
    assert [settings.get("steps", 100) for _, settings in called] == [25, *[100] * 3, *[30] * 6, *[100] * 10]
    assert called[-1][0] == "run_square"  # and nothing of it is in doubt
    assert fast.stages[3:] == tuple(f"full-{name}" for name in MODES["standard"]("linf"))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_autoattack_takes_fewer_than_ten_classes(short: None, classes: int) -> None:
    """Others raise IndexError; there are as many targets as other classes. On linear networks the answer is exact."""
    network, x = linear(classes), draw(24, 3, 4, 4)
    labels = labels_of(network, x)
    labels[:2] = (labels[:2] + 1) % classes
    exact = linear_attack(network, x, labels, eps=0.04)
    clear = exact.loss.abs() > 1e-2
    for mode in ("standard", "fast"):
        found = autoattack(network, x, labels, eps=0.04, mode=mode)
        assert torch.equal(found.success[clear], exact.success[clear])
        assert (sizes(found.adversarial - x, "linf") <= 0.04 * (1 + 1e-9)).all()
        assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
        assert found.broken_by[:2] == ("clean", "clean")
        assert [by != "" for by in found.broken_by] == found.success.tolist()
        assert set(found.broken_by) <= {"", "clean", *found.stages}
        shares = found.accuracy_after
        assert list(shares) == ["clean", *found.stages]
        assert shares["clean"] == 22 / 24
        assert shares[found.stages[-1]] == (~found.success).sum().item() / 24
        assert sorted(shares.values(), reverse=True) == list(shares.values())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("mode", ["standard", "fast"])
def test_nothing_depends_on_who_else_is_there(short: None, norm: str, mode: str) -> None:
    network, x = conv_net(3).float(), X.float()
    labels = labels_of(network, x)
    labels[2] = (labels[2] + 1) % 3
    eps = torch.linspace(0.5, 1.5, 8) * {"linf": 0.015, "l2": 0.15, "l1": 0.6}[norm]
    events: list[dict[str, Any]] = []
    found = autoattack(network, x, labels, norm=norm, eps=eps, mode=mode, callback=events.append)
    assert 1 < found.success.sum() < 8
    assert (sizes(found.adversarial.double() - x.double(), norm) <= eps * (1 + 1e-6)).all()
    assert [event["attack"] for event in events] == list(found.stages)
    assert events[-1]["left"] == (~found.success).sum()
    assert events[-1]["forwards"] == found.forwards.sum()
    assert events[-1]["backwards"] == found.backwards.sum()
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    for rows, batch in ((order, 3), (order[:1], None)):
        other = autoattack(network, x[rows], labels[rows], norm=norm, eps=eps[rows], mode=mode, batch_size=batch)
        assert torch.equal(other.success, found.success[rows])
        assert other.broken_by == tuple(found.broken_by[i] for i in rows.tolist())


def test_a_mask_is_kept_and_the_seed_decides(short: None) -> None:
    mask = torch.zeros(8, 8)
    mask[1:7, 1:5] = 1
    runs = [autoattack(NETWORK, X, LABELS, eps=0.1, mask=mask, seed=seed) for seed in (0, 0, 1)]
    assert runs[0].success.any()
    assert not ((runs[0].adversarial != X) & (mask == 0)).any()
    assert torch.equal(runs[0].adversarial, runs[1].adversarial)
    assert not torch.equal(runs[0].adversarial, runs[2].adversarial)


def test_autoattack_takes_gradients_that_do_not_lie_in_the_usual_order_and_half_precision(short: None) -> None:
    """`.view` of such a gradient raises in other implementations, and bfloat16 networks raise dtype errors."""
    found = autoattack(NETWORK, X[:4], LABELS[:4], eps=0.02)
    last = conv_net().to(memory_format=torch.channels_last)
    other = autoattack(last, X[:4].to(memory_format=torch.channels_last), LABELS[:4], eps=0.02)
    assert torch.equal(other.success, found.success)
    half = conv_net().to(torch.bfloat16)
    with torch.no_grad():
        said = half(X[:4].bfloat16()).argmax(1)
    blunt = autoattack(half, X[:4].float(), said, eps=0.03)
    assert blunt.success.any()
    with torch.no_grad():
        assert torch.equal(half(blunt.adversarial.bfloat16()).argmax(1) != said, blunt.success)


def test_autoattack_leaves_tracing_alone(short: None) -> None:
    """Others end with sys.settrace(None), which blinds debuggers and coverage."""

    def trace(frame: Any, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        autoattack(NETWORK, X[:1], LABELS[:1], eps=0.1)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


class Reversed(torch.autograd.Function):
    """The identity with a gradient of the wrong sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return -slope


class Masked(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.inner(Reversed.apply(x))  # type: ignore[no-untyped-call]
        return scores


def test_fast_does_the_whole_where_gradients_may_be_masked(short: None) -> None:
    network, x = linear(3), draw(12, 3, 4, 4)
    labels = labels_of(network, x)
    exact = linear_attack(network, x, labels, eps=0.1).success
    with pytest.warns(AttackWarning, match="Square, which uses no gradients, fooled the network with"):
        found = autoattack(Masked(network), x, labels, eps=0.1, mode="fast")
    assert found.success.sum() >= exact.sum() / 2
    assert not (found.success & ~exact).any()
    assert {"square", "full-square", "full-fab-t"} & set(found.broken_by)
    honest = autoattack(network, x, labels, eps=0.1, mode="fast")
    assert not {"square", "full-square"} & set(honest.broken_by)
    whole_of_it = found.forwards > honest.forwards + 80
    assert whole_of_it[~exact].sum() >= 2  # of those that nothing can fool too


def test_the_nearest_classes_are_those_of_the_nearest_planes() -> None:
    network, x = linear(7), draw(5, 3, 4, 4)
    labels = labels_of(network, x)
    for norm, dual in (("linf", 1), ("l2", 2), ("l1", float("inf"))):
        with searching(network, x, labels, operation="attack", norm=norm) as search:
            found = nearest_classes(search, search.every_row[1:], 3)
        assert found.shape == (5, 3)
        weight = network.weight.detach().flatten(1)
        for i in range(1, 5):
            away = {
                other: (search.scores[i, labels[i]] - search.scores[i, other]).item()
                / (weight[labels[i]] - weight[other]).norm(dual).item()
                for other in range(7)
                if other != labels[i]
            }
            assert found[i].tolist() == sorted(away, key=lambda other: away[other])[:3]


def test_random_networks_are_judged_twice(short: None) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = NETWORK(x + 0.01 * torch.randn_like(x))
            return scores

    found = autoattack(Noisy(), X, LABELS, eps=0.2, mode="rand")  # and there is no warning
    assert found.success.all()
    assert found.backwards.max() % 20 == 0


def test_what_it_refuses() -> None:
    with pytest.raises(SaccadeError, match="mode is 'slow', expected one of standard, plus, rand, fast"):
        autoattack(NETWORK, X, LABELS, mode="slow")
    with pytest.raises(SaccadeError, match="Could not attack with AutoAttack: norm is 'l0', expected one of linf"):
        autoattack(NETWORK, X, LABELS, norm="l0")
