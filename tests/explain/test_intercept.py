"""DeepLIFT and LRP on one network written in many ways, and on networks for which they have no rule."""

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.deeplift import deeplift
from saccade.explain.lrp import lrp
from saccade.explain.question import Unit

METHODS = {
    "deeplift": functools.partial(deeplift, baseline=0.3),
    **{rule: functools.partial(lrp, rule=rule) for rule in ("composite", "epsilon", "gamma", "alpha-beta")},
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def pictures(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


class Plain(nn.Module):
    """Convolution, norm, ReLU, a residual block, pooling, linear: with modules, one of its own for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4 * 9, 5)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.drop, self.pool = nn.Dropout(0.5), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.norm(self.first((x - 0.4) / 0.3)))
        x = self.relus[1](x + self.second(x))
        x = self.relus[2](self.pool(self.drop(x)) - 0.1)
        return self.last(x.flatten(1))


class InPlace(Plain):
    """The same, everything in place that can be."""

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.4
        x /= 0.3
        x = self.norm(self.first(x))
        F.relu_(x)
        skip = x.clone()
        x = self.second(x)
        x += skip
        x.relu_()
        x = self.pool(x).sub_(0.1)
        F.relu(x, inplace=True)
        return self.last(torch.flatten(x, 1))


class Reused(Plain):
    """The same, with one ReLU for all."""

    def forward(self, x: Tensor) -> Tensor:
        relu = self.relus[0]
        x = relu(self.norm(self.first(torch.div(torch.sub(x, 0.4), 0.3))))
        x = relu(torch.add(self.second(x), x))
        return self.last(relu(self.pool(x) + -0.1).view(len(x), -1))


class Functional(Plain):
    """The same, of functions alone."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d((x - 0.4) / 0.3, self.first.weight, bias=self.first.bias, padding=1)
        norm = self.norm
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps)
        x = torch.relu(x)
        x = torch.clamp(torch.conv2d(x, self.second.weight, self.second.bias, padding="same") + x, min=0)
        return F.linear(F.max_pool2d(x, 2).sub(0.1).relu().reshape(len(x), -1), self.last.weight, self.last.bias)


def made(kind: type[Plain] = Plain) -> Plain:
    torch.manual_seed(0)
    network = kind().double()
    with torch.no_grad():
        network.norm.weight.uniform_(-1, 1)
        network.norm.bias.normal_()
        network.norm.running_mean.normal_()
        network.norm.running_var.uniform_(0.5, 2)
    return network


@methods
@pytest.mark.parametrize("kind", [InPlace, Reused, Functional])
def test_it_does_not_matter_how_a_network_is_written(method: Callable[..., Tensor], kind: type[Plain]) -> None:
    x = pictures()
    before = x.clone()
    expected = method(made(), x, [0, 1, 2])
    assert expected.abs().amax() > 1e-3
    torch.testing.assert_close(method(made(kind), x, [0, 1, 2]), expected, rtol=1e-10, atol=1e-13)
    assert torch.equal(x, before)


@methods
def test_does_not_depend_on_the_batch(method: Callable[..., Tensor]) -> None:
    network, x = made(), pictures()
    together = method(network, x, [0, 1, 2])
    torch.testing.assert_close(method(network, x, [0, 1, 2], batch_size=2), together, rtol=1e-10, atol=1e-13)
    for i in range(3):
        torch.testing.assert_close(method(network, x[i : i + 1], i)[0], together[i], rtol=1e-10, atol=1e-13)


@methods
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(method: Callable[..., Tensor], context: type[torch.no_grad]) -> None:
    network, x = made().train(), pictures()
    expected = method(network, x, 1)
    with context():
        found = method(network, x.clone(), 1)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert all(layer.training for layer in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


@methods
def test_targets_of_every_kind(method: Callable[..., Tensor]) -> None:
    network, x = made(), pictures()
    last = network.last
    expected = method(network, x, 1)
    torch.testing.assert_close(method(network, x, lambda scores: scores[:, 1]), expected)
    torch.testing.assert_close(method(network, x, Unit("last", 1)), expected)
    place = method(network, x, Unit("second", 2, (0, 5)))
    assert place.abs().amax() > 1e-4
    assert not place[:, :, 3:].any()  # outside of what the unit sees
    assert not place[:, :, :, :3].any()
    with torch.no_grad():  # the difference of two scores as one
        last.weight[4] = last.weight[1] - last.weight[2]
        last.bias[4] = last.bias[1] - last.bias[2]
    if method is METHODS["deeplift"]:
        torch.testing.assert_close(
            method(network, x, lambda scores: scores[:, 1] - scores[:, 2]), method(network, x, 4)
        )


@methods
def test_a_norm_behind_an_activation_in_place_is_no_part_of_the_layer_below(method: Callable[..., Tensor]) -> None:
    class Late(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.in_place = False

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x), inplace=self.in_place)
            return self.last(self.pool(self.norm(x)).flatten(1))

    network, x = made(Late), pictures()
    expected = method(network, x, 1)
    network.in_place = True
    torch.testing.assert_close(method(network, x, 1), expected, rtol=1e-10, atol=1e-13)


class Then(nn.Module):
    """A convolution, then any function of its maps, and their means as the scores."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.function = nn.Conv2d(3, 4, 3).double(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x)).flatten(2).mean(2)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, above: Tensor) -> Tensor:
        return above


def overwritten(x: Tensor) -> Tensor:
    x[:, 0] = 2 * x[:, 0]
    return x


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda x: x.softmax(1), "Softmax"),
    "log-softmax": (lambda x: F.log_softmax(x, 1), "LogSoftmax"),
    "a gate": (lambda x: x * x.mean((2, 3), keepdim=True), "Mul"),
    "its norm": (lambda x: x / x.norm(), "Div"),
    "its share": (lambda x: x / x.sum(1, keepdim=True), "Div"),
    "its inverse": (lambda x: 1 / x, "Reciprocal"),
    "a power": (lambda x: x**3, "Pow"),
    "instance norm": (lambda x: F.instance_norm(x), "statistics of the batch or instance"),
    "batch statistics": (nn.BatchNorm2d(4, track_running_stats=False).double(), "statistics of the batch or instance"),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), "NativeLayerNorm"),
    "attention": (lambda x: x @ x.transpose(2, 3), "Bmm"),
    "a product of maps": (lambda x: F.conv2d(x, x.mean(0, keepdim=True)).expand(-1, 4, -1, -1), "Convolution"),
    "its own function": (Cube.apply, "pow"),  # type: ignore[dict-item]
    "a mask": (lambda x: x * (x > 0), "'gt'"),
    "a choice": (lambda x: torch.where(x > 0, x, 0.0), "'gt'"),
    "detached": (lambda x: x + x.detach(), "'detach'"),
    "data": (lambda x: x + x.data, "'data'"),
    "a number": (lambda x: x * float(x.sum().item()), "'item'"),
    "rounding": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounds"),
    "a part overwritten": (overwritten, "CopySlices"),
    "sorted": (lambda x: x.sort(1)[0], "Sort"),
    "the larger of two": (lambda x: torch.maximum(x, x.flip(1)), "Maximum"),
    "dropout that never ends": (lambda x: F.dropout(x, training=True), "random"),
}


@methods
@pytest.mark.parametrize(("function", "name"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_it_has_no_rule_for(
    method: Callable[..., Tensor], function: Callable[[Tensor], Tensor], name: str
) -> None:
    network, x = Then(function), pictures()
    with pytest.raises(SaccadeError, match=name):
        method(network, x, 1)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("function", [torch.sigmoid, F.softplus, torch.exp], ids=["sigmoid", "softplus", "exp"])
def test_relevance_does_not_pass_what_is_not_zero_at_zero(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(SaccadeError, match="not 0 at 0"):
        lrp(Then(function), pictures(), 1)


def test_a_layer_whose_input_is_overwritten_is_refused() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 4, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            y = self.second(x)
            x.mul_(2)
            return (y + x[:, :, 1:-1, 1:-1]).flatten(2).mean(2)

    with pytest.raises(SaccadeError, match="writes in place"):
        lrp(Overwriting(), pictures(), 1)


def test_deeplift_wants_one_way_for_picture_and_baseline() -> None:
    class Turning(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return (x.relu() if self.calls == 1 else x.tanh()).flatten(2).mean(2)

    with pytest.raises(SaccadeError, match="another way for the picture"):
        deeplift(Turning(), pictures(), 1)
