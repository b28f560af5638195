"""From a picture file to its pixels: every colour type Pillow knows, and the 16 bits it drops."""

import io
import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from saccade.errors import SaccadeError

Source = io.BytesIO | io.BufferedReader

# A list, because Pillow would also open formats that run other programs (EPS starts Ghostscript).
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF")

# Pillow keeps the high byte of 16-bit colour. Decoded again with the other byte order, the high byte is our
# low one.
_OTHER = {"little": "B", "big": "L"}[sys.byteorder]
_LOW_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _OTHER))
} | {"LA;16B": "RGBA"}  # grey + alpha has no little-endian decoder, but its four bytes are just four channels


def decode(source: Source, name: str, max_pixels: int) -> NDArray[np.float32]:
    """Upright pixels (h, w, 3) in [0, 1], or (h, w, 4) with alpha last and not multiplied in."""
    image: Image.Image = Image.open(source, formats=READABLE)
    if image.width * image.height > max_pixels:
        raise SaccadeError(
            f"Could not read {name}: it has {image.width} x {image.height} pixels, expected at most "
            f"{max_pixels:,} (a limit against files made to fill the memory). If you trust it, raise "
            "max_pixels=."
        )
    tags = dict(getattr(image, "tag_v2", {}))  # TIFF only
    if tags.get(284) == 2 and 16 in tags.get(258, ()):
        raise SaccadeError(
            f"Could not read {name}: a 16-bit TIFF with separate colour planes, which Pillow misreads; "
            "expected interleaved colours. Save it again in another layout, or as PNG."
        )
    rawmode = _rawmode(image)
    image.load()
    if image.mode.startswith("I;16"):
        grey = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)[..., None]
        grey = 65535 - grey if tags.get(262) == 0 else grey  # white is zero: Pillow inverts 8 bits only
        return _with_key(np.repeat(grey, 3, axis=2), image.info.get("transparency"))
    if rawmode in _LOW_BYTE:
        return _with_key(_deep_colour(source, image, rawmode), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        return _open_range(image, name)
    image = ImageOps.exif_transpose(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("RGB")  # drops alpha, keeps colours
    rgb = np.asarray(to_srgb(image))
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    return np.asarray(pixels / np.float32(255), dtype=np.float32)


def stored(image: Image.Image) -> tuple[bool, int]:
    """Of a file just opened: whether it stores grey (not merely equal colours), and how many bits of a channel, 8 or
    16, `decode` gives."""
    mode, rawmode = image.mode.split(";")[0], _rawmode(image)
    grey = mode in ("1", "L", "LA", "I", "F") or rawmode == "LA;16B"  # which Pillow opens as RGBA
    return grey, 16 if rawmode in _LOW_BYTE or mode in ("I", "F") else 8


def _rawmode(image: Image.Image) -> str:
    """Pillow's name for how the bytes lie, such as "RGB;16B"; it is known until the pixels are loaded."""
    tiles = getattr(image, "tile", [])
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _deep_colour(source: Source, high: Image.Image, rawmode: str) -> NDArray[np.uint16]:
    """All 16 bits of a colour picture (h, w, 3 or 4). `high` has the high bytes; the low are decoded here."""
    source.seek(0)
    low = Image.open(source, formats=READABLE)
    other = _LOW_BYTE[rawmode]
    low.tile = [
        tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in low.tile
    ]
    low.load()
    high_bytes, low_bytes = (np.asarray(ImageOps.exif_transpose(i), dtype=np.uint16) for i in (high, low))
    if rawmode == "LA;16B":  # `low` holds grey high, grey low, alpha high, alpha low
        high_bytes, low_bytes = low_bytes[..., [0, 0, 0, 2]], low_bytes[..., [1, 1, 1, 3]]
    return np.asarray(high_bytes * 256 + low_bytes, dtype=np.uint16)


def _with_key(deep: NDArray[np.uint16], key: object) -> NDArray[np.float32]:
    """16-bit pixels as floats; PNG may declare one colour `key` (grey or RGB) transparent."""
    pixels: NDArray[np.float32] = deep.astype(np.float32) / np.float32(65535)
    if key is None or deep.shape[2] == 4:
        return pixels
    opaque = (deep != np.asarray(key)).any(axis=2)
    return np.dstack([pixels, opaque]).astype(np.float32)


def _open_range(image: Image.Image, name: str) -> NDArray[np.float32]:
    """Grey of a TIFF of floats, taken if all lie in [0, 1], or of 32-bit integers, which state no range."""
    grey = np.asarray(ImageOps.exif_transpose(image)).astype(np.float32)[..., None]
    if image.mode == "I" or not bool(((grey >= 0) & (grey <= 1)).all()):  # a NaN fails both
        raise SaccadeError(
            f"Could not read {name}: grey values from {grey.min():.4g} to {grey.max():.4g} of a format that "
            "states no range, expected 8 or 16 unsigned bits, or floats in [0, 1]. Rescale it."
        )
    return np.repeat(grey, 3, axis=2)


def to_srgb(image: Image.Image) -> Image.Image:
    """8-bit RGB in sRGB. A profile that is broken, or made for other channels, is passed over."""
    data = image.info.get("icc_profile")
    if data:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
            if "sRGB" not in ImageCms.getProfileDescription(profile):
                mapped = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
                return mapped or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")
