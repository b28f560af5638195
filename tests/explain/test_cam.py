"""What all class activation maps promise: which layer, which target, which size, and nothing left behind."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.explain.ablation_cam import ablation_cam
from saccade.explain.eigen_cam import eigen_cam
from saccade.explain.grad_cam import grad_cam, grad_cam_plus_plus, guided_grad_cam, hires_cam, layer_cam, xgrad_cam
from saccade.explain.question import MapWarning, Unit
from saccade.explain.score_cam import score_cam
from saccade.networks import Network, build

Map = Callable[..., torch.Tensor]
SIGNED: list[Map] = [
    functools.partial(grad_cam, relu=False),
    functools.partial(grad_cam_plus_plus, relu=False),
    functools.partial(xgrad_cam, relu=False),
    hires_cam,
    functools.partial(layer_cam, relu=False),
    functools.partial(score_cam, relu=False),
    functools.partial(ablation_cam, relu=False),
    eigen_cam,
]
NAMES = ["grad", "plus-plus", "xgrad", "hires", "layer", "score", "ablation", "eigen"]
every_map = pytest.mark.parametrize("cam", SIGNED, ids=NAMES)


class Residual(nn.Module):
    """A residual block and what may go wrong: one ReLU for all places, in place, a sum in place, a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv4 = nn.Conv2d(4, 5, 3)
        self.linear = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        y = self.conv3(self.relu(self.conv2(x)))
        y += x
        return self.linear(F.relu(self.conv4(self.relu(y))).mean((2, 3)))


