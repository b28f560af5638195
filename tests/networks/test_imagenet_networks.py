"""SqueezeNet, VGG and ResNet in torchvision's form: names, sizes, and second implementations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.networks import resnet, squeezenet, vgg
from saccade.networks.registry import build

BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
State = dict[str, Tensor]


def shapes(name: str, **keywords: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build(name, **keywords).state_dict().items()}


def settle(network: nn.Module) -> nn.Module:
    """Evaluation mode with random running statistics."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
        ("squeezenet1_0", 1_248_424),
        ("squeezenet1_1", 1_235_496),
    ],
)
def test_published_parameter_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build(name).parameters()) == parameters


# ---- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "depths", "convs"),
    [
        ("resnet18", (2, 2, 2, 2), 2),
        ("resnet34", (3, 4, 6, 3), 2),
        ("resnet50", (3, 4, 6, 3), 3),
        ("resnet101", (3, 4, 23, 3), 3),
    ],
)
def test_resnet_names(name: str, depths: tuple[int, ...], convs: int) -> None:
    expected = ["conv1.weight", *(f"bn1.{k}" for k in BN)]
    for layer, depth in enumerate(depths, 1):
        for block in range(depth):
            at = f"layer{layer}.{block}."
            for i in range(1, convs + 1):
                expected += [f"{at}conv{i}.weight", *(f"{at}bn{i}.{k}" for k in BN)]
            if block == 0 and (layer > 1 or convs == 3):  # a basic first stage changes nothing
                expected += [f"{at}downsample.0.weight", *(f"{at}downsample.1.{k}" for k in BN)]
    got = shapes(name)
    assert list(got) == [*expected, "fc.weight", "fc.bias"]
    assert got["conv1.weight"] == (64, 3, 7, 7)
    assert got["fc.weight"] == (1000, 512 if convs == 2 else 2048)
    if convs == 3:
        assert got["layer3.0.conv2.weight"] == (256, 256, 3, 3)
        assert got["layer3.0.downsample.0.weight"] == (1024, 512, 1, 1)


@pytest.mark.parametrize(
    ("name", "convs"),
    [
        ("vgg16", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        ("vgg19", (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)),
        ("vgg16_bn", (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)),
        ("vgg19_bn", (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49)),
    ],
)
def test_vgg_names(name: str, convs: tuple[int, ...]) -> None:
    expected = []
    for at in convs:
        expected += [f"features.{at}.weight", f"features.{at}.bias"]
        expected += [f"features.{at + 1}.{k}" for k in BN] if name.endswith("bn") else []
    expected += [f"classifier.{i}.{k}" for i in (0, 3, 6) for k in ("weight", "bias")]
    got = shapes(name)
    assert list(got) == expected
    assert got["classifier.0.weight"] == (4096, 25088)
    assert got["classifier.6.weight"] == (1000, 4096)


@pytest.mark.parametrize(
    ("name", "stem", "fires"),
    [
        ("squeezenet1_0", (96, 3, 7, 7), (3, 4, 5, 7, 8, 9, 10, 12)),
        ("squeezenet1_1", (64, 3, 3, 3), (3, 4, 6, 7, 9, 10, 11, 12)),
    ],
)
def test_squeezenet_names(name: str, stem: tuple[int, ...], fires: tuple[int, ...]) -> None:
    parts = [f"{part}.{k}" for part in ("squeeze", "expand1x1", "expand3x3") for k in ("weight", "bias")]
    expected = ["features.0.weight", "features.0.bias", *(f"features.{i}.{p}" for i in fires for p in parts)]
    got = shapes(name)
    assert list(got) == [*expected, "classifier.1.weight", "classifier.1.bias"]
    assert got["features.0.weight"] == stem
    assert got["features.12.squeeze.weight"] == (64, 512, 1, 1)
    assert got["features.12.expand3x3.weight"] == (256, 64, 3, 3)


# ---- scores -----------------------------------------------------------------------------------------


def unit(state: State, x: Tensor, conv: str, bn: str, stride: int, pad: int) -> Tensor:
    y = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=pad)
    mean, var, weight, bias = (state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(y, mean, var, weight, bias)


def resnet_reference(state: State, x: Tensor) -> Tensor:
    x = F.max_pool2d(unit(state, x, "conv1", "bn1", 2, 3).relu(), 3, 2, 1)
    blocks = sorted({tuple(map(int, k[5:].split(".")[:2])) for k in state if k.startswith("layer")})
    for layer, block in blocks:
        at, stride = f"layer{layer}.{block}.", 2 if layer > 1 and block == 0 else 1
        if at + "conv3.weight" in state:
            y = unit(state, x, at + "conv1", at + "bn1", 1, 0).relu()
            y = unit(state, y, at + "conv2", at + "bn2", stride, 1).relu()
            y = unit(state, y, at + "conv3", at + "bn3", 1, 0)
        else:
            y = unit(state, x, at + "conv1", at + "bn1", stride, 1).relu()
            y = unit(state, y, at + "conv2", at + "bn2", 1, 1)
        if at + "downsample.0.weight" in state:
            x = unit(state, x, at + "downsample.0", at + "downsample.1", stride, 0)
        x = (x + y).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_resnet_scores(block: type[resnet.BasicBlock] | type[resnet.Bottleneck]) -> None:
    torch.manual_seed(0)
    network = settle(resnet.ImageNetResNet(block, (1, 2, 1, 1), num_classes=6))
    x = torch.randn(2, 3, 65, 40)
    expected = resnet_reference(network.state_dict(), x)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [False, True])
