"""Networks whose best attacks are known, and small ones that are as awkward as real ones."""

import torch
from torch import Tensor, nn


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers in [0, 1]."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Linear(nn.Module):
    """Scores are scale * (weight (classes, C, H, W) times picture + bias) + shift."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.zeros(len(weight)).to(weight) if bias is None else bias.clone())
        self.scale, self.shift = scale, shift
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x.flatten(1) @ self.weight.flatten(1).T + self.bias) + self.shift


def linear(
    classes: int = 2, shape: tuple[int, int, int] = (3, 4, 4), *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Linear:
    """A random linear network whose scores of mid-grey are all zero, so that labels are mixed."""
    weight = draw(classes, *shape, seed=seed) - 0.5
    return Linear(weight, -weight.flatten(1).sum(1) / 2).to(dtype)


def conv_net(
    classes: int = 5, *, channels: int = 3, side: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64
) -> nn.Sequential:
    """Batch norm with statistics of its own, an in-place ReLU, a strided convolution, dropout; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.Softplus(beta=5),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * ((side - 1) // 2) ** 2, classes),
        ).double()
        with torch.no_grad():
            x = draw(64, channels, side, side)
            net(x)
            said = net.eval()(x)
            net[-1].weight /= said.std(0)[:, None]  # every class is said of some noise
            net[-1].bias.sub_(said.mean(0)).div_(said.std(0))
    return net.to(dtype)


def labels_of(network: nn.Module, x: Tensor) -> Tensor:
    """What a network says of pictures."""
    with torch.no_grad():
        said: Tensor = network(x).argmax(1)
    return said
