"""The same small networks at three levels of abstraction (EECS 498-007, assignment 4, part 1).

As pure functions of tensors (part 2 of its notebook), as `nn.Module` (part 3), as `nn.Sequential` (part
4); for each level an initialiser that returns what training needs. Pictures are (N, 3, 32, 32) unless
said otherwise.

Parts 2 and 3 start from He et al.'s normal distribution, N(0, 2 / fan-in), with zero biases; part 4 from
PyTorch's default, uniform within 1 / sqrt(fan-in).
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD

# ---- Part 2: functions of tensors --------------------------------------------------------------


def two_layer_net(x: Float[Tensor, "n ..."], params: Sequence[Tensor]) -> Float[Tensor, "n classes"]:
    """linear - ReLU - linear on flattened pictures.

    params: w1 (hidden, inputs), b1 (hidden), w2 (classes, hidden), b2 (classes).
    """
    w1, b1, w2, b2 = params
    return F.linear(F.relu(F.linear(x.flatten(1), w1, b1)), w2, b2)


def three_layer_convnet(x: Float[Tensor, "n c h w"], params: Sequence[Tensor]) -> Float[Tensor, "n classes"]:
    """conv (pad 2) - ReLU - conv (pad 1) - ReLU - flatten - linear; no softmax.

    params: conv_w1 (c1, c, k1, k1), conv_b1 (c1), conv_w2 (c2, c1, k2, k2), conv_b2 (c2),
    fc_w (classes, c2 * h * w), fc_b (classes). With k1 = 5 and k2 = 3 the maps keep the size of the
    picture.
    """
    conv_w1, conv_b1, conv_w2, conv_b2, fc_w, fc_b = params
    x = F.relu(F.conv2d(x, conv_w1, conv_b1, padding=2))
    x = F.relu(F.conv2d(x, conv_w2, conv_b2, padding=1))
    return F.linear(x.flatten(1), fc_w, fc_b)


def initialize_two_layer_part2(
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    hidden: int = 4000,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """w1, b1, w2, b2 for 3x32x32 pictures and 10 classes, gradients tracked."""
    shapes = [(hidden, 3 * 32 * 32), (10, hidden)]
    return _kaiming_params(shapes, dtype, device, generator)


def initialize_three_layer_conv_part2(
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """The six tensors of 32 filters of 5x5, 16 of 3x3 and 10 classes, gradients tracked."""
    shapes = [(32, 3, 5, 5), (16, 32, 3, 3), (10, 16 * 32 * 32)]
    return _kaiming_params(shapes, dtype, device, generator)


def _kaiming_params(
    shapes: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device | str,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Weight, bias, weight, bias, ...: weights from N(0, 2 / fan-in), biases zero."""
    params = []
    for shape in shapes:
        weight = nn.init.kaiming_normal_(torch.empty(shape, dtype=dtype, device=device), generator=generator)
        params += [weight, torch.zeros(shape[0], dtype=dtype, device=device)]
    return [p.requires_grad_() for p in params]


# ---- Part 3: modules ---------------------------------------------------------------------------


class TwoLayerNet(nn.Module):
    """`two_layer_net` as a module. (N, 3, 32, 32) or (N, input_size) -> (N, num_classes)."""

    def __init__(self, input_size: int = 3 * 32 * 32, hidden_size: int = 4000, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, num_classes)
        _kaiming_init(self)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n classes"]:
        scores: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return scores


class ThreeLayerConvNet(nn.Module):
    """`three_layer_convnet` as a module, filters 5x5 and 3x3. (N, in_channel, 32, 32) -> (N, num_classes)."""

    def __init__(self, in_channel: int = 3, channel_1: int = 32, channel_2: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channel, channel_1, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channel_1, channel_2, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(channel_2 * 32 * 32, num_classes)
        _kaiming_init(self)

    def forward(self, x: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "n classes"]:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        scores: Tensor = self.fc(x.flatten(1))
        return scores


def initialize_two_layer_part3() -> tuple[TwoLayerNet, SGD]:
    """The two-layer net (hidden 4000) and plain SGD, lr 1e-2, weight decay 1e-4."""
    model = TwoLayerNet()
    return model, SGD(model.parameters(), lr=1e-2, weight_decay=1e-4)


def initialize_three_layer_conv_part3() -> tuple[ThreeLayerConvNet, SGD]:
    """The convnet (32 and 16 filters) and plain SGD, lr 3e-3, weight decay 1e-4."""
    model = ThreeLayerConvNet()
    return model, SGD(model.parameters(), lr=3e-3, weight_decay=1e-4)


def _kaiming_init(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # both kinds have one here


# ---- Part 4: containers ------------------------------------------------------------------------


def initialize_two_layer_part4() -> tuple[nn.Sequential, SGD]:
    """The two-layer net as a container, and SGD with Nesterov momentum 0.5, lr 1e-2, weight decay 1e-4."""
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            flatten=nn.Flatten(), fc1=nn.Linear(3 * 32 * 32, 4000), relu1=nn.ReLU(), fc2=nn.Linear(4000, 10)
        )
    )
    return model, _nesterov(model)


def initialize_three_layer_conv_part4() -> tuple[nn.Sequential, SGD]:
    """The convnet as a container, and SGD with Nesterov momentum 0.5, lr 1e-2, weight decay 1e-4."""
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(3, 32, 5, padding=2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 16, 3, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(16 * 32 * 32, 10),
        )
    )
    return model, _nesterov(model)


def _nesterov(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=1e-2, momentum=0.5, nesterov=True, weight_decay=1e-4)