class Apart(nn.Module):
    """The same network without anything in place or shared; `leaf` takes the place of what a layer gives."""

    def __init__(self, like: Residual) -> None:
        super().__init__()
        self.like = like

    def forward(self, x: torch.Tensor, layer: str, leaf: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        net, kept = self.like, {}

        def at(name: str, value: torch.Tensor) -> torch.Tensor:
            kept[name] = value if leaf is None or name != layer else leaf
            return kept[name]

        x = at("norm", net.norm(at("conv1", net.conv1(x)))).relu()
        y = at("conv3", net.conv3(at("conv2", net.conv2(x)).relu())) + x
        y = at("conv4", net.conv4(at("relu", y.relu()))).relu()
        return net.linear(y.mean((2, 3))), kept[layer]


def residual() -> Residual:
    torch.manual_seed(0)
    net = Residual().double()
    with torch.no_grad():
        net(torch.rand(8, 3, 6, 7, dtype=torch.float64))
    return net


def pictures(n: int = 3, h: int = 6, w: int = 9) -> torch.Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def by_hand(name: str, apart: Apart, x: torch.Tensor, target: int, layer: str) -> torch.Tensor:
    """The signed map of one picture (1, 3, H, W), in loops over channels and places."""
    apart.eval()
    with torch.no_grad():
        scores, value = apart(x, layer, None)
    leaf = value.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(apart(x, layer, leaf)[0][0, target], leaf)
    a, g, y = value[0], g[0], scores[0, target].detach()
    if name in ("hires", "layer"):
        return (a * (g if name == "hires" else g.clamp_min(0))).sum(0)
    if name == "eigen":
        _, _, vh = torch.linalg.svd(a.reshape(len(a), -1).T)
        found = (a * vh[0][:, None, None]).sum(0)
        return found * (found * a.sum(0)).sum().sign()
    weights = []
    for k in range(len(a)):
        if name == "grad":
            weights.append(g[k].mean())
        elif name == "xgrad":
            weights.append((a[k] * g[k]).sum() / a[k].sum())
        elif name == "plus-plus":
            terms = [v**2 / (2 * v**2 + a[k].sum() * v**3) * max(v, 0) for v in g[k].flatten().tolist() if v]
            weights.append(sum(terms, torch.zeros(())))
        elif name == "ablation":
            without = value.clone()
            without[0, k] = 0
            weights.append((y - apart(x, layer, without)[0][0, target].detach()) / abs(y))
        else:
            mask = F.interpolate(a[None, k : k + 1], size=x.shape[2:], mode="bilinear")
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            weights.append(apart(x * mask, layer, None)[0][0, target].detach())
    w = torch.stack([torch.as_tensor(one, dtype=a.dtype) for one in weights])
    w = w.softmax(0) if name == "score" else w
    return sum((w[k] * a[k] for k in range(len(a))), torch.zeros_like(a[0]))


@pytest.mark.parametrize("layer", ["conv1", "norm", "conv2", "conv3", "relu", "conv4"])
@pytest.mark.parametrize(("name", "cam"), list(zip(NAMES, SIGNED, strict=True)), ids=NAMES)
def test_of_a_residual_network_with_reused_and_in_place_layers(name: str, cam: Map, layer: str) -> None:
    net, x, target = residual(), pictures(), [0, 2, 1]
    found = cam(net, x, target, layer=layer, enlarge=False)
    for i in range(3):
        expected = by_hand(name, Apart(net), x[i : i + 1], target[i], layer)
        assert expected.abs().max() > 1e-5
        assert_close(found[i], expected, rtol=1e-8, atol=1e-14)


@every_map
def test_of_the_shipped_kinds_of_networks_in_the_size_of_the_pictures(cam: Map) -> None:
    torch.manual_seed(0)
    network = Network(build("tinynet", num_classes=3, widths=(8, 4), units=(1, 1)), classes=("cat", "dog", "owl"))
    x = torch.rand(2, 3, 16, 24)
    small = cam(network, x, "owl", layer="stage1", enlarge=False)
    assert small.shape == (2, 8, 12)
    large = cam(network, x, "owl", layer="stage1")
    assert large.shape == (2, 16, 24)
    assert large.dtype == torch.float32
    assert not large.requires_grad
    corner = small[:, 0, 0]  # half a pixel beyond the middle of the first place, nothing is mixed
    assert_close(large[:, 0, 0], corner)
    mixed = 0.75 * small[:, 0, 0] + 0.25 * small[:, 0, 1]  # pixel 1 lies a quarter of the way to the next place
    assert_close(large[:, 0, 1], mixed)
    assert_close(cam(network, x, ["owl", "owl"], layer=network.layer("stage1")), large)


@every_map
def test_does_not_depend_on_the_rest_of_the_batch_or_on_its_size(cam: Map) -> None:
    net, x = residual(), pictures(4)
    together = cam(net, x, [0, 1, 2, 0], layer="conv2")
    assert_close(cam(net, x, [0, 1, 2, 0], layer="conv2", batch_size=3), together, rtol=1e-10, atol=1e-12)
    for i, target in enumerate([0, 1, 2, 0]):
        alone = cam(net, x[i : i + 1], target, layer="conv2", batch_size=1)
        assert_close(alone[0], together[i], rtol=1e-10, atol=1e-12)


@every_map
def test_the_layer_is_the_last_that_gives_a_map_and_is_told(cam: Map, caplog: pytest.LogCaptureFixture) -> None:
    net, x = residual(), pictures()
    with caplog.at_level(logging.INFO, logger="saccade"):
        found = cam(net, x, 1)
    assert_close(found, cam(net, x, 1, layer="conv4"))
    assert [record.name for record in caplog.records] == ["saccade"]
    assert "taken is conv4, the last that gives a map" in caplog.text


@pytest.mark.parametrize("depth", range(1, 7))
def test_the_last_layer_is_not_confused_by_what_pooling_gave(depth: int, caplog: pytest.LogCaptureFixture) -> None:
    more = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(depth)]
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), *more, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with caplog.at_level(logging.INFO, logger="saccade"):
        eigen_cam(net, torch.rand(1, 3, 8, 8), 0)
    assert f"taken is {depth + 1}, " in caplog.text


@every_map
def test_a_unit_or_a_function_of_the_scores_may_be_the_target(cam: Map) -> None:
    net, x = residual(), pictures()
    of_class = cam(net, x, 2, layer="conv2")
    assert_close(cam(net, x, lambda scores: scores[:, 2], layer="conv2"), of_class)
    assert_close(cam(net, x, Unit("linear", 2), layer="conv2"), of_class)
    of_unit = cam(net, x, Unit("conv4", 1, (0, 3)), layer="conv2", enlarge=False)
    whole = nn.Sequential()  # the same unit as the output of a network that ends there
    whole.net = net
    whole.forward = lambda x: net.conv4(net.relu(net.conv3(net.relu(net.conv2(stem(net, x)))) + stem(net, x)))[
        :, :, 0, 3
    ]  # type: ignore[method-assign]
    assert_close(cam(whole, x, 1, layer="net.conv2", enlarge=False), of_unit)
    assert of_unit.shape == (3, 6, 9)


def stem(net: Residual, x: torch.Tensor) -> torch.Tensor:
    return F.relu(net.norm(net.conv1(x)))


