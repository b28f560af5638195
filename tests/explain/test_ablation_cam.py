"""Ablation-CAM: running only what lies behind the layer gives exactly what running everything does."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from saccade.explain.ablation_cam import ablation_cam
from saccade.explain.head import Head
from saccade.explain.question import asking
from saccade.networks import Network, build


def everything(network: nn.Module, x: torch.Tensor, target: int, layer: str) -> torch.Tensor:
    """The whole network for every picture and channel; the last run of the layer is changed by a hook."""
    network.eval()
    part, maps = network.get_submodule(layer), []
    for i in range(len(x)):
        outputs: list[torch.Tensor] = []
        hook = part.register_forward_hook(lambda part, inputs, output, to=outputs: to.append(output.clone()))
        with torch.no_grad():
            score = network(x[i : i + 1])[0, target]
        hook.remove()
        last, found = len(outputs), torch.zeros_like(outputs[-1][0, 0])
        for k in range(outputs[-1].shape[1]):
            runs: list[int] = []

            def ablate(part: nn.Module, inputs: object, output: torch.Tensor, k=k, runs=runs, last=last):
                runs.append(1)
                if len(runs) == last:
                    output = output.clone()
                    output[:, k] = 0
                return output

            hook = part.register_forward_hook(ablate)
            with torch.no_grad():
                found += (score - network(x[i : i + 1])[0, target]) / score.abs() * outputs[-1][0, k]
            hook.remove()
        maps.append(found)
    return torch.stack(maps)


class Block(nn.Module):
    """As in torchvision: one ReLU in place for two places, and a sum in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += x
        return self.relu(out)


class Skips(nn.Module):
    """A skip around a layer by concatenation, and one added in place behind it; a layer that gives two things."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.three = nn.Conv2d(8, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x)
        y = self.two(torch.tanh(x))
        y = self.three(torch.cat([x, y], 1))
        x += y
        x = self.pool(x)[0]
        return self.head(x.view(len(x), 4, -1).amax(2))


class Shared(nn.Module):
    """One ReLU, not in place, inside and outside of a part; skips from its runs; and one in place behind the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.late = nn.ReLU(), nn.ReLU(inplace=True)
        self.part = nn.Sequential(nn.Conv2d(3, 4, 3), self.relu)
        self.two, self.three = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.part(x)
        y = self.relu(self.two(x))
        z = self.three(y)
        return self.head((self.late(z) * torch.tanh(y) + self.late(x)).mean((2, 3)))


class WritesIntoItsInput(nn.Module):
    """The skip takes what a ReLU in place left of it: what a module did to another's output must not be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x)
        y = self.two(self.relu(x))
        return self.head((x + torch.tanh(y)).mean((2, 3)))


class Counts(nn.Module):
    """Keeps a state: the first call in a run gives something else than the others do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side: list[torch.Tensor] = []
        hook = self.one.register_forward_hook(lambda part, inputs, output: side.append(inputs[0].mean((1, 2, 3))))
        y = self.two(torch.relu(self.one(x + 1)))
        hook.remove()
        return self.head(torch.tanh(y).mean((2, 3)) * side[0][:, None])


def blocks() -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3), Block(4), nn.ReLU(inplace=True), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 3))


def tiny() -> nn.Module:
    return Network(build("tinynet", num_classes=3, widths=(4, 6), units=(1, 2)), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)


def resnet() -> nn.Module:
    """ResNet-18 cut to a few channels, so that every one can be run by the whole network."""
    from saccade.networks.resnet import BasicBlock, ImageNetResNet

    made = ImageNetResNet(BasicBlock, (1, 1, 1, 1), num_classes=3)
    made.layer4 = nn.Sequential(BasicBlock(256, 6, 2))
    made.fc = nn.Linear(6, 3)
    return Network(made)


def squeeze() -> nn.Module:
    return Network(build("squeezenet1_1", num_classes=8))


