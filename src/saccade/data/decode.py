"""From the bytes of a picture file to a uint8 array of one fixed size."""

import io
import struct
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from saccade.errors import SaccadeError

Fit = Literal["crop", "squash", "pad"]
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".jfif",
)


def is_picture(name: str) -> bool:
    """Whether a file name ends like that of a picture."""
    return name.lower().endswith(SUFFIXES)


def check_fit(fit: str, size: int) -> None:
    """Raise `SaccadeError` for an unknown way to fit or a size that no cache could have."""
    if fit not in get_args(Fit):
        raise SaccadeError(f"Fitting pictures: fit={fit!r} was given; it is one of {', '.join(get_args(Fit))}.")
    if not 1 <= size <= 4096:
        raise SaccadeError(f"Fitting pictures: size={size} was given; it is between 1 and 4096 pixels.")


def decode(content: bytes, *, size: int, fit: Fit = "crop") -> NDArray[np.uint8]:
    """Decode one picture file into an array (size, size, 3), sRGB.

    `fit` says how a picture of another shape becomes a square: "crop" scales the shorter side to `size` and
    cuts the middle, "squash" scales both sides, "pad" scales the longer side and fills with grey. Grey,
    palette, CMYK, 16-bit and rotated (EXIF) pictures become upright RGB; transparency is laid on white.

    Raises:
        ValueError: the content is no picture, or a broken one.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("RGB", (size, size))  # lets the JPEG decoder skip detail nobody will see
            picture = _rgb(ImageOps.exif_transpose(opened) if "exif" in opened.info else opened)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    if picture.size != (size, size):
        picture = fit_image(picture, size, fit)
    return np.asarray(picture)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        picture.load()
        return picture
    if picture.mode.startswith("I;16") or picture.mode == "I":  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def fit_image(picture: Image.Image, size: int, fit: Fit) -> Image.Image:
    """Make a picture a square of `size` pixels; see `decode`."""
    resample = Image.Resampling.BICUBIC  # in Pillow it is antialiased when it shrinks
    if fit == "crop":
        return ImageOps.fit(picture, (size, size), resample)
    if fit == "pad":
        return ImageOps.pad(picture, (size, size), resample, color=(127, 127, 127))
    return picture.resize((size, size), resample)