@every_map
@pytest.mark.parametrize(
    ("target", "layer", "message"),
    [
        (Unit("conv2", 1), "conv2", r"the unit conv2:1 is a part of the layer itself.*name an earlier layer"),
        (Unit("conv2", 1), "conv3", "the unit conv2:1 gives its output before the layer has run"),
        (Unit("norm", 0), None, "the unit norm:0 gives its output before the layer has run"),
        (0, "linear", r"the layer \(Linear\) gives \(2, 3\)|gives \(1, 3\), expected maps"),
        (0, "conv9", "no layer 'conv9'; its layers are conv1"),
        (0, nn.Conv2d(3, 4, 3), "no part of the network"),
        (3, "conv2", "no class 3"),
        ([0, 1, 2], "conv2", "3 targets were given for 2 pictures"),
        (lambda scores: scores, "conv2", "the target function gives"),
    ],
)
def test_says_what_is_wrong_and_leaves_no_trace(cam: Map, target: Any, layer: Any, message: str) -> None:
    net = residual().train()
    net.conv1.weight.requires_grad_(False)
    with pytest.raises(SaccadeError, match=message):
        cam(net, pictures(2), target, layer=layer)
    untouched(net)


@every_map
def test_a_layer_that_does_not_run_is_said(cam: Map) -> None:
    net = residual()
    net.idle = nn.Conv2d(3, 4, 3)
    with pytest.raises(SaccadeError, match=r"the layer \(Conv2d\) does not run"):
        cam(net, pictures(), 0, layer="idle")


def untouched(net: Residual) -> None:
    for part in net.modules():
        assert part.training
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert "forward" not in vars(part)
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * (len(list(net.parameters())) - 1)
    assert all(p.grad is None for p in net.parameters())


@every_map
def test_leaves_no_trace(cam: Map) -> None:
    net, x = residual().train(), pictures().requires_grad_()
    net.conv1.weight.requires_grad_(False)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    before, random = x.detach().clone(), torch.get_rng_state()
    cam(net, x, 1, layer="conv2")
    untouched(net)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, before)
    assert x.grad is None
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@every_map
def test_leaves_no_trace_if_the_network_fails_on_the_way(cam: Map) -> None:
    net = residual().train()
    net.conv1.weight.requires_grad_(False)

    def fail(part: nn.Module, inputs: Any) -> None:
        raise KeyError("on purpose")

    hook = net.conv4.register_forward_pre_hook(fail)
    with pytest.raises(KeyError, match="on purpose"):
        cam(net, pictures(), 1, layer="conv2")
    hook.remove()
    untouched(net)


@every_map
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off_and_for_frozen_networks(cam: Map, context: Any) -> None:
    net, x = residual(), pictures()
    expected = cam(net, x, 1, layer="conv2")
    with context():
        assert torch.equal(cam(net.requires_grad_(False), x.clone(), 1, layer="conv2"), expected)


@every_map
def test_a_layer_with_one_channel(cam: Map) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    net[0].bias.data[:] = 1
    x = pictures()
    found = cam(net, x, 0, layer="0", enlarge=False)
    a = net[0](x)[:, 0].detach()
    assert (a > 0).all()
    weight = (found / a).flatten(1)
    assert_close(weight, weight[:, :1].expand_as(weight))  # the map of the only channel, times a weight
    assert (weight > 0).all()


@pytest.mark.parametrize("cam", [grad_cam, grad_cam_plus_plus, xgrad_cam, hires_cam, layer_cam, ablation_cam])
def test_a_map_that_says_nothing_is_told(cam: Map) -> None:
    net = residual()
    net.linear.weight.data[:] = 0
    with pytest.warns(MapWarning, match="the map of picture 0, 1, 2 is constant"):
        found = cam(net, pictures(), 1)
    assert not found.any()


def test_nothing_is_recorded_before_the_layer() -> None:
    net, x = residual(), pictures()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t):
        grad_cam(net, x, 1, layer="conv4")
    assert (3, 5, 4, 7) in saved  # of the ReLU behind the layer
    assert all(shape == (3, 5, 4, 7) or len(shape) <= 2 for shape in saved), saved


def test_guided_grad_cam_is_the_product_of_both() -> None:
    from saccade.explain.guided import guided_backprop

    net, x = residual(), pictures()
    found = guided_grad_cam(net, x, 1, layer="conv2")
    assert found.shape == x.shape
    assert_close(found, guided_backprop(net, x, 1) * grad_cam(net, x, 1, layer="conv2")[:, None])
    assert found.abs().max() > 0
