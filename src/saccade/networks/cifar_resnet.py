"""The residual networks for CIFAR of He, Zhang, Ren and Sun 2015 (arXiv:1512.03385, section 4.2).

6n + 2 layers: a 3x3 convolution, three stages of n blocks with 16, 32 and 64 channels, the average over
the picture, a linear layer. Shortcuts have no parameters (option A): where a stage halves the side, every
second pixel is taken and the new channels are zeros. Parameter names are those of the widely used
implementation of Yerlan Idelbayev, so its weight files load.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError


class BasicBlock(nn.Module):
    """ReLU(norm(conv(ReLU(norm(conv(x))))) + shortcut of x).

    (N, cin, H, W) -> (N, cout, H / stride, W / stride), rounded up.
    """

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.relu2 = nn.ReLU()
        self.stride, self.new_channels = stride, cout - cin

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        y: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            before = self.new_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))
        y = self.relu2(y + x)
        return y


class CifarResNet(nn.Module):
    """The network of `depth` = 6n + 2 layers. (N, 3, H, W) -> (N, num_classes), made for 32x32.

    Weights start from He et al.'s normal distribution, variance 2 / fan-in.
    """

    def __init__(self, *, depth: int = 20, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise SaccadeError(f"CifarResNet: a depth of {depth} was asked for; it must be 6n + 2: 8, 14, 20, 32, ...")
        n = depth // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, n, stride=1)
        self.layer2 = _stage(16, 32, n, stride=2)
        self.layer3 = _stage(32, 64, n, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(cin: int, cout: int, n: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(cin, cout, stride), *(BasicBlock(cout, cout, 1) for _ in range(n - 1)))
