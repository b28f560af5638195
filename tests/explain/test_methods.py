"""What holds for every method of the table: shapes, kinds, batches, seeds, and that nothing is left behind."""

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.errors import SaccadeError
from saccade.explain.methods import METHODS, Method, attribute, find_method
from saccade.explain.question import MapWarning, Unit
from saccade.networks import Network, load, prepare
from saccade.pictures import sample


class Small(nn.Module):
    """Functional, reused and in-place ReLUs, batch norm, pooling, a skip connection and dropout. No method may mind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = F.max_pool2d(F.relu(self.second(x) + x), 2)
        x = self.relu(self.second(x))
        return self.last(self.drop(x.mean((2, 3))))


def small(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    network = Small().to(dtype)
    with torch.no_grad():
        network(torch.rand(8, 3, 12, 16, dtype=dtype))  # running statistics other than 0 and 1
    return network


def pictures(n: int = 4, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(n, 3, 12, 16, dtype=dtype, generator=torch.Generator().manual_seed(5))


def quick(method: Method) -> dict[str, Any]:
    """Settings that make a method take a moment."""
    few = {"samples": 12, "steps": 6, "probabilities": False}
    return {name: few[name] for name in inspect.signature(method.function).parameters if name in few}


@pytest.fixture(params=METHODS.values(), ids=lambda m: m.name)
def method(request: pytest.FixtureRequest) -> Method:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shape_and_kind(method: Method, dtype: torch.dtype) -> None:
    found = method.function(small(dtype), pictures(2, dtype), [1, 3], **quick(method))
    assert found.shape == ((2, 3, 12, 16) if method.colours else (2, 12, 16))
    assert found.dtype == dtype
    assert not found.requires_grad
    assert found.is_contiguous()
    assert torch.isfinite(found).all()
    assert (found.flatten(1).amax(1) > found.flatten(1).amin(1)).all()


def trace(network: nn.Module) -> Iterator[Any]:
    """Everything about a network that a method could leave changed."""
    for name, value in network.state_dict().items():
        yield name, value.numpy().tobytes()
    for name, parameter in network.named_parameters():
        yield name, parameter.requires_grad, None if parameter.grad is None else parameter.grad.numpy().tobytes()
    for name, layer in network.named_modules():
        hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
        yield name, layer.training, [len(each) for each in hooks], "forward" in vars(layer), sorted(vars(layer))
    yield torch.get_rng_state().numpy().tobytes()
    yield torch.is_grad_enabled(), torch.is_inference_mode_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(method: Method, training: bool) -> None:
    network, x = small().train(training), pictures(2).requires_grad_()
    network.first.weight.requires_grad_(False)  # type: ignore[union-attr]
    network.last.weight.grad = torch.ones_like(network.last.weight)  # type: ignore[union-attr, arg-type]
    before, original = list(trace(network)), x.detach().clone()
    method.function(network, x, 1, **quick(method))
    assert list(trace(network)) == before
    assert x.grad is None
    assert torch.equal(x, original)


class Breaks(nn.Module):
    """Fails at its n-th run."""

    def __init__(self, network: nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.at, self.runs = network, at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        if self.runs >= self.at:
            raise ZeroDivisionError
        return self.network(x)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::saccade.explain.question.MapWarning")  # a CAM may hold no positive value
@pytest.mark.parametrize("at", [1, 2, 3])
def test_leaves_no_trace_after_an_exception(method: Method, at: int) -> None:
    network = Breaks(small().train(), at)
    before = list(trace(network.network))
    try:
        method.function(network, pictures(2), 1, **quick(method))
    except ZeroDivisionError:
        assert list(trace(network.network)) == before
    else:
        assert network.runs < at


@pytest.mark.filterwarnings("ignore::saccade.explain.question.MapWarning")  # a CAM may hold no positive value
def test_one_alone_is_one_among_many(method: Method) -> None:
    network, x = small(), pictures(4)
    together = method.function(network, x, [0, 1, 2, 3], **quick(method))
    for i in (0, 3):
        alone = method.function(network, x[i : i + 1], i, **quick(method))[0]
        torch.testing.assert_close(alone, together[i], rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore::saccade.explain.question.MapWarning")  # a CAM may hold no positive value
def test_batches_of_any_size_give_the_same(method: Method) -> None:
    if "batch_size" not in inspect.signature(method.function).parameters:
        pytest.skip("one pass, nothing to cut up")
    network, x = small(), pictures(3)
    whole = method.function(network, x, 1, **quick(method))
    for size in (1, 5):
        cut = method.function(network, x, 1, batch_size=size, **quick(method))
        torch.testing.assert_close(cut, whole, rtol=1e-8, atol=1e-10)


def test_the_same_seed_gives_the_same_bits(method: Method) -> None:
    assert method.sampled == ("seed" in inspect.signature(method.function).parameters)
    network, x = small(), pictures(2)
    first = method.function(network, x, 1, **quick(method))
    torch.rand(3)  # of no matter
    assert torch.equal(method.function(network, x, 1, **quick(method)), first)
    if method.sampled:
        assert not torch.equal(method.function(network, x, 1, seed=7, **quick(method)), first)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(method: Method, context: Any) -> None:
    network, x = small(), pictures(2)
    network.requires_grad_(False)
    expected = method.function(network, x, 1, **quick(method))
    with context():
        found = method.function(network, x.clone(), 1, **quick(method))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore::saccade.explain.question.MapWarning")  # a CAM may hold no positive value
def test_a_function_of_the_scores_is_a_target(method: Method) -> None:
    network, x = small(), pictures(2)
    expected = method.function(network, x, 2, **quick(method))
    found = method.function(network, x, lambda scores: scores[:, 2], **quick(method))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_unit_is_a_target(method: Method) -> None:
    if method.layered:
        pytest.skip("its layer lies behind the unit")
    network, x = small(), pictures(2)
    found = method.function(network, x, Unit("second", 4), **quick(method))
    other = method.function(network, x, Unit("second", 5), **quick(method))
    assert torch.isfinite(found).all()
    assert not torch.equal(found, other)


def test_completeness(method: Method) -> None:
    if not method.complete:
        pytest.skip("promises none")
    network = small().eval()
    if method.complete == "score":  # of a network without biases
        for layer in (network.first, network.second, network.last):
            layer.bias.data.zero_()  # type: ignore[union-attr, operator]
        network.norm = nn.Identity()
    x = pictures(3)
    better = {"steps": 300, "fill": 0.0}
    settings = quick(method) | {k: v for k, v in better.items() if k in inspect.signature(method.function).parameters}
    found = method.function(network, x, 1, **settings)
    with torch.no_grad():
        expected = network(x)[:, 1] - (network(0 * x)[:, 1] if method.complete == "difference" else 0)
    torch.testing.assert_close(found.flatten(1).sum(1), expected, rtol=2e-3, atol=1e-4)


def test_a_map_that_says_nothing_is_warned_of(method: Method) -> None:
    network = small()
    network.last.weight.data.zero_()  # type: ignore[union-attr, operator]
    if method.name in ("eigen-cam", "score-cam", "rise"):
        pytest.skip("has a map for constant scores, too: of the activations, or of its own masks")
    with pytest.warns(MapWarning, match="picture 0, 1 is constant"):
        method.function(network, pictures(2), 1, **quick(method))


def test_a_map_that_is_not_a_number_is_warned_of(method: Method) -> None:
    network = small()
    network.last.weight.data.fill_(torch.nan)  # type: ignore[union-attr, operator]
    if method.name == "eigen-cam":
        pytest.skip("looks at activations only")
    with pytest.warns(MapWarning, match="picture 0, 1 holds values that are not finite"):
        method.function(network, pictures(2), 1, **quick(method))


@pytest.mark.parametrize("name", ["tinynet", "tinynet-robust"])
def test_on_a_network_that_ships(method: Method, name: str) -> None:
    network: Network = load(name)
    x = prepare(network, sample("chelsea"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = method.function(network, x, "tabby", **quick(method))
    assert found.shape[-2:] == (64, 64)


@pytest.mark.parametrize(
    ("given", "target", "message"),
    [
        (torch.rand(3, 12, 16).double(), 0, r"picture\[None\]"),
        (torch.zeros(1, 3, 12, 16, dtype=torch.uint8), 0, "255"),
        (torch.full((1, 3, 12, 16), torch.nan).double(), 0, "not finite"),
        (torch.rand(1, 3, 12, 16).double(), "cat", "knows no names"),
        (torch.rand(1, 3, 12, 16).double(), 9, "no class 9"),
        (torch.rand(1, 3, 12, 16).double(), lambda scores: scores, "one number a picture"),
    ],
)
def test_says_what_is_wrong(method: Method, given: torch.Tensor, target: Any, message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        method.function(small(), given, target, **quick(method))


def test_methods_are_found_by_name() -> None:
    assert find_method("Input x gradient").name == "input-x-gradient"
    with pytest.raises(SaccadeError, match=r"no method 'magic'; there are gradient, saliency"):
        find_method("magic")
    network, x = small(), pictures(1)
    assert torch.equal(attribute(network, x, 1, "saliency"), METHODS["saliency"].function(network, x, 1))
