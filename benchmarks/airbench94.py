"""airbench94, written anew from its publication, as the reference of cifar_accuracy.py.

Keller Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv:2404.00498); every setting is that of the
published program (github.com/KellerJordan/cifar10-airbench, legacy/airbench94.py). What differs is the machine: a CPU
in float32, or in bfloat16 by autocast where that is faster, instead of a GPU in float16. Nothing here is used by the
library, and nothing of the library's networks, pipeline or training is used here.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data import ImageSet
from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.seeding import generator

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Settings:
    """The published ones; the smoke test makes them smaller."""

    epochs: float = 9.9
    batch: int = 1024
    lr: float = 11.5  # for 1024 pictures
    weight_decay: float = 0.0153  # for 1024 pictures, independent of the learning rate
    momentum: float = 0.85
    bias_scaler: float = 64.0
    label_smoothing: float = 0.2
    whiten_bias_epochs: int = 3
    translate: int = 2
    widths: tuple[int, int, int] = (64, 256, 256)
    start: float = 0.2  # the learning rate is a triangle: its first factor,
    peak: float = 0.23  # the share of the steps at which it is one,
    end: float = 0.07  # and its last factor


class Group(nn.Module):
    """Two 3x3 convolutions, each with norm and GELU; the first halves the side by a max pool."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = identity_start(cin, cout), identity_start(cout, cout)
        self.norm1, self.norm2 = norm(cout), norm(cout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    """Frozen whitening of 2x2 patches with a bias, three groups, the maximum over what is left, a scaled head."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]  # it has one
        self.groups = nn.Sequential(*(Group(a, b) for a, b in zip((24, *widths), widths, strict=False)))
        self.head = nn.Linear(widths[-1], 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.groups(F.gelu(self.whiten(x)))
        scores: Tensor = self.head(F.max_pool2d(x, 3).flatten(1)) / 9
        return scores


def identity_start(cin: int, cout: int) -> nn.Conv2d:
    """A convolution whose first outputs copy its inputs."""
    conv = nn.Conv2d(cin, cout, 3, padding="same", bias=False)
    nn.init.dirac_(conv.weight.data[:cin])
    return conv


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a bias and no scale; 0.6 of the running averages stays at each step."""
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def whitening_filters(pictures: Tensor) -> Tensor:
    """Eigenvectors of the 2x2 patches, each over the root of its eigenvalue (plus 5e-4), and their negatives."""
    patches = F.unfold(pictures, 2).transpose(1, 2).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


def normalised(images: ImageSet) -> tuple[Tensor, Tensor]:
    """All pictures, normalised, and labels."""
    pictures, labels = images.take(torch.arange(len(images)))
    x = pictures.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1), labels


