"""Training on CIFAR in plain PyTorch, as the repositories that everybody copies write it: the other side of the
comparisons. Nothing here is used by the library.

Pictures go through PIL one by one (pad, crop, flip, to tensor, normalise; the steps and their random numbers are those
of torchvision's transforms of these names), worker processes collate them, the network runs in float32 in PyTorch's
default layout, and loss and number of hits are read from the device in every step.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from saccade.data import ImageSet


class PilPictures(Dataset[tuple[Tensor, int]]):
    """Pictures as these repositories see them: one `__getitem__` each. border: how the four pixels are padded."""

    def __init__(self, images: ImageSet, mean: Sequence[float], std: Sequence[float], *, border: str = "zero") -> None:
        pictures, labels = images.take(torch.arange(len(images)))
        self.pictures, self.labels = pictures.numpy(), labels.tolist()
        self.mean, self.std, self.border = mean, std, border

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pictures[index])
        picture = flip(crop(picture, 4, self.border))
        return normalise(to_tensor(picture), self.mean, self.std), self.labels[index]


def crop(picture: Image.Image, pad: int, border: str) -> Image.Image:
    """A window of the old size from the picture, padded with black or by reflection."""
    width, height = picture.size
    if border == "zero":
        padded = ImageOps.expand(picture, border=pad, fill=0)
    else:
        padded = Image.fromarray(np.pad(np.asarray(picture), ((pad, pad), (pad, pad), (0, 0)), mode="reflect"))
    top = int(torch.randint(0, 2 * pad + 1, (1,)).item())
    left = int(torch.randint(0, 2 * pad + 1, (1,)).item())
    return padded.crop((left, top, left + width, top + height))


def flip(picture: Image.Image) -> Image.Image:
    """The mirror image, every second time."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(1).item() < 0.5 else picture


def to_tensor(picture: Image.Image) -> Tensor:
    """float32 (3, H, W) in [0, 1]."""
    array: NDArray[np.uint8] = np.array(picture, copy=True)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def normalise(picture: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(picture - mean) / std, in a copy."""
    centre, spread = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
    return picture.clone().sub_(centre).div_(spread)


def loader(pictures: PilPictures, *, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches; these repositories say `num_workers=2`."""
    return DataLoader(pictures, batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=True)


class PlainTraining:
    """A network, its optimiser and the running figures."""

    def __init__(self, network: nn.Module, *, lr: float = 0.1) -> None:
        self.network = network.train()
        self.optimiser = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        self.total_loss, self.correct, self.seen = 0.0, 0, 0

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        """One update; the loss."""
        self.optimiser.zero_grad()
        outputs = self.network(inputs)
        loss = F.cross_entropy(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.total_loss += loss.item()
        self.seen += len(targets)
        self.correct += int(outputs.argmax(1).eq(targets).sum().item())
        return loss.item()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms and a shortcut: the identity, or a 1x1 convolution with norm."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, stride=stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet18(nn.Module):
    """ResNet-18 as these repositories fit it to 32x32: 3x3 stem, no max pool; 11,173,962 parameters."""

    def __init__(self, num_classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    BasicBlock(widths[i], widths[i + 1], 1 if i == 0 else 2),
                    BasicBlock(widths[i + 1], widths[i + 1], 1),
                )
                for i in range(4)
            )
        )
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        scores: Tensor = self.linear(F.avg_pool2d(x, 4).flatten(1))
        return scores