@pytest.mark.parametrize(
    ("make", "layer", "replays"),
    [
        (blocks, "0", True),
        (blocks, "1.conv1", True),
        (blocks, "1.relu", True),
        (blocks, "1", True),
        (blocks, "2", True),
        (blocks, "3.conv2", True),
        (blocks, "3.relu", True),
        (tiny, "module.stem.conv", True),
        (tiny, "module.stage1", True),
        (tiny, "module.stage2.unit1.norm", True),
        (tiny, "module.stage2", True),
        (resnet, "module.layer4", True),
        (resnet, "module.layer4.0.bn1", True),
        (resnet, "module.layer4.0.downsample", True),
        (squeeze, "module.features.12.squeeze", True),
        (squeeze, "module.classifier.1", True),
        (Skips, "one", True),
        (Skips, "two", True),
        (Skips, "three", True),
        (Shared, "relu", True),
        (Shared, "part", True),
        (Shared, "two", True),
        (Shared, "three", True),
        (WritesIntoItsInput, "two", False),
        (WritesIntoItsInput, "relu", False),
        (Counts, "two", True),
    ],
)
def test_equals_running_everything(make: Callable[[], nn.Module], layer: str, replays: bool) -> None:
    torch.manual_seed(0)
    network = make().double().eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
                part.bias.normal_()
    count = 1 if make is squeeze else 2  # to be quick
    x = torch.rand(count, 3, 40, 44, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = everything(network, x, 1, layer)
    assert (expected.amax((1, 2)) > expected.amin((1, 2))).all()
    for batch_size in (None, 1, 3):
        given = network.get_submodule(layer)
        found = ablation_cam(network, x, 1, layer=given, relu=False, enlarge=False, batch_size=batch_size)
        assert_close(found, expected, rtol=1e-8, atol=1e-10)
    with asking(network, x, 1, "test") as question, torch.no_grad():
        assert Head(question, network.get_submodule(layer), 0).replays is replays


def test_what_lies_before_the_layer_runs_once_a_picture() -> None:
    runs: list[int] = []

    class Conv(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            runs.append(len(x))
            return super().forward(x)

    torch.manual_seed(0)
    network = nn.Sequential(Conv(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 3, 6, 7)
    network(x)
    runs.clear()
    ablation_cam(network, x, 1, layer="2", relu=False, batch_size=2)
    assert runs == [1, 1]


def test_what_modules_gave_is_copied_for_each_row_only_where_it_is_written_into() -> None:
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Flatten())
    for network, layer, written in ((flat, "2", []), (blocks(), "3.relu", ["3.conv2"]), (blocks(), "3.conv1", [])):
        with asking(network, torch.rand(1, 3, 6, 6), 1, "test") as question, torch.no_grad():
            head = Head(question, network.get_submodule(layer), 0)
        names = {part: name for name, part in network.named_modules()}
        assert [names[one.module] for one in head._given if one.written] == written


def test_worked_out_by_hand() -> None:
    a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    g = torch.tensor([[[1.0, -1.0], [0.0, 2.0]], [[0.0, 2.0], [-4.0, 6.0]]], dtype=torch.float64)  # 7 and -2
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 1)).double()
    network[0].weight.data = torch.eye(2, 3, dtype=torch.float64)[:, :, None, None]
    network[2].weight.data = g.reshape(1, 8)
    x = torch.cat([a, a[:1]])[None]
    for bias, weights in ((0.0, (7 / 5, -2 / 5)), (-15.0, (7 / 10, -2 / 10)), (-5.0, (7.0, -2.0))):  # y: 5, -10, 0
        network[2].bias.data[:] = bias
        found = ablation_cam(network, x, 0, layer="0", relu=False)[0]
        assert_close(found, weights[0] * a[0] + weights[1] * a[1], rtol=1e-12, atol=1e-12)


def test_a_module_that_someone_gave_its_own_forward_keeps_it() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plain = network[0].forward
    own = network[0].forward = lambda x: plain(x) ** 2  # type: ignore[method-assign]
    expected = everything(network, x := torch.rand(1, 3, 7, 7), 1, "1")
    assert_close(ablation_cam(network, x, 1, layer="1", relu=False, enlarge=False), expected, rtol=1e-4, atol=1e-5)
    assert vars(network[0])["forward"] is own
    assert "forward" not in vars(network[1])
