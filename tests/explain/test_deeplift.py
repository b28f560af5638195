"""DeepLIFT against closed forms, a hand-made second implementation, and its promise to sum to the difference."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.deeplift import deeplift
from saccade.networks import Network, build


def pictures(n: int, h: int = 5, w: int = 5) -> Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1]).double()


def unsettled(network: nn.Module) -> nn.Module:
    """Double precision, with norms and biases that do something."""
    torch.manual_seed(2)
    for layer in network.double().modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, -1, 2)
        if getattr(layer, "bias", None) is not None:
            nn.init.normal_(layer.bias, std=0.3)
    return network


def of(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x).gather(1, target[:, None])[:, 0]


@pytest.mark.parametrize("baseline", [0.0, 0.7, "mean", "picture", "pictures"])
def test_of_a_linear_network_it_is_weight_times_difference(baseline: float | str) -> None:
    weight, x = random(4, 3, 5, 5), pictures(3)
    layer = nn.Linear(75, 4).double()
    layer.weight.data = weight.flatten(1)
    given = {"picture": pictures(1)[0], "pictures": pictures(4)[:3]}.get(baseline, baseline)  # type: ignore[call-overload]
    base = x.mean((2, 3), keepdim=True) if baseline == "mean" else given
    target = torch.tensor([3, 0, 1])
    found = deeplift(nn.Sequential(nn.Flatten(), layer), x, target, baseline=given)
    torch.testing.assert_close(found, weight[target] * (x - base), rtol=1e-12, atol=1e-14)


def test_black_is_the_usual_baseline() -> None:
    network, x = dense(75, 8, 4), pictures(2)
    assert torch.equal(deeplift(network, x, 1), deeplift(network, x, 1, baseline=torch.zeros(3, 5, 5).double()))


@torch.no_grad()
def multipliers(layers: list[nn.Linear], f: Callable[[Tensor], Tensor], x: Tensor, base: Tensor, target: int) -> Tensor:
    """The paper's chain rule, written out: rise of the output per rise of each input, of one picture."""
    a, b = x.flatten(), base.flatten()
    slopes = []
    for layer in layers[:-1]:
        before_a, before_b = layer.weight @ a + layer.bias, layer.weight @ b + layer.bias
        a, b = f(before_a), f(before_b)
        slopes.append((a - b) / (before_a - before_b))
    found = layers[-1].weight[target]
    for layer, slope in zip(layers[-2::-1], slopes[::-1], strict=True):
        found = torch.stack([sum(found[j] * slope[j] * layer.weight[j, i] for j in range(len(slope)))  # type: ignore[misc]
                             for i in range(layer.in_features)])  # fmt: skip
    return found.view_as(x)


@pytest.mark.parametrize(
    ("activation", "f"), [(nn.ReLU, torch.relu), (nn.Tanh, torch.tanh), (nn.Sigmoid, torch.sigmoid)]
)
def test_agrees_with_multipliers_by_hand(activation: type[nn.Module], f: Callable[[Tensor], Tensor]) -> None:
    network, x, base = dense(75, 12, 7, 4, activation=activation), pictures(3), pictures(4)[0]
    found = deeplift(network, x, 2, baseline=base)
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for i in range(3):
        expected = multipliers(layers, f, x[i], base, 2) * (x[i] - base)
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=1e-13)


def test_of_the_papers_saturated_unit() -> None:
    """y = 1 - relu(1 - x1 - x2) of x1 = x2 = 1 (figure 1): no gradient, but half of the difference each."""
    layer, last = nn.Linear(75, 1).double(), nn.Linear(1, 1).double()
    layer.weight.data = torch.zeros(1, 75).double()
    layer.weight.data[0, :2] = -1.0
    for constant in (layer.bias, last.bias):
        nn.init.constant_(constant, 1.0)
    nn.init.constant_(last.weight, -1.0)
    network = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), last)
    x = torch.ones(1, 3, 5, 5).double()
    inside = x.clone().requires_grad_()
    assert not torch.autograd.grad(network(inside).sum(), inside)[0].any()
    found = deeplift(network, x, 0).flatten()
    torch.testing.assert_close(found[:2], torch.tensor([0.5, 0.5]).double(), rtol=1e-12, atol=0)
    assert not found[2:].any()


