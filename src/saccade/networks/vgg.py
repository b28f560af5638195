"""VGG-16 and VGG-19 (Simonyan, Zisserman 2014, arXiv:1409.1556), with torchvision's parameter names.

With or without batch norm after each convolution. ReLUs do not work in place, so that every layer's
output can be looked at.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each ended by a max pool, then three linear layers.

    (N, 3, H, W), 32 pixels up -> (N, num_classes). The last maps are averaged to 7x7, so that any size
    will do.

    Args:
        depths: convolutions in each of the five stages.
        norm: a batch norm after each convolution.
        num_classes: how many scores it gives.
    """

    def __init__(self, depths: Sequence[int], *, norm: bool = False, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for depth, width in zip(depths, WIDTHS, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )
        self._initialize()

    def _initialize(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.avgpool(self.features(x))
        scores: Tensor = self.classifier(x.flatten(1))
        return scores


def vgg16(*, num_classes: int = 1000) -> VGG:
    """Configuration D; 138,357,544 parameters with 1000 classes."""
    return VGG((2, 2, 3, 3, 3), num_classes=num_classes)


def vgg19(*, num_classes: int = 1000) -> VGG:
    """Configuration E; 143,667,240 parameters with 1000 classes."""
    return VGG((2, 2, 4, 4, 4), num_classes=num_classes)


def vgg16_bn(*, num_classes: int = 1000) -> VGG:
    """Configuration D with batch norm; 138,365,992 parameters with 1000 classes."""
    return VGG((2, 2, 3, 3, 3), norm=True, num_classes=num_classes)


def vgg19_bn(*, num_classes: int = 1000) -> VGG:
    """Configuration E with batch norm; 143,678,248 parameters with 1000 classes."""
    return VGG((2, 2, 4, 4, 4), norm=True, num_classes=num_classes)
