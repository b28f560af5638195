"""He et al.'s CIFAR networks: published sizes, parameter-free shortcuts, and a second implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.cifar_resnet import CifarResNet


@pytest.mark.parametrize(
    ("depth", "millions", "exact"),
    [
        (20, 0.27, 269_722),
        (32, 0.46, 464_154),
        (44, 0.66, 658_586),
        (56, 0.85, 853_018),
        (110, 1.7, 1_727_962),
    ],
)
def test_published_sizes(depth: int, millions: float, exact: int) -> None:
    with torch.device("meta"):
        network = CifarResNet(depth=depth)
    count = sum(p.numel() for p in network.parameters())
    assert count == exact
    assert round(count / 1e6, 1 if millions == 1.7 else 2) == millions
    weighted = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == depth  # no convolution hides in a shortcut


def reference(state: dict[str, Tensor], x: Tensor, n: int) -> Tensor:
    """ResNet-(6n + 2) in evaluation mode, from its state dict."""

    def unit(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        y = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        mean, var, w, b = (state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, w, b)

    x = unit(x, "conv1", "bn1").relu()
    for stage, width in enumerate((16, 32, 64), 1):
        for i in range(n):
            at = f"layer{stage}.{i}."
            stride = 2 if stage > 1 and i == 0 else 1
            y = unit(unit(x, at + "conv1", at + "bn1", stride).relu(), at + "conv2", at + "bn2")
            short = torch.zeros_like(y)
            channels = x.shape[1]
            start = (width - channels) // 2
            short[:, start : start + channels] = x[..., ::stride, ::stride]
            x = (y + short).relu()
    return F.linear(x.flatten(2).mean(2), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("side", [32, 33])
def test_forward_equals_a_second_implementation(side: int) -> None:
    torch.manual_seed(0)
    network = CifarResNet(depth=20, num_classes=7)
    network(torch.randn(8, 3, 32, 32))  # running statistics that are not those of the start
    network.eval()
    x = torch.randn(2, 3, side, side)
    torch.testing.assert_close(network(x), reference(network.state_dict(), x, 3))


def test_names_are_those_of_the_published_files() -> None:
    expected = ["conv1.weight"]
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected += [f"bn1.{k}" for k in bn]
    for stage in (1, 2, 3):
        for block in range(3):
            for i in (1, 2):
                at = f"layer{stage}.{block}."
                expected += [f"{at}conv{i}.weight", *(f"{at}bn{i}.{k}" for k in bn)]
    assert list(CifarResNet(depth=20).state_dict()) == [*expected, "linear.weight", "linear.bias"]


def test_he_initialisation() -> None:
    torch.manual_seed(0)
    for layer in CifarResNet(depth=20).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            std = (2 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize("depth", [18, 21, 2, 0])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(SaccadeError, match="6n \\+ 2"):
        CifarResNet(depth=depth)
