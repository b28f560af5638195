"""ICC colour profiles of pictures deeper than Pillow's colour management goes, which knows 8 bits a channel."""

import io
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from saccade.pictures.decode import to_srgb

# XYZ under D50, the white of profiles, of sRGB's red, green and blue (columns)
_SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)


def deep_to_srgb(pixels: NDArray[np.float32], profile: bytes) -> NDArray[np.float32]:
    """Pixels (h, w, 3) in [0, 1] of a profile's colour space as sRGB; what lies outside of sRGB is clipped.

    A profile of curves and a matrix (all common RGB working spaces and grey ones: Adobe RGB, ProPhoto, Display P3,
    "gamma 2.2") is applied in floating point, ICC.1:2010 annex F. One of tables, as of a scanner, is applied to the
    pixels' high 8 bits. One that is broken, or describes other channels, is passed over.
    """
    try:
        if "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))):
            return pixels
        return _encoded(_light(pixels, profile))
    except KeyError:  # a tag is missing
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
        image.info["icc_profile"] = profile
        return np.asarray(np.asarray(to_srgb(image)) / 255, dtype=np.float32)
    except (ImageCms.PyCMSError, OSError, struct.error, ValueError, IndexError, ZeroDivisionError):
        return pixels


@lru_cache
def srgb_profile() -> bytes:
    """The profile that labels pixels as sRGB, the same bytes each day."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + data[36:]  # LittleCMS notes the time here


def _light(pixels: NDArray[np.float32], profile: bytes) -> NDArray[np.float32]:
    """Intensities of sRGB's red, green and blue. Raises `KeyError` if the profile is not of curves and a matrix."""
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    if profile[20:24] != b"XYZ ":
        raise KeyError("a connection space other than XYZ")
    for place in range(132, 132 + 12 * count, 12):
        name, start, size = struct.unpack_from(">4sII", profile, place)
        tags[name] = profile[start : start + size]
    if profile[16:20] == b"GRAY":
        return _through(tags[b"kTRC"], pixels)
    curved = [_through(tags[colour + b"TRC"], pixels[..., i]) for i, colour in enumerate((b"r", b"g", b"b"))]
    columns = [struct.unpack_from(">3i", tags[colour + b"XYZ"], 8) for colour in (b"r", b"g", b"b")]
    matrix = np.linalg.inv(_SRGB) @ (np.array(columns).T / 65536)
    return np.asarray(np.stack(curved, axis=-1) @ matrix.T, dtype=np.float32)


def _through(tag: bytes, v: NDArray[np.float32]) -> NDArray[np.float32]:
    """A curve of a profile: "curv", a gamma or a table, or "para", a formula."""
    if tag[:4] == b"curv":
        (n,) = struct.unpack_from(">I", tag, 8)
        table = np.array(struct.unpack_from(f">{n}H", tag, 12))
        if n < 2:
            return np.asarray(v ** (table[0] / 256), dtype=np.float32) if n else v
        return np.interp(v, np.linspace(0, 1, n), table / 65535).astype(np.float32)
    (kind,) = struct.unpack_from(">H", tag, 8)
    values: list[float] = [i / 65536 for i in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = values + [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(values) :]
    if kind in (1, 2):  # the power law starts where its argument is zero, and both parts are raised by c
        c, d, e, f = 0.0, -b / a, c, c
    return np.where(v >= d, np.maximum(a * v + b, 0) ** g + e, c * v + f).astype(np.float32)


def _encoded(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The stored values of sRGB, IEC 61966-2-1."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
