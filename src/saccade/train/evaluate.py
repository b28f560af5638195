"""Accuracy of a network on a set of pictures."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.batches import Batches
from saccade.data.images import ImageSet
from saccade.engine.distributed import World, sum_over_processes
from saccade.engine.guards import evaluating, frozen
from saccade.engine.precision import Precision
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.train.adversarial import Norm, perturb

Tta = Literal["none", "flip", "six"]


def augmented_logits(network: nn.Module, pictures: Float[Tensor, "n 3 h w"], tta: Tta) -> Float[Tensor, "n classes"]:
    """Logits averaged over views of a picture: its mirror image ("flip"), or also both shifted by one pixel to
    either diagonal ("six", half the weight on the unshifted pair; Jordan 2024)."""
    if tta == "none":
        logits: Tensor = network(pictures)
        return logits

    def mirrored(x: Tensor) -> Tensor:
        mean: Tensor = (network(x) + network(x.flip(3))) / 2
        return mean

    if tta == "flip":
        return mirrored(pictures)
    h, w = pictures.shape[-2:]
    padded = F.pad(pictures, (1, 1, 1, 1), mode="reflect")
    shifted = [padded[..., :h, :w], padded[..., 2 : 2 + h, 2 : 2 + w]]
    return mirrored(pictures) / 2 + (mirrored(shifted[0]) + mirrored(shifted[1])) / 4


def evaluate(
    network: nn.Module,
    images: ImageSet,
    *,
    batch_size: int = 500,
    size: int | None = None,
    tta: Tta = "none",
    world: World | None = None,
    precision: Precision | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Top-1 accuracy, top-5 accuracy (with more than ten classes) and mean cross entropy, over all processes.

    size: side to which pictures are resized. progress: called with (pictures done, pictures in all).
    """
    world = world or World(0, 1, next(network.parameters()).device)
    precision = precision or Precision("fp32", "default")
    share = images.subset(torch.arange(world.rank, len(images), world.size))
    _check_not_empty(images)
    totals = torch.zeros(5, dtype=torch.float64, device=world.device)
    done = 0
    with evaluating(network):
        for pictures, labels in Batches(share, batch_size=batch_size, size=size, device=world.device).epoch():
            with precision.autocast(world.device):
                logits = augmented_logits(network, pictures, tta).float()
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            loss = F.cross_entropy(logits, labels, reduction="sum").double()
            count = torch.tensor(len(labels), device=world.device)
            totals += torch.stack([best[:, 0].sum(), best.sum(), loss, count, count * (logits.shape[1] > 10)])
            done += len(labels)
            if progress:
                progress(done, len(share))
    top1, top5, lost, pictures_seen, many_classes = sum_over_processes(totals, world).tolist()
    result = {"accuracy": top1 / pictures_seen, "loss": lost / pictures_seen}
    return result | ({"top5": top5 / pictures_seen} if many_classes else {})


def evaluate_under_attack(
    network: nn.Module,
    images: ImageSet,
    *,
    norm: Norm,
    eps: float,
    steps: int = 10,
    batch_size: int = 250,
    size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> float:
    """Accuracy on pictures changed within eps by `steps` steps of projected gradient ascent (evaluation mode)."""
    _check_not_empty(images)
    correct = 0
    batches = Batches(images, batch_size=batch_size, size=size, device=device)
    with frozen(network):
        for i, (pictures, labels) in enumerate(batches.epoch()):
            worst = perturb(network, pictures, labels, norm=norm, eps=eps, steps=steps, generator=generator(seed, i))
            with torch.no_grad():
                correct += int((network(worst).argmax(1) == labels).sum())
    return correct / len(images)


def evenly(images: ImageSet, count: int) -> ImageSet:
    """`count` of the pictures (or all, if they are fewer), evenly spaced: a set may be sorted by class."""
    count = min(count, len(images))
    return images.subset(torch.arange(count) * len(images) // max(count, 1))


def _check_not_empty(images: ImageSet) -> None:
    if len(images) == 0:
        raise SaccadeError(f"Evaluating on {images.name}: it holds no pictures; at least one is needed.")
