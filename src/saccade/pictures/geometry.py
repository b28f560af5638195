"""Resizing and cropping, without aliasing."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from saccade.errors import SaccadeError
from saccade.pictures.check import check_size


def resize(pictures: Tensor, size: int | tuple[int, int], *, method: str = "bicubic") -> Float[Tensor, "*batch h w"]:
    """Resize pictures or maps (C, H, W) or (N, C, H, W) to `size`, (height, width) or the shorter side.

    "bicubic" and "bilinear" smooth before they shrink, so nothing aliases (the same filters as Pillow's);
    "bilinear" is what published ImageNet weights were evaluated with. "nearest" copies pixels, so that small
    pictures can be looked at enlarged. Bicubic overshoots are clamped to the range of the picture itself.
    Differentiable; keeps dtype and device.

    Raises `SaccadeError` for other shapes, integers as pixels, and sizes below 1.
    """
    batch = _batch(pictures, "resize")
    h, w = _shorter_side(batch.shape[-2], batch.shape[-1], size) if isinstance(size, int) else size
    check_size(h, "the height", "resize pictures")
    check_size(w, "the width", "resize pictures")
    if method not in ("bicubic", "bilinear", "nearest"):
        raise SaccadeError(f"Could not resize pictures: method is {method!r}, expected bicubic, bilinear or nearest.")
    if (h, w) == tuple(batch.shape[-2:]):
        return pictures
    exact = batch if batch.dtype == torch.float64 else batch.float()  # half precision has no antialiasing on the CPU
    if method == "nearest":
        out = interpolate(exact, size=(h, w), mode="nearest-exact")
    else:
        narrow = exact
        if w == 1:  # PyTorch 2.13 goes wrong on the way to a single column; two equal ones are right
            rows = exact.shape[-2]
            narrow = interpolate(exact, size=(rows, 1), mode=method, antialias=True, align_corners=False)
            narrow = narrow.repeat(1, 1, 1, 2)
        out = interpolate(narrow, size=(h, max(w, 2)), mode=method, antialias=True, align_corners=False)[..., :w]
    if method == "bicubic":  # each picture by its own range: who else is in the batch must not matter
        out = out.clamp(exact.amin((1, 2, 3), keepdim=True), exact.amax((1, 2, 3), keepdim=True))
    return out.to(pictures.dtype).reshape(*pictures.shape[:-2], h, w)


def centre_crop(pictures: Tensor, size: int | tuple[int, int]) -> Float[Tensor, "*batch h w"]:
    """The middle of pictures (C, H, W) or (N, C, H, W): a square of side `size`, or (height, width).

    An odd remainder leaves the extra row below and the extra column on the right. Raises `SaccadeError` if
    the pictures are smaller than that.
    """
    batch = _batch(pictures, "crop")
    h, w = (size, size) if isinstance(size, int) else size
    check_size(h, "the height", "crop pictures")
    check_size(w, "the width", "crop pictures")
    height, width = batch.shape[-2:]
    if h > height or w > width:
        raise SaccadeError(
            f"Could not crop pictures: {h} x {w} asked of {height} x {width} (height x width). "
            f"Resize them first, for example resize(pictures, {max(h, w)})."
        )
    top, left = (height - h) // 2, (width - w) // 2
    return pictures[..., top : top + h, left : left + w]


def _shorter_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) scaled so that the shorter one is `size`, the longer rounded to the nearest."""
    check_size(size, "the shorter side", "resize pictures")
    scale = size / min(height, width)
    return max(size, round(height * scale)), max(size, round(width * scale))


def _batch(pictures: Tensor, operation: str) -> Tensor:
    if pictures.ndim not in (3, 4) or not pictures.is_floating_point() or pictures.numel() == 0:
        raise SaccadeError(
            f"Could not {operation} pictures: given {pictures.dtype} of shape {tuple(pictures.shape)}, "
            "expected floats (channels, height, width) or (n, channels, height, width)."
        )
    return pictures if pictures.ndim == 4 else pictures[None]
