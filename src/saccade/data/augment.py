"""Random changes of pictures during training, drawn for a whole epoch at once and applied batch by batch."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError


@dataclass(frozen=True)
class Augment:
    """What may happen to a training picture.

    flip: left-right, "random" (a coin for each picture and epoch) or "alternating" (a coin for each picture once,
        then turned over every epoch, so that two epochs show both sides; Jordan 2024, arXiv:2404.00498).
    translate: shift by up to this many pixels either way, the border reflected.
    cutout: side of a square of mean colour pasted at random, 0 for none (DeVries & Taylor 2017, arXiv:1708.04552).
    crop: least share of the area that a random resized crop keeps, 1 for none (Szegedy et al. 2015); the aspect
        ratio is drawn log-uniformly from 3/4 to 4/3, and brought to what fits where the crop is large.
    """

    flip: Literal["none", "random", "alternating"] = "none"
    translate: int = 0
    cutout: int = 0
    crop: float = 1.0

    def __post_init__(self) -> None:
        if self.flip not in ("none", "random", "alternating"):
            raise SaccadeError(f"Augment: flip must be none, random or alternating, got {self.flip!r}.")
        if self.translate < 0 or self.cutout < 0 or not 0 < self.crop <= 1:
            raise SaccadeError(f"Augment: translate and cutout must be 0 or more and crop in (0, 1], got {self}.")


@dataclass(frozen=True)
class Draws:
    """The random numbers of one epoch, one row for each picture in the order of the epoch."""

    order: Int[Tensor, " n"]
    flip: Tensor  # bool (n,)
    shift: Tensor  # int64 (n, 2), rows and columns, 0 to 2 * translate
    box: Tensor  # float32 (n, 4), top, left, height, width as shares of the picture
    corner: Tensor  # float32 (n, 2) in [0, 1), where the cutout lies

    def __getitem__(self, rows: slice) -> "Draws":
        return Draws(self.order[rows], self.flip[rows], self.shift[rows], self.box[rows], self.corner[rows])


def draw(count: int, augment: Augment, *, seed: int, epoch: int, shuffle: bool, ratio: float = 1.0) -> Draws:
    """All random numbers of an epoch: a pure function of (seed, epoch). ratio: width by height of the pictures."""
    g = generator(seed, epoch)
    order = torch.randperm(count, generator=g) if shuffle else torch.arange(count)
    flip = torch.zeros(count, dtype=torch.bool)
    if augment.flip == "random":
        flip = torch.rand(count, generator=g) < 0.5
    elif augment.flip == "alternating":
        coins = torch.rand(count, generator=generator(seed, -1)) < 0.5
        flip = coins[order] ^ bool(epoch % 2)
    shift = torch.randint(0, 2 * augment.translate + 1, (count, 2), generator=g)
    area = augment.crop + (1 - augment.crop) * torch.rand(count, generator=g)
    log_ratio = (torch.rand(count, generator=g) * 2 - 1) * torch.log(torch.tensor(4 / 3))
    if augment.crop == 1:
        log_ratio = torch.zeros(count)
    # a crop of this area that is to fit into the picture cannot be more oblong than these
    log_ratio = log_ratio.clamp((area * ratio).log(), (ratio / area).log())
    height = (area / log_ratio.exp() * ratio).sqrt().clamp(max=1)
    width = (area * log_ratio.exp() / ratio).sqrt().clamp(max=1)
    if augment.crop == 1:
        height = width = torch.ones(count)
    place = torch.rand(count, 2, generator=g)
    box = torch.stack([place[:, 0] * (1 - height), place[:, 1] * (1 - width), height, width], 1)
    return Draws(order, flip, shift, box, torch.rand(count, 2, generator=g))


def translated(pictures: UInt8[Tensor, "n h w 3"], shift: Int[Tensor, "n 2"], pad: int) -> UInt8[Tensor, "n h w 3"]:
    """Cut a window of the old size at `shift` from each picture padded by reflection.

    Every row of a window is a run of 3 * w bytes, so one `index_select` over all runs copies them in one go; indexing
    pixel by pixel takes ten times as long. Only columns need padding, as the index of a row can itself be reflected.
    """
    n, h, w, _ = pictures.shape
    if pad >= min(h, w):
        raise SaccadeError(f"Augment: translate={pad} is too much for pictures of {h}x{w}.")
    if pad == 0:
        return pictures
    left, right = pictures[:, :, 1 : pad + 1].flip(2), pictures[:, :, w - 1 - pad : w - 1].flip(2)
    padded = torch.cat([left, pictures, right], 2)
    rows = _reflect(h, pad)[shift[:, :1] + torch.arange(h)]
    starts = (torch.arange(n)[:, None] * h + rows) * (w + 2 * pad) + shift[:, 1:]  # in pixels
    runs = padded.flatten().unfold(0, 3 * w, 3)
    return runs.index_select(0, starts.flatten().to(pictures.device)).view(n, h, w, 3)


def resampled(
    pictures: Float[Tensor, "n 3 h w"], box: Float[Tensor, "n 4"], size: tuple[int, int]
) -> Float[Tensor, "n 3 a b"]:
    """Cut `box` (top, left, height, width as shares of each picture) and resize it to `size`, antialiased.

    Two batched products with interpolation matrices: exact triangle filters, any box, any device.
    """
    h, w = pictures.shape[-2:]
    rows = _triangle(box[:, 0] * h, box[:, 2] * h, h, size[0])  # (n, a, h)
    columns = _triangle(box[:, 1] * w, box[:, 3] * w, w, size[1])  # (n, b, w)
    return rows[:, None] @ pictures @ columns[:, None].transpose(-1, -2)


def cut_out(
    pictures: Float[Tensor, "n 3 h w"], corner: Float[Tensor, "n 2"], side: int, fill: Float[Tensor, "1 3 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Paste a square of colour `fill`, wholly inside, on each picture; `corner` in [0, 1) says where."""
    h, w = pictures.shape[-2:]
    if side > min(h, w):
        raise SaccadeError(f"Augment: cutout={side} is larger than the pictures, {h}x{w}.")
    top = (corner[:, 0] * (h - side + 1)).floor()[:, None]
    left = (corner[:, 1] * (w - side + 1)).floor()[:, None]
    y, x = torch.arange(h, device=corner.device), torch.arange(w, device=corner.device)
    inside = (((y >= top) & (y < top + side))[:, :, None] & ((x >= left) & (x < left + side))[:, None, :])[:, None]
    return torch.where(inside, fill, pictures)


def _reflect(length: int, pad: int) -> Tensor:
    """Indices that pad `length` by reflection without repeating the border."""
    i = torch.arange(-pad, length + pad).abs()
    return torch.where(i >= length, 2 * (length - 1) - i, i)


def _triangle(start: Tensor, extent: Tensor, length: int, out: int) -> Tensor:
    """Rows of interpolation weights (n, out, length) that resample [start, start + extent) to `out` samples."""
    step = (extent / out)[:, None, None]
    centre = start[:, None, None] + (torch.arange(out, device=start.device)[None, :, None] + 0.5) * step
    pixel = torch.arange(length, device=start.device)[None, None] + 0.5
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)
    return weight / weight.sum(-1, keepdim=True)