class Loader:
    """Each picture mirrored by a coin once, then all of them every other epoch; shifted anew in each epoch."""

    def __init__(self, x: Tensor, labels: Tensor, settings: Settings, seed: int) -> None:
        self.labels, self.batch, self.seed, self.side = labels, settings.batch, seed, x.shape[-1]
        coin = torch.rand(len(x), 1, 1, 1, generator=generator(seed, -1)) < 0.5
        pad = settings.translate
        self.padded = F.pad(torch.where(coin, x.flip(3), x), (pad, pad, pad, pad), mode="reflect")
        self.shifts = 2 * pad + 1

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, which follow from the seed and its number."""
        g = generator(self.seed, epoch)
        shift = torch.randint(0, self.shifts, (len(self.padded), 2), generator=g)
        shifted = torch.empty(len(self.padded), 3, self.side, self.side).contiguous(memory_format=torch.channels_last)
        for i in range(self.shifts):
            for j in range(self.shifts):
                chosen = (shift[:, 0] == i) & (shift[:, 1] == j)
                shifted[chosen] = self.padded[chosen, :, i : i + self.side, j : j + self.side]
        if epoch % 2:
            shifted = shifted.flip(3)
        order = torch.randperm(len(shifted), generator=g)
        for k in range(len(self)):
            rows = order[k * self.batch : (k + 1) * self.batch]
            yield shifted[rows].contiguous(memory_format=torch.channels_last), self.labels[rows]


class Training:
    """A run under way."""

    def __init__(self, images: ImageSet, settings: Settings, *, seed: int, autocast: Autocast) -> None:
        x, labels = normalised(images)
        torch.manual_seed(seed)
        self.net = Net(settings.widths).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net.whiten.weight.data.copy_(whitening_filters(x[:5000]))
        self.loader = Loader(x, labels, settings, seed)
        self.settings, self.autocast = settings, autocast
        self.steps = math.ceil(len(self.loader) * settings.epochs)
        scale = 1024 * (1 + 1 / (1 - settings.momentum))
        lr, decay = settings.lr / scale, settings.weight_decay * settings.batch / scale
        biases = [p for name, p in self.net.named_parameters() if "norm" in name and p.requires_grad]
        others = [p for name, p in self.net.named_parameters() if "norm" not in name and p.requires_grad]
        groups = [
            {"params": group, "lr": rate, "peak": rate, "weight_decay": decay / rate}
            for group, rate in ((biases, lr * settings.bias_scaler), (others, lr))
        ]
        self.optimiser = torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=True)
        self.slow = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0

    def factor(self) -> float:
        """The triangle at the present step."""
        s, rise = self.settings, int(self.steps * self.settings.peak)
        if self.step < rise:
            return s.start + (1 - s.start) * self.step / rise
        return 1 + (s.end - 1) * (self.step - rise) / (self.steps - rise)

    def look_ahead(self, decay: float) -> None:
        """Pull the slow weights towards the fast ones and set the fast ones to them."""
        for slow, fast in zip(self.slow.values(), self.net.state_dict().values(), strict=True):
            if fast.is_floating_point():
                fast.copy_(slow.lerp_(fast, 1 - decay))

    def update(self, x: Tensor, labels: Tensor) -> None:
        """One step; the loss is a sum over the batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.factor()
        with self.autocast():
            scores = self.net(x)
        loss = F.cross_entropy(scores.float(), labels, label_smoothing=self.settings.label_smoothing, reduction="sum")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        if self.step % 5 == 0:
            self.look_ahead(0.95**5 * (self.step / self.steps) ** 3)
        if self.step == self.steps:
            self.look_ahead(1.0)

    def run(self, checkpoint: Path | None = None) -> None:
        """Train to the end; with `checkpoint`, saved after each epoch and taken up from there."""
        if checkpoint is not None and checkpoint.exists():
            self.restore(load_checkpoint(checkpoint, device=torch.device("cpu")))
        while self.step < self.steps:
            epoch = self.step // len(self.loader)
            clock, cpu = time.perf_counter(), time.process_time()
            bias: Any = self.net.whiten.bias
            bias.requires_grad_(epoch < self.settings.whiten_bias_epochs)
            self.net.train()
            for x, labels in self.loader.epoch(epoch):
                self.update(x, labels)
                if self.step == self.steps:
                    break
            self.seconds += time.perf_counter() - clock
            self.cpu_seconds += time.process_time() - cpu
            print(f"  airbench94: step {self.step} of {self.steps}, {self.seconds:.0f} s", flush=True)
            if checkpoint is not None:
                save_checkpoint(checkpoint, self.state())

    def state(self) -> dict[str, Any]:
        """All that a later sitting needs."""
        return {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "slow": self.slow,
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.slow, self.step = state["slow"], state["step"]
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]


@torch.no_grad()
def accuracy(training: Training, images: ImageSet, *, six_views: bool) -> float:
    """Share of hits: of single views, or of the mean over a picture, its mirror image, and both shifted by a pixel to
    two diagonals (the unshifted pair has half the weight)."""
    x, labels = normalised(images)
    training.net.eval()

    def mirrored(view: Tensor) -> Tensor:
        scores: Tensor = (training.net(view).float() + training.net(view.flip(3)).float()) / 2
        return scores

    hits, side = 0, x.shape[-1]
    for views, truth in zip(torch.split(x, 1000), torch.split(labels, 1000), strict=True):
        with training.autocast():
            if six_views:
                padded = F.pad(views, (1, 1, 1, 1), mode="reflect")
                corners = mirrored(padded[..., :side, :side]) + mirrored(padded[..., 2:, 2:])
                scores = mirrored(views) / 2 + corners / 4
            else:
                scores = training.net(views).float()
        hits += int((scores.argmax(1) == truth).sum())
    return hits / len(images)
