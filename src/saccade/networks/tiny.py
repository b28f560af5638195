"""`tinynet`: the all-round natural-image network that ships with this library.

Plain 3x3 convolutions with batch norm and ReLU in stages, like VGG (Simonyan & Zisserman 2015), because their
activations serve style transfer, inversion and class pictures well. Between stages the picture is blurred and then
sampled (Zhang 2019, arXiv:1904.11486): a strided convolution or a maximum would leave a checkerboard in every input
gradient. A global average before the classifier lets it take pictures of any size from 16 pixels up.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class BlurPool(nn.Module):
    """Halve height and width after a fixed blur, [1, 3, 3, 1] / 8 along both. (N, C, H, W) -> (N, C, H/2, W/2).

    In float32 under autocast too: PyTorch's bfloat16 gradient of a depthwise convolution is slow on the CPU (twenty
    times the time of float32, a third of a training step of `tinynet`).
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(line, line).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c a b"]:
        if not torch.is_autocast_enabled(x.device.type):
            return F.conv2d(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), self.kernel.float(), stride=2, padding=1, groups=len(self.kernel)).to(x.dtype)


class ConvUnit(nn.Sequential):
    """3x3 convolution, batch norm, ReLU. (N, Cin, H, W) -> (N, Cout, H, W)."""

    def __init__(self, cin: int, cout: int) -> None:
        conv = nn.Conv2d(cin, cout, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(cout), relu=nn.ReLU(inplace=True)))


class TinyNet(nn.Module):
    """Stem at full resolution, then stages `stage1`, `stage2`, ... at half the resolution of the one before.

    Pictures (N, 3, H, W) -> logits (N, num_classes). The taps for style and features are the outputs of `stem` and of
    `stage*.unit*`.

    widths: channels of each stage; the stem has half of the first. units: convolutions of each stage.
    """

    def __init__(
        self,
        *,
        num_classes: int = 200,
        widths: Sequence[int] = (48, 96, 192, 384),
        units: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        channels = widths[0] // 2
        self.stem = ConvUnit(3, channels)
        for i, (width, count) in enumerate(zip(widths, units, strict=True), 1):
            stage = OrderedDict[str, nn.Module](pool=BlurPool(channels))
            for j in range(1, count + 1):
                stage[f"unit{j}"] = ConvUnit(channels, width)
                channels = width
            self.add_module(f"stage{i}", nn.Sequential(stage))
        self.stages = len(widths)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.stem(x)
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{i}")(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
