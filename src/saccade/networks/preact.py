"""Plain, residual and bottleneck pre-activation networks (EECS 498-007, assignment 4, part 1).

After "Identity Mappings in Deep Residual Networks" (He, Zhang, Ren, Sun 2016, arXiv:1603.05027), as the
course defines them: convolutions have biases, and there is no norm or ReLU between the last stage and the
average. `ResNet` and the argument names `Cin`, `Cout` are the course's.
"""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

Block = Callable[[int, int, bool], nn.Module]
"""Makes a block from (Cin, Cout, downsample)."""

StageArgs = Sequence[tuple[int, int, int, bool]]
"""One (Cin, Cout, blocks, downsample) a stage."""


class PlainBlock(nn.Module):
    """norm - ReLU - conv 3x3 - norm - ReLU - conv 3x3; the first conv has stride 2 if `downsample`.

    (N, Cin, H, W) -> (N, Cout, H, W), or half the side, rounded up.
    """

    def __init__(self, Cin: int, Cout: int, downsample: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.BatchNorm2d(Cin),
            nn.ReLU(),
            nn.Conv2d(Cin, Cout, 3, padding=1, stride=2 if downsample else 1),
            nn.BatchNorm2d(Cout),
            nn.ReLU(),
            nn.Conv2d(Cout, Cout, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y: Tensor = self.net(x)
        return y


class ResidualBlock(nn.Module):
    """F(x) + G(x), F a plain block, G the shortcut. (N, Cin, H, W) -> (N, Cout, H, W), or half the side."""

    def __init__(self, Cin: int, Cout: int, downsample: bool = False) -> None:
        super().__init__()
        self.block = PlainBlock(Cin, Cout, downsample)
        self.shortcut = _shortcut(Cin, Cout, downsample)

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y: Tensor = self.block(x) + self.shortcut(x)
        return y


class ResidualBottleneckBlock(nn.Module):
    """F(x) + G(x), where F goes through Cout // 4 channels. (N, Cin, H, W) -> (N, Cout, H, W), or half
    the side.

    F is norm - ReLU - conv 1x1 (stride 2 if `downsample`) - norm - ReLU - conv 3x3 - norm - ReLU - conv
    1x1.
    """

    def __init__(self, Cin: int, Cout: int, downsample: bool = False) -> None:
        super().__init__()
        middle = Cout // 4
        self.block = nn.Sequential(
            nn.BatchNorm2d(Cin),
            nn.ReLU(),
            nn.Conv2d(Cin, middle, 1, stride=2 if downsample else 1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, padding=1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, Cout, 1),
        )
        self.shortcut = _shortcut(Cin, Cout, downsample)

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y: Tensor = self.block(x) + self.shortcut(x)
        return y


class ResNetStem(nn.Sequential):
    """conv 3x3 - ReLU. (N, Cin, H, W) -> (N, Cout, H, W)."""

    def __init__(self, Cin: int = 3, Cout: int = 8) -> None:
        super().__init__(nn.Conv2d(Cin, Cout, 3, padding=1), nn.ReLU())


class ResNetStage(nn.Sequential):
    """`num_blocks` blocks, of which the first changes channels and, if `downsample`, side."""

    def __init__(
        self, Cin: int, Cout: int, num_blocks: int, downsample: bool = True, block: Block = ResidualBlock
    ) -> None:
        super().__init__(block(Cin, Cout, downsample), *(block(Cout, Cout, False) for _ in range(num_blocks - 1)))


class ResNet(nn.Module):
    """stem - stages - average over height and width - linear. (N, Cin, H, W), any size -> (N, num_classes).

    With `block=PlainBlock` it is a plain network of the same depth.
    """

    def __init__(
        self, stage_args: StageArgs, Cin: int = 3, block: Block = ResidualBlock, num_classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = ResNetStem(Cin, stage_args[0][0])
        self.stages = nn.Sequential(*(ResNetStage(*args, block=block) for args in stage_args))
        self.fc = nn.Linear(stage_args[-1][1], num_classes)

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n classes"]:
        x = self.stages(self.stem(x))
        scores: Tensor = self.fc(x.mean(dim=(2, 3)))
        return scores


NETWORKS: dict[str, StageArgs] = {
    "plain32": ((8, 8, 5, False), (8, 16, 5, True), (16, 32, 5, True)),
    "resnet32": ((8, 8, 5, False), (8, 16, 5, True), (16, 32, 5, True)),
    "resnet47": ((32, 32, 5, False), (32, 64, 5, True), (64, 128, 5, True)),
}


def plain32(*, num_classes: int = 10) -> ResNet:
    """1 + 15 x 2 + 1 = 32 layers without shortcuts; 117,386 parameters with 10 classes."""
    return ResNet(NETWORKS["plain32"], block=PlainBlock, num_classes=num_classes)


def resnet32(*, num_classes: int = 10) -> ResNet:
    """`plain32` with shortcuts; 118,074 parameters with 10 classes."""
    return ResNet(NETWORKS["resnet32"], num_classes=num_classes)


def resnet47(*, num_classes: int = 10) -> ResNet:
    """1 + 15 x 3 + 1 = 47 layers of bottleneck blocks; 129,146 parameters with 10 classes."""
    return ResNet(NETWORKS["resnet47"], block=ResidualBottleneckBlock, num_classes=num_classes)


def _shortcut(Cin: int, Cout: int, downsample: bool) -> nn.Module:
    """Identity where nothing changes, else a 1x1 convolution (stride 2 when the side is halved)."""
    if downsample:
        return nn.Conv2d(Cin, Cout, 1, stride=2)
    return nn.Identity() if Cin == Cout else nn.Conv2d(Cin, Cout, 1)
