"""ResNet-18, 34, 50 and 101 (He, Zhang, Ren, Sun 2015, arXiv:1512.03385), with torchvision's parameter
names.

As there, a bottleneck block that halves the side does so in its 3x3 convolution ("version 1.5"). Each
ReLU is a layer of its own and does not work in place, so that every layer's output can be looked at.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut. (N, cin, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.downsample = _shortcut(cin, width, stride)

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = self.relu2(y + (x if self.downsample is None else self.downsample(x)))
        return y  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut. (N, cin, H, W) -> (N, 4 * width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu3 = nn.ReLU()
        self.downsample = _shortcut(cin, 4 * width, stride)

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = self.relu3(y + (x if self.downsample is None else self.downsample(x)))
        return y  # type: ignore[no-any-return]


class ImageNetResNet(nn.Module):
    """7x7 stem, four stages to 1/32 of the side, average, linear. (N, 3, H, W) -> (N, num_classes).

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each of the four stages.
        num_classes: how many scores it gives.
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int], *, num_classes: int = 1000
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        first, second, third, fourth = depths
        grow = block.expansion
        self.layer1 = _stage(block, 64, 64, first, stride=1)
        self.layer2 = _stage(block, 64 * grow, 128, second, stride=2)
        self.layer3 = _stage(block, 128 * grow, 256, third, stride=2)
        self.layer4 = _stage(block, 256 * grow, 512, fourth, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * grow, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


def resnet18(*, num_classes: int = 1000) -> ImageNetResNet:
    """11,689,512 parameters with 1000 classes."""
    return ImageNetResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes)


def resnet34(*, num_classes: int = 1000) -> ImageNetResNet:
    """21,797,672 parameters with 1000 classes."""
    return ImageNetResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes)


def resnet50(*, num_classes: int = 1000) -> ImageNetResNet:
    """25,557,032 parameters with 1000 classes."""
    return ImageNetResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes)


def resnet101(*, num_classes: int = 1000) -> ImageNetResNet:
    """44,549,160 parameters with 1000 classes."""
    return ImageNetResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], cin: int, width: int, depth: int, *, stride: int
) -> nn.Sequential:
    cout = width * block.expansion
    return nn.Sequential(block(cin, width, stride), *(block(cout, width, 1) for _ in range(depth - 1)))


def _shortcut(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    """None (the identity) where nothing changes, else a 1x1 convolution and a norm."""
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride=stride, bias=False), nn.BatchNorm2d(cout))