def test_vgg_scores(norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(vgg, "WIDTHS", (4, 6, 8, 8, 8))
    network = settle(vgg.VGG((1, 2, 1, 1, 2), norm=norm, num_classes=6))
    state = network.state_dict()
    x = y = torch.randn(2, 3, 96, 70)
    at = 0
    for depth in (1, 2, 1, 1, 2):
        for _ in range(depth):
            y = F.conv2d(y, state[f"features.{at}.weight"], state[f"features.{at}.bias"], padding=1)
            if norm:
                mean, var, weight, bias = (
                    state[f"features.{at + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
                )
                y = F.batch_norm(y, mean, var, weight, bias)
            y = y.relu()
            at += 3 if norm else 2
        y = F.max_pool2d(y, 2)
        at += 1
    y = F.adaptive_avg_pool2d(y, (7, 7)).flatten(1)
    for i in (0, 3, 6):
        y = F.linear(y, state[f"classifier.{i}.weight"], state[f"classifier.{i}.bias"])
        y = y.relu() if i < 6 else y
    torch.testing.assert_close(network(x), y)


@pytest.mark.parametrize(("name", "pools"), [("squeezenet1_0", (2, 6, 11)), ("squeezenet1_1", (2, 5, 8))])
@pytest.mark.parametrize("side", [64, 75])  # sizes where rounding up or down differs
def test_squeezenet_scores(name: str, pools: tuple[int, ...], side: int) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=6).eval()
    state = network.state_dict()
    for key in state:
        if key.endswith("bias"):
            state[key].normal_(std=0.1)

    def conv(x: Tensor, at: str, **keywords: int) -> Tensor:
        return F.conv2d(x, state[f"{at}.weight"], state[f"{at}.bias"], **keywords).relu()

    x = torch.randn(2, 3, side, side)
    y = conv(x, "features.0", stride=2)
    for i in range(2, 13):
        if i in pools:
            y = F.max_pool2d(y, 3, 2, ceil_mode=True)
        else:
            y = conv(y, f"features.{i}.squeeze")
            wide = conv(y, f"features.{i}.expand3x3", padding=1)
            y = torch.cat([conv(y, f"features.{i}.expand1x1"), wide], 1)
    expected = conv(y, "classifier.1").mean((2, 3))
    scores = network(x)
    torch.testing.assert_close(scores, expected)
    assert scores.min() >= 0  # the last ReLU comes before the average


def test_squeezenet_layer_sizes_of_the_course() -> None:
    """A 256x192 picture (w x h): channels, heights and widths after each of the 13 layers of version 1.1."""
    sizes = [(64, 95, 127)] * 2 + [(64, 47, 63)] + [(128, 47, 63)] * 2 + [(128, 23, 31)] + [(256, 23, 31)] * 2
    sizes += [(256, 11, 15)] + [(384, 11, 15)] * 2 + [(512, 11, 15)] * 2
    x = torch.randn(1, 3, 192, 256)
    got = []
    for layer in squeezenet.squeezenet1_1().features:
        x = layer(x)
        got.append(tuple(x.shape[1:]))
    assert got == sizes