def test_of_a_maximum_by_hand() -> None:
    """Four windows of the red channel of 4 x 4 pixels, as (picture, baseline) -> contributions.

    Above left the 3 is the largest, where the baseline has 1: the maximum rises from 2 by 1, all for the 3. Above right
    it falls from 8 to 5, all of it for the fall of the 8 to 4. Below left nothing changes. Below right the largest
    stays where it is and rises by 2.
    """
    x = torch.tensor([[3.0, 1.0, 5.0, 4.0], [0.0, 2.0, 1.0, 0.0], [6.0, 0.0, 9.0, 0.0], [1.0, 2.0, 0.0, 1.0]])
    b = torch.tensor([[1.0, 1.0, 0.0, 8.0], [0.0, 2.0, 7.0, 0.0], [6.0, 0.0, 7.0, 6.0], [1.0, 2.0, 0.0, 1.0]])
    expected = torch.tensor([[1.0, 0.0, 0.0, -3.0], [0.0] * 4, [0.0, 0.0, 2.0, 0.0], [0.0] * 4]).double()

    class Maxima(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.max_pool2d(x[:, :1], 2).flatten(1).sum(1, keepdim=True)

    full = torch.zeros(2, 3, 4, 4).double()
    full[0, 0], full[1, 0] = x, b
    found = deeplift(Maxima(), full[:1], 0, baseline=full[1:])[0]
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-14)
    assert not found[1:].any()


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=2, padding=1),  # windows that overlap
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AdaptiveMaxPool2d(3),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(3),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ReflectionPad2d(1),
    ],
)
def test_sums_to_the_difference_through_pools_and_norms(pool: nn.Module, norm: str) -> None:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm == "batch" else nn.Identity()
    body = nn.Sequential(nn.Conv2d(3, 4, 3), middle, nn.LeakyReLU(0.1), pool, nn.Conv2d(4, 4, 2), nn.GELU())
    network = unsettled(nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    x, base, target = pictures(3, 9, 11), pictures(4, 9, 11)[:3], torch.tensor([0, 1, 2])
    found = deeplift(network, x, target, baseline=base)
    difference = of(network, x, target) - of(network, base, target)
    torch.testing.assert_close(found.flatten(1).sum(1), difference, rtol=1e-9, atol=1e-11)
    assert difference.abs().max() > 1e-3


NETWORKS = {
    "tinynet": ({"num_classes": 6, "widths": (8, 12), "units": (2, 1)}, 16),
    "squeezenet1_1": ({"num_classes": 6}, 40),
    "resnet32": ({"num_classes": 6}, 12),
    "resnet47": ({"num_classes": 6}, 12),
    "cifar-resnet20": ({"num_classes": 6}, 16),
    "resnet18": ({"num_classes": 6}, 33),
    "fast": ({"num_classes": 6, "widths": (8, 8, 8)}, 12),  # GELU, and the largest of a whole map
    "three-layer-convnet": ({"num_classes": 6}, 32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sums_to_the_difference_on_real_networks(name: str) -> None:
    keywords, side = NETWORKS[name]
    torch.manual_seed(0)
    module = unsettled(build(name, **keywords))
    if name.startswith("squeezenet"):
        nn.init.constant_(module.classifier[1].bias, 2.0)  # its scores end in a ReLU
    network = Network(module, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)).double()
    x, target = pictures(3, side, side), torch.tensor([5, 0, 2])
    found = deeplift(network, x, target, baseline=0.25)
    difference = of(network, x, target) - of(network, torch.full_like(x, 0.25), target)
    torch.testing.assert_close(found.flatten(1).sum(1), difference, rtol=1e-8, atol=1e-10)
    assert difference.abs().max() > 1e-5


def test_is_gradient_times_difference_where_no_gate_flips() -> None:
    network, x = unsettled(build("tinynet", num_classes=3, widths=(4, 4), units=(1, 1))), pictures(2, 8, 8)
    base = x + 1e-7 * random(2, 3, 8, 8)
    inside = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network.eval()(inside)[:, 1].sum(), inside)
    torch.testing.assert_close(deeplift(network, x, 1, baseline=base), gradient * (x - base), rtol=1e-5, atol=1e-15)


def test_where_picture_and_baseline_agree_nothing_is_credited() -> None:
    network, x = unsettled(build("tinynet", num_classes=3, widths=(4, 4), units=(1, 1))), pictures(2, 8, 8)
    base = x.clone()
    base[:, :, 2:5, 3] = 0
    found = deeplift(network, x, 1, baseline=base)
    same = (base == x).expand_as(x)
    assert not found[same].any()
    assert found[~same].all()


def test_one_baseline_for_all_is_as_the_same_for_each() -> None:
    network, x = unsettled(build("tinynet", num_classes=3, widths=(4, 4), units=(1, 1))), pictures(5, 8, 8)
    base = pictures(1, 8, 8)
    shared = deeplift(network, x, [0, 1, 2, 0, 1], baseline=base[0])
    each = torch.cat([deeplift(network, x[i : i + 1], i % 3, baseline=base) for i in range(5)])
    torch.testing.assert_close(shared, each, rtol=1e-10, atol=1e-14)
    bases = torch.cat([base, base + 0.1, base, base, base])
    apart = deeplift(network, x, [0, 1, 2, 0, 1], baseline=bases, batch_size=2)
    torch.testing.assert_close(apart[[0, 2, 3, 4]], each[[0, 2, 3, 4]], rtol=1e-10, atol=1e-14)
    assert not torch.allclose(apart[1], each[1])


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
def test_agrees_with_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(3)
    # Its contributions do not sum to the difference where a maximum and an activation follow each other directly.
    convs = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
    smooth = nn.Sequential(convs[0], nn.ReLU(), nn.AvgPool2d(2), convs[1], nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 4))
    largest = nn.Sequential(convs[0], nn.MaxPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(96, 4))
    x, base = pictures(3, 10, 10), pictures(4, 10, 10)[:3]
    for network in (smooth.double(), largest.double()):
        expected = attr.DeepLift(network).attribute(x.clone().requires_grad_(), base, target=2)
        torch.testing.assert_close(deeplift(network, x, 2, baseline=base), expected.detach(), rtol=1e-8, atol=1e-10)


def test_a_baseline_of_another_shape_is_refused() -> None:
    with pytest.raises(SaccadeError, match="DeepLIFT"):
        deeplift(dense(75, 4), pictures(2), 0, baseline=torch.zeros(3, 4, 5))
