"""The promises of the house, for all methods that hide parts of the picture; and what takes their place."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain import Unit
from saccade.explain.hiding import fills
from saccade.explain.kernel_shap import kernel_shap
from saccade.explain.lime import lime
from saccade.explain.occlusion import occlusion
from saccade.explain.question import asking
from saccade.explain.rise import rise
from saccade.explain.superpixels import superpixels

METHODS: list[Callable[..., Tensor]] = [
    occlusion,
    partial(rise, samples=20, cells=3),
    partial(lime, samples=20, count=6),
    partial(kernel_shap, samples=20, count=6),
]
NAMES = ["occlusion", "rise", "lime", "kernel_shap"]
every = pytest.mark.parametrize("method", METHODS, ids=NAMES)
sampled = pytest.mark.parametrize("method", [*METHODS[1:3], partial(kernel_shap, samples=20, count=12)], ids=NAMES[1:])


class Functional(nn.Module):
    """In-place, reused and functional ReLU; dropout and batch norm; for pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
        out: Tensor = self.linear(self.drop(torch.relu(x - 0.1).mean((2, 3))))
        return out


def network() -> nn.Module:
    torch.manual_seed(0)
    net = Functional().double()
    for parameter in net.parameters():
        parameter.data *= 3
    net(torch.rand(8, 3, 6, 9, dtype=torch.float64))
    return net


def pictures(n: int, h: int = 11, w: int = 14) -> Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


@every
def test_one_picture_alone_gives_the_same_bits_as_in_a_batch(method: Callable[..., Tensor]) -> None:
    net, x, target = network(), pictures(8), [0, 1, 2, 3, 4, 0, 1, 2]
    together = method(net, x, target)
    assert together.shape == (8, 11, 14)
    assert together.dtype == torch.float64
    assert together.is_contiguous()
    for i in range(8):
        assert torch.equal(method(net, x[i : i + 1], target[i])[0], together[i])
    assert not torch.allclose(together[0], together[1])


@every
def test_the_batch_size_does_not_matter(method: Callable[..., Tensor]) -> None:
    net, x = network(), pictures(2)
    expected = method(net, x, 1)
    for size in (1, 7, 1000):
        torch.testing.assert_close(method(net, x, 1, batch_size=size), expected, rtol=1e-10, atol=1e-13)


@sampled
def test_a_seed_gives_the_same_bits_another_does_not(method: Callable[..., Tensor]) -> None:
    net, x = network(), pictures(1)
    first = method(net, x, 1, seed=3)
    torch.rand(1)
    assert torch.equal(method(net, x, 1, seed=3), first)
    assert not torch.allclose(method(net, x, 1, seed=4), first)


@every
def test_leaves_no_trace_also_after_an_error(method: Callable[..., Tensor]) -> None:
    net, x = network().train(), pictures(2).requires_grad_()
    net.conv1.weight.requires_grad_(False)
    net.linear.weight.grad = torch.ones_like(net.linear.weight)
    state, before, random = (
        {k: v.clone() for k, v in net.state_dict().items()},
        x.detach().clone(),
        torch.get_rng_state(),
    )
    calls = 0

    def breaks(scores: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("in the middle")
        return scores[:, 0]

    found = method(net, x, 1)
    assert not found.requires_grad
    with pytest.raises(RuntimeError, match="in the middle"):
        method(net, x, breaks, batch_size=2)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, before)
    assert x.grad is None
    assert all(layer.training for layer in net.modules())
    assert torch.is_grad_enabled()
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["linear.weight"]
    assert torch.equal(net.linear.weight.grad, torch.ones_like(net.linear.weight))
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]), key


@every
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(method: Callable[..., Tensor], context: type[torch.no_grad]) -> None:
    net, x = network(), pictures(2)
    fill = torch.rand(3, 1, 1, dtype=torch.float64)
    expected = method(net, x, 1, fill=fill)
    with context():
        assert torch.equal(method(net, x.clone(), 1, fill=fill.clone()), expected)


