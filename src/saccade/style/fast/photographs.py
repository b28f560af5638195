"""Photographs to train a style network on: of a folder, of a data set, in memory, or those that are always there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data import DATASETS
from saccade.data import load as load_data
from saccade.data.decode import is_picture
from saccade.data.images import ImageSet
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.pictures import read, resize, sample
from saccade.pictures.samples import sample_names

LARGEST = 1024
"""Photographs are kept with a longer side of at most so many pixels."""

KEPT = 2**30
"""Bytes of decoded photographs to keep; others are read again each time."""

ODD = {"brick", "grass", "gravel", "hubble", "moon", "retina"}
"""Samples that are textures, or nothing that a photographer sees."""

Source = str | Path | ImageSet | Sequence[Tensor] | None


class Photographs:
    """Random crops of photographs, as a function of (seed, step).

    source: a folder (searched through), the name of a data set, its pictures, tensors (3, H, W) in [0, 1] of any sizes,
    or None for the samples inside scikit-image.
    """

    def __init__(self, source: Source = None) -> None:
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        self._get: Callable[[int], Tensor]
        if source is None:
            names = [name for name in sample_names() if name not in ODD]
            self.name, self.count, self._get = "samples", len(names), lambda i: sample(names[i])
        elif isinstance(source, str) and source in DATASETS:
            self._take(load_data(source, split="train"))
        elif isinstance(source, ImageSet):
            self._take(source)
        elif isinstance(source, str | Path):
            self._search(Path(source).expanduser())
        else:
            pictures = list(source)
            self.name, self.count, self._get = "pictures", len(pictures), lambda i: pictures[i]
        if not self.count:
            raise SaccadeError(f"Could not train a style network: {self.name} holds no photographs.")

    def _take(self, images: ImageSet) -> None:
        self.name, self.count = images.name, len(images)
        self._get = lambda i: images.take(torch.tensor([i]))[0][0].permute(2, 0, 1).float() / 255

    def _search(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SaccadeError(
                f"Could not find photographs: {folder} is neither a folder nor a data set ({', '.join(DATASETS)})."
            )
        files = sorted(path for path in folder.rglob("*") if is_picture(path.name))
        self.name, self.count, self._get = folder.name, len(files), lambda i: read(files[i])

    def photograph(self, index: int) -> Float[Tensor, "3 h w"]:
        """One of `count`, its longer side at most `LARGEST` pixels."""
        if index in self._kept:
            return self._kept[index].float() / 255
        picture = self._get(index)
        longest = max(picture.shape[1:])
        if longest > LARGEST:
            h, w = (max(1, round(side * LARGEST / longest)) for side in picture.shape[1:])
            picture = resize(picture, (h, w))
        if self._bytes + picture.numel() <= KEPT:
            self._kept[index] = (picture * 255).round().clamp(0, 255).to(torch.uint8)
            self._bytes += picture.numel()
            return self._kept[index].float() / 255
        return picture

    def batch(self, count: int, size: int, *, seed: int, step: int) -> Float[Tensor, "n 3 size size"]:
        """`count` squares of `size` pixels: crops of 40 % to all of the shorter side, resampled, half of them mirrored.

        A crop has at least `size` pixels a side, where the photograph has.
        """
        draw = generator(seed, step)
        crops = []
        for _ in range(count):
            index = int(torch.randint(self.count, (), generator=draw))
            part, down, across, mirror = torch.rand(4, generator=draw).tolist()
            picture = self.photograph(index)
            _, h, w = picture.shape
            shorter = min(h, w)
            least = max(min(size, shorter), round(0.4 * shorter))
            side = least + round(part * (shorter - least))
            top, left = round(down * (h - side)), round(across * (w - side))
            crop = resize(picture[:, top : top + side, left : left + side], (size, size), method="bilinear")
            crops.append(crop.flip(2) if mirror < 0.5 else crop)
        return torch.stack(crops)
