"""A plain network whose interval bounds are tight for its size: few layers, strides instead of pools."""

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class StridedNet(nn.Module):
    """Convolutions, then linear layers, ReLUs between. Pictures (N, 3, S, S) -> logits (N, num_classes).

    As it is it is the "small" network of Wong et al. 2018 (arXiv:1805.12514); with convs ((32, 3, 1), (32, 4, 2),
    (64, 3, 1), (64, 4, 2)) and hidden (512, 512) the "medium" one of Gowal et al. 2018 (arXiv:1810.12715).

    convs: (channels, kernel, stride) of each, padded by 1. hidden: outputs of the linear layers before the last.
    norm: batch norm after each convolution. size: S.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        convs: Sequence[Sequence[int]] = ((16, 4, 2), (32, 4, 2)),
        hidden: Sequence[int] = (100,),
        norm: bool = False,
        size: int = 32,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        given = 3
        for i, (width, kernel, stride) in enumerate(convs, 1):
            layers[f"conv{i}"] = nn.Conv2d(given, width, kernel, stride=stride, padding=1, bias=not norm)
            if norm:
                layers[f"norm{i}"] = nn.BatchNorm2d(width)
            layers[f"relu{i}"] = nn.ReLU()
            given, size = width, (size + 2 - kernel) // stride + 1
        layers["flatten"] = nn.Flatten()
        given *= size * size
        for i, width in enumerate(hidden, 1):
            layers[f"linear{i}"], layers[f"relu{len(convs) + i}"] = nn.Linear(given, width), nn.ReLU()
            given = width
        layers["linear"] = nn.Linear(given, num_classes)
        self.layers = nn.Sequential(layers)

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n classes"]:
        scores: Tensor = self.layers(x)
        return scores
