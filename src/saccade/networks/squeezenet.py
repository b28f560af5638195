"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016, arXiv:1602.07360), with torchvision's parameter names.

The classifier ends in convolution - ReLU - average, so scores are never negative, and a class whose map
is zero everywhere has no gradient. ReLUs do not work in place, so that every layer's output can be looked
at.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Fire(nn.Module):
    """1x1 convolution to `squeeze` channels, then 1x1 and 3x3 side by side, `expand` channels each.

    (N, cin, H, W) -> (N, 2 * expand, H, W).
    """

    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h w"]:
        x = self.squeeze_activation(self.squeeze(x))
        point = self.expand1x1_activation(self.expand1x1(x))
        square = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([point, square], dim=1)


class SqueezeNet(nn.Module):
    """`features`, 13 layers that reduce the side 16 times, and `classifier`.

    (N, 3, H, W) -> (N, num_classes); from 21 pixels a side (1.0) or 17 (1.1).
    """

    def __init__(self, features: nn.Sequential, *, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = features
        last = nn.Conv2d(512, num_classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        scores: Tensor = self.classifier(self.features(x))
        return scores.flatten(1)


def squeezenet1_0(*, num_classes: int = 1000) -> SqueezeNet:
    """The network of the paper; 1,248,424 parameters with 1000 classes."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(96, 16, 64),
        Fire(128, 16, 64),
        Fire(128, 32, 128),
        _pool(),
        Fire(256, 32, 128),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        _pool(),
        Fire(512, 64, 256),
    )
    return SqueezeNet(features, num_classes=num_classes)


def squeezenet1_1(*, num_classes: int = 1000) -> SqueezeNet:
    """The authors' later version, pooled earlier, 2.4 times less work; 1,235,496 parameters."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        _pool(),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        _pool(),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )
    return SqueezeNet(features, num_classes=num_classes)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
