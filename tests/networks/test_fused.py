"""Networks that were learnt, against themselves as they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks.nets import made
from torch import Tensor, nn

from saccade.engine.guards import differentiable, frozen
from saccade.networks import Network, build, fused, winograd
from saccade.networks.cifar_resnet import CifarResNet
from saccade.networks.fused import Fused


@pytest.fixture(autouse=True)
def narrow_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "WIDE", {False: 6, True: 6})
    monkeypatch.setattr(winograd, "onednn_is_far_faster", lambda: False)


def pictures(n: int, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trace(network: nn.Module) -> list[Any]:
    kept = [(name, value.clone()) for name, value in network.state_dict().items()]
    flags = [(layer.training, dict(layer._forward_hooks), layer.forward) for layer in network.modules()]
    return [*kept, *flags, *[(p.requires_grad, p.grad, p._version) for p in network.parameters()]]


def learnt(network: nn.Module, runs: int = 1000) -> Fused:
    return Fused(network, network, pictures(1), runs)


class Net(nn.Module):
    """A few layers, put together by a function of (self, pictures)."""

    def __init__(self, function: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.m, self.n = nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self, x)
        return self.last(y.mean((2, 3)))  # type: ignore[no-any-return]


def summed(net: Net, x: Tensor) -> Tensor:
    y = net.relu(net.m(net.a(x)))
    return F.relu(net.n(net.b(y)) + y)


def seen_before_the_norm(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.m(y).relu() + 0.3 * y


def seen_before_the_relu(net: Net, x: Tensor) -> Tensor:
    y = net.m(net.a(x))
    return F.relu(y) + 0.3 * y.exp()


def seen_first(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    z = 0.3 * y
    return net.m(y).relu() + z


def used_twice(net: Net, x: Tensor) -> Tensor:
    y = net.relu(net.m(net.a(x)))
    y = net.relu(net.m(net.b(y)))
    return net.n(net.b(y))


def written_into(net: Net, x: Tensor) -> Tensor:
    y = net.m(net.a(x))
    y += 0.5
    y.relu_()
    return net.n(net.b(y))


FUNCTIONS = {
    "in a row": (lambda net, x: net.n(net.b(net.relu(net.m(net.a(x))))), [2, 1]),
    "a sum": (summed, [2, 1]),
    "seen before the norm": (seen_before_the_norm, [0]),
    "seen first": (seen_first, [0]),
    "seen before the relu": (seen_before_the_relu, [1]),
    "used twice": (used_twice, [2, 0]),
    "written into": (written_into, [1, 1]),
    "no norm": (lambda net, x: net.relu(net.b(net.a(x).relu())), [1, 1]),
    "pictures twice": (lambda net, x: net.a(x).relu() + x.mean(1, keepdim=True), [1]),
}


def slope(run: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    y = run()
    pull = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(5))
    return y.detach(), torch.autograd.grad(y, x, pull)[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_network(name: str) -> None:
    function, behind = FUNCTIONS[name]
    network, x = made(lambda: Net(function)), pictures(3, seed=1).requires_grad_()
    with differentiable(network):
        before = trace(network)
        quick = learnt(network)
        assert [len(step.behind) for step in quick._steps.values()] == behind
        torch.testing.assert_close(
            slope(lambda: quick.run(lambda: network(x)), x), slope(lambda: network(x), x), rtol=1e-9, atol=1e-11
        )
        assert not quick._lost
        assert str(trace(network)) == str(before)


NETWORKS = {
    "tinynet": lambda: build("tinynet", num_classes=5, widths=(8, 8, 8, 8)),
    "cifar resnet": lambda: CifarResNet(num_classes=5, depth=8),
    "squeezenet": lambda: build("squeezenet1_1", num_classes=5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name: str) -> None:
    network = Network(made(NETWORKS[name]), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).double()
    x = pictures(2, 32, seed=1).requires_grad_()
    with differentiable(network):
        quick = Fused(network, network, x[:1], 1000)
        found = slope(lambda: quick.run(lambda: network(x)), x)
        torch.testing.assert_close(found, slope(lambda: network(x), x), rtol=1e-7, atol=1e-10)
        assert not quick._lost
        norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
        assert sum(step.norm is not None for step in quick._steps.values()) == norms


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_run_can_be_cut_behind_the_first_convolution(name: str) -> None:
    network, x = made(lambda: Net(FUNCTIONS[name][0])), pictures(3, seed=1).requires_grad_()
    with differentiable(network):
        quick = learnt(network)
        begun = quick.begin(lambda: network(x))
        assert (begun is None) == (name == "pictures twice")
        if begun is None:
            return
        shape_only = torch.full((1, 3, 1, 1), torch.nan, dtype=x.dtype).expand(3, -1, 16, 16)
        found = quick.go_on(begun, shape_only, lambda: network(shape_only))
        assert found is not None
        torch.testing.assert_close(slope(lambda: found, x), slope(lambda: network(x), x), rtol=1e-9, atol=1e-11)
        assert quick.go_on(begun, shape_only, lambda: network(x.detach())) is None  # what was begun is not used


BEGINNINGS = {
    "normalised": (
        lambda x: (x - 0.4) / torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64).view(3, 1, 1),
        ["sub", "div"],
    ),
    "scaled": (lambda x: torch.mul(x + 1, 2), ["add", "mul"]),
    "by itself": (lambda x: x * x, None),
    "by its own mean": (lambda x: x - x.mean((1, 2, 3), keepdim=True), None),
    "masked by itself": (lambda x: x * (x.detach() > 0.3), None),
    "another function": (lambda x: x.clamp(0, 1), None),
    "from the left": (lambda x: 1 / (x + 1), None),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_only_what_is_affine_is_cut(name: str) -> None:
    begins, names = BEGINNINGS[name]
    network = made(lambda: Net(lambda net, x: net.m(net.a(begins(x))).relu()))
    with differentiable(network):
        quick = learnt(network)
        assert (quick._start.step is not None) == (names is not None)
        assert names is None or quick._start.names == names


def test_what_goes_another_way_is_run_as_it_is() -> None:
    """A network whose way depends on its pictures."""

    def forks(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        return net.m(y).relu() if x.mean() < 0.4 else y.relu()

    network = made(lambda: Net(forks))
    dark, bright = 0.2 * pictures(2), 0.5 + 0.5 * pictures(2)
    with differentiable(network):
        quick = Fused(network, network, dark[:1], 1000)
        torch.testing.assert_close(quick.run(lambda: network(dark)), network(dark), rtol=1e-10, atol=1e-12)
        assert not quick._lost
        assert torch.equal(quick.run(lambda: network(bright)), network(bright))
        assert quick._lost
        assert torch.equal(quick.run(lambda: network(dark)), network(dark))


def test_weights_that_change_are_noticed() -> None:
    network, x = made(lambda: Net(summed)), pictures(2)
    with frozen(network), torch.no_grad():
        quick = learnt(network)
        network.m.bias += 1
        assert torch.equal(quick.run(lambda: network(x)), network(x))
        assert quick._lost


@pytest.mark.parametrize("hook", ["forward", "forward_pre", "full_backward"])
def test_a_network_with_hooks_is_left_alone(hook: str) -> None:
    network, x = made(lambda: Net(summed)), pictures(2)
    getattr(network.a, f"register_{hook}_hook")(lambda *_: None)
    with frozen(network):
        assert torch.equal(learnt(network).run(lambda: network(x)), network(x))
        assert learnt(network)._lost


def test_weights_that_are_trained_and_norms_that_train_stay() -> None:
    network, x = made(lambda: Net(summed)), pictures(2)
    with torch.enable_grad():
        quick = Fused(network.train(), lambda x: network.eval()(x), pictures(1), 1000)
        network.m.train()
        expected = slope(lambda: network(x), network.a.weight)
        found = slope(lambda: quick.run(lambda: network(x)), network.a.weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_pictures_that_are_written_into_are_not_run_again() -> None:
    def writes(net: Net, x: Tensor) -> Tensor:
        return net.m(net.a(x.sub_(0.5)))

    network = made(lambda: Net(writes))
    with frozen(network), torch.no_grad():
        assert learnt(network)._lost


def test_few_runs_are_not_worth_it() -> None:
    network, looked = made(lambda: Net(summed)), []
    with frozen(network):
        assert Fused(network, looked.append, pictures(1), fused.OFTEN - 1)._lost
        assert not looked
        wide = learnt(network)._steps.values()
        few = Fused(network, network, pictures(1, 8), fused.OFTEN)._steps.values()
    assert [step.winograd is not None for step in wide] == [False, True]  # 16 tiles of 4 x 4 in 1000 runs
    assert [step.winograd is not None for step in few] == [False, False]  # 4 tiles in 8


def test_an_error_of_the_network_is_its_own() -> None:
    network = made(lambda: Net(summed))
    with frozen(network):
        quick = learnt(network)
        with pytest.raises(RuntimeError, match="channels"):
            quick.run(lambda: network(pictures(1)[:, :2]))
