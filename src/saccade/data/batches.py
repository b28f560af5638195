"""Batches of pictures without workers and without state.

The pictures are one uint8 array; a batch is a gather and a few array operations on the device. The random numbers of
an epoch follow from (seed, epoch), so "epoch e, step s" is all that a resumed run needs to know.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.data.augment import Augment, Draws, cut_out, draw, resampled, translated
from saccade.data.images import ImageSet
from saccade.errors import SaccadeError


class Batches:
    """The batches of a set of pictures, epoch after epoch.

    images: what to draw from. batch_size: pictures in a step, over all processes. augment: None leaves the pictures
    alone, in order, and keeps the incomplete last batch; otherwise each epoch is shuffled and drops it.
    size: side of the pictures given out (default: as stored). fill: colour of the cutout.
    rank, world: this process gets the rank-th of `world` equal shares of every batch.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        augment: Augment | None = None,
        size: int | None = None,
        fill: tuple[float, float, float] = (0.5, 0.5, 0.5),
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise SaccadeError(f"Batches: batch_size {batch_size} must be a positive multiple of {world} processes.")
        if augment is not None and len(images) < batch_size:
            given = f"{images.name} has {len(images)} pictures"
            raise SaccadeError(f"Batches: {given}, fewer than one batch of {batch_size}; give a smaller batch_size.")
        self.images, self.batch_size, self.augment, self.size = images, batch_size, augment, size
        self.seed, self.device, self.rank, self.world = seed, torch.device(device), rank, world
        self.fill = torch.tensor(fill, device=device).view(1, 3, 1, 1)

    def __len__(self) -> int:
        full, rest = divmod(len(self.images), self.batch_size)
        return full + (rest > 0 and self.augment is None)

    def epoch(
        self, epoch: int = 0, *, start: int = 0, size: int | None = None, crop: float | None = None
    ) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
        """Pictures (B, 3, H, W) in [0, 1], channels last, and labels (B,), from step `start` of `epoch` on.

        size, crop: side of the pictures and least share of a crop in this epoch, instead of those given at the start.
        """
        height, width = self.images.size
        augment = self.augment or Augment()
        if crop is not None:
            augment = replace(augment, crop=crop)
        shuffle = self.augment is not None
        draws = draw(len(self.images), augment, seed=self.seed, epoch=epoch, shuffle=shuffle, ratio=width / height)
        for step in range(start, len(self)):
            batch = slice(step * self.batch_size, min((step + 1) * self.batch_size, len(self.images)))
            share = -(-(batch.stop - batch.start) // self.world)
            first = batch.start + self.rank * share
            yield self._make(draws[first : min(first + share, batch.stop)], augment, size or self.size)

    def _make(self, draws: Draws, augment: Augment, size: int | None) -> tuple[Tensor, Tensor]:
        raw, labels = self.images.take(draws.order)
        raw = raw.to(self.device, non_blocking=True)
        if augment.translate:
            raw = translated(raw, draws.shift, augment.translate)
        pictures = raw.permute(0, 3, 1, 2).float().div_(255)
        shape = (size, size) if size else self.images.size
        if augment.crop < 1 or shape != self.images.size:
            pictures = resampled(pictures, draws.box.to(self.device), shape)
        if augment.flip != "none":
            chosen = draws.flip.nonzero()[:, 0].to(self.device)
            pictures[chosen] = pictures[chosen].flip(3)
        if augment.cutout:
            pictures = cut_out(pictures, draws.corner.to(self.device), augment.cutout, self.fill)
        return pictures.contiguous(memory_format=torch.channels_last), labels.to(self.device, non_blocking=True)