@every
def test_units_and_functions_are_targets(method: Callable[..., Tensor]) -> None:
    net, x = network(), pictures(2)
    whole = method(net, x, Unit("linear", 2))
    torch.testing.assert_close(method(net, x, lambda scores: scores[:, 2]), whole, rtol=1e-10, atol=1e-13)
    if method is not METHODS[1]:  # RISE follows the probability of a class
        torch.testing.assert_close(method(net, x, 2), whole, rtol=1e-10, atol=1e-13)
    place = method(net, x, Unit("conv2", 1, (2, 3)))
    assert not torch.allclose(place, whole)


@every
def test_what_is_hidden_shows_the_fill(method: Callable[..., Tensor]) -> None:
    net, x = network(), pictures(1)
    mean = method(net, x, 1, fill="mean")
    torch.testing.assert_close(method(net, x, 1, fill=x.mean((2, 3), keepdim=True)), mean, rtol=1e-10, atol=1e-13)
    assert not torch.allclose(method(net, x, 1), mean)
    assert not torch.allclose(method(net, x, 1, fill="blur"), mean)


@every
def test_float32_gives_float32(method: Callable[..., Tensor]) -> None:
    net, x = network(), pictures(2).float()
    expected = method(net, x.double(), 1, fill="blur")
    found = method(net.float(), x, 1, fill="blur")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=2e-6)


@every
@pytest.mark.parametrize(
    ("given", "target", "settings", "message"),
    [
        (torch.rand(3, 5, 5), 0, {}, r"picture\[None\]"),
        (pictures(1), 5, {}, "no class 5"),
        (pictures(1), 0, {"fill": "white"}, "fill is 'white'"),
        (pictures(1), 0, {"fill": torch.rand(2, 1, 1)}, r"fill has shape \(2, 1, 1\)"),
        (pictures(1), 0, {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_says_what_is_wrong(
    method: Callable[..., Tensor], given: Tensor, target: int, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SaccadeError, match=message):
        method(network(), given, target, **settings)


@pytest.mark.parametrize("method", METHODS[2:], ids=NAMES[2:])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pieces": "quickshift"}, "pieces is 'quickshift'"),
        ({"pieces": torch.zeros(11, 13, dtype=torch.int64)}, r"shape \(11, 13\)"),
        ({"pieces": torch.zeros(11, 14)}, "float32"),
        ({"count": 0}, "0 pieces"),
        ({"samples": 1}, "1 samples"),
    ],
)
def test_says_what_is_wrong_with_a_cut(
    method: Callable[..., Tensor], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SaccadeError, match=message):
        method(network(), pictures(1), 0, **settings)


def test_blur_weighs_the_pixels_there_are_by_a_gaussian() -> None:
    x = pictures(2, 5, 8)
    with asking(network(), x, 0, "test") as question:
        found = fills(question, "blur")
    sigma, expected = 0.5, np.zeros(x.shape)
    for i in range(5):
        for j in range(8):
            weight = np.array(
                [[np.exp(-((a - i) ** 2 + (b - j) ** 2) / (2 * sigma**2)) for b in range(8)] for a in range(5)]
            )
            expected[:, :, i, j] = (x.numpy() * weight).sum((2, 3)) / weight.sum()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_grid_is_made_of_equal_rectangles() -> None:
    cut = superpixels(pictures(1, 6, 9), "grid", 6, "test")[0]
    expected = torch.tensor([[0, 1, 2], [3, 4, 5]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(cut, expected)


def test_slic_follows_the_colours() -> None:
    x = torch.zeros(1, 3, 20, 30, dtype=torch.float64)
    x[:, :, :, 13:] = 1
    cut = superpixels(x, "slic", 12, "test")[0]
    left, right = set(cut[:, :13].flatten().tolist()), set(cut[:, 13:].flatten().tolist())
    assert not left & right
    assert left | right == set(range(len(left) + len(right)))
    assert 4 <= len(left) + len(right) <= 20


def test_slic_cuts_noise_and_texture_too() -> None:
    cut = superpixels(pictures(3, 32, 40), "slic", 20, "test")
    assert all(10 <= int(one.max()) + 1 <= 30 for one in cut)


def test_a_cut_of_ones_own_is_numbered_without_gaps() -> None:
    own = torch.tensor([[7, 7, -2], [100, -2, -2]])
    cut = superpixels(pictures(2, 2, 3), own, 50, "test")
    assert torch.equal(cut, torch.tensor([[1, 1, 0], [2, 0, 0]]).expand(2, 2, 3))
