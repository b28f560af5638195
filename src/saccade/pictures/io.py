"""Reading and writing picture files.

Reading turns whatever a file holds into one thing: float32 (3, H, W), sRGB, in [0, 1], upright. Writing is
atomic.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from saccade.engine.files import write_bytes
from saccade.errors import SaccadeError
from saccade.pictures.check import check_picture
from saccade.pictures.decode import READABLE, Source, decode

WRITABLE = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
MAX_PIXELS = 64 * 2**20  # 8192 x 8192, 768 MB as float32


@runtime_checkable
class Readable(Protocol):
    """An open binary file, or anything else whose read() gives its bytes."""

    def read(self) -> bytes: ...


def read(
    file: str | Path | Readable,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_pixels: int = MAX_PIXELS,
) -> Float[Tensor, "3 h w"]:
    """Read a picture as float32 (3, H, W) in [0, 1], sRGB, on the CPU.

    Reads JPEG, PNG, WebP, TIFF, BMP, AVIF and GIF (the first frame of an animation), of any of their colour
    types: bilevel, grey, palette, RGB, CMYK, 8 or 16 bits a channel (16-bit CMYK keeps its high 8).
    Transparency is composited on the sRGB colour `background`, EXIF rotation is applied, and an embedded
    colour profile of an 8-bit picture (a telephone's Display P3, a printer's CMYK) is converted to sRGB.

    Raises `SaccadeError` if the file is missing, no picture, truncated, damaged, or has more than
    `max_pixels` pixels: that is checked before decoding, so a small file cannot fill the memory.
    """
    if len(background) != 3 or not all(0 <= c <= 1 for c in background):
        raise SaccadeError(f"Could not read a picture: background is {background}, expected three numbers in [0, 1].")
    pixels = load(file, max_pixels=max_pixels)
    if pixels.shape[2] == 4:
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        pixels = colour * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def load(file: str | Path | Readable, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """The pixels of `read` as (h, w, 3), or as (h, w, 4) with alpha last and not multiplied in."""
    source: Source
    if isinstance(file, str | Path):
        name, source = str(file), _open(Path(file))
    else:
        name, source = str(getattr(file, "name", "the given file")), io.BytesIO(file.read())
    with source:
        try:
            return decode(source, name, max_pixels)
        except SaccadeError:
            raise
        except UnidentifiedImageError as error:
            raise SaccadeError(
                f"Could not read {name}: it is no picture in a known format, expected one of "
                f"{', '.join(READABLE)} with at most 16 bits a channel. Convert it with a picture editor."
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise SaccadeError(
                f"Could not read {name}: it has more pixels than Pillow agrees to decode, expected at most "
                f"{max_pixels:,}. If you trust the file, raise max_pixels= and PIL.Image.MAX_IMAGE_PIXELS."
            ) from error
        except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
            raise SaccadeError(
                f"Could not read {name}: the file is truncated or damaged ({error}), expected a whole "
                "picture. Copy or download it again."
            ) from error


def write(picture: Tensor, path: str | Path, *, bits: int = 8, quality: int = 95) -> None:
    """Write a picture (3, H, W) in [0, 1] atomically: an earlier file of that name stays whole until it is
    replaced.

    The suffix of `path` chooses the format: .png, .jpg, .jpeg, .webp, .tif or .tiff. `bits` (8 or 16) is the
    depth of PNG and TIFF, `quality` (1 to 100) that of JPEG and WebP; 100 makes WebP lossless. Missing
    folders are made.

    Raises `SaccadeError` for another suffix, shape or range, for values that are not finite, and for a full
    disk.
    """
    path = Path(path)
    write_bytes(path, encode(picture, format=format_of(path), bits=bits, quality=quality, name=str(path)))


def format_of(path: Path) -> str:
    """The format that a file's suffix names. Raises `SaccadeError` for one that cannot be written."""
    if path.suffix.lower() not in WRITABLE:
        raise SaccadeError(
            f"Could not write {path}: the suffix is {path.suffix!r}, expected one of {', '.join(WRITABLE)}. Rename it."
        )
    return WRITABLE[path.suffix.lower()]


def encode(picture: Tensor, *, format: str = "png", bits: int = 8, quality: int = 95, name: str = "a picture") -> bytes:
    """The bytes of the file that `write` would make, for a page or a network connection.

    `format` is "png", "jpeg", "webp" or "tiff"; `name` stands in the messages. Raises `SaccadeError` as
    `write` does.
    """
    operation = f"write {name}"
    pixels = check_picture(picture, operation).permute(1, 2, 0)
    return pack(pixels, format=format, bits=bits, quality=quality, operation=operation)


def pack(
    pixels: Float[Tensor, "h w c"],
    *,
    format: str,
    bits: int,
    quality: int,
    operation: str,
    profile: bytes | None = None,
) -> bytes:
    """The bytes of a file of checked pixels: grey, grey and alpha, RGB, or RGB and alpha, all on the CPU in [0, 1].

    `profile` is the ICC profile to embed. PNG and 8-bit TIFF hold all of these pixels, WebP no grey, JPEG no alpha,
    and a 16-bit TIFF of grey and alpha is one that Pillow cannot read.
    """
    if format not in WRITABLE.values():
        raise SaccadeError(f"Could not {operation}: format is {format!r}, expected png, jpeg, webp or tiff.")
    if bits not in (8, 16) or (bits == 16 and format not in ("png", "tiff")):
        raise SaccadeError(
            f"Could not {operation}: bits={bits} with {format}, expected 8, or 16 with png or tiff. Change one of them."
        )
    if not 1 <= quality <= 100:
        raise SaccadeError(f"Could not {operation}: quality is {quality}, expected 1 to 100.")
    if bits == 16:
        deep = (pixels.double() * 65535).round().numpy().astype(np.uint16)
        return _png16(deep, profile) if format == "png" else _tiff16(deep, profile)
    flat = (pixels * 255).round().to(torch.uint8).contiguous().numpy()
    image = Image.fromarray(flat[..., 0] if flat.shape[2] == 1 else flat)
    options = {"icc_profile": profile} if profile else {}
    file = io.BytesIO()
    try:
        if format == "png":
            image.save(file, "PNG", **options)
        elif format == "jpeg":  # full colour resolution: red on blue in a figure must stay sharp
            image.save(file, "JPEG", quality=quality, subsampling=0, optimize=True, **options)
        elif format == "webp":
            image.save(file, "WEBP", quality=quality, lossless=quality == 100, **options)
        else:
            image.save(file, "TIFF", compression="tiff_adobe_deflate", **options)
    except (OSError, ValueError) as error:
        raise SaccadeError(
            f"Could not {operation}: {format} cannot hold {image.width} x {image.height} pixels ({error}). Use png."
        ) from error
    return file.getvalue()


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise SaccadeError(f"Could not read {path}: there is no such file. Check the path.") from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SaccadeError(f"Could not read {path}: {why}. Expected a picture file that you may read.") from error


def _png16(pixels: NDArray[np.uint16], profile: bytes | None) -> bytes:
    """A 16-bit PNG of (h, w, c), which Pillow cannot write in colour (W3C PNG, third edition, sections 5, 9, 11)."""
    h, w, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2", order="C").reshape(h, -1).view(np.uint8)  # (h, 2 c w) bytes
    filtered = np.full((h, 1 + rows.shape[1]), 2, np.uint8)  # filter type 2, "Up": the difference to the row above
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0)),
        *([(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))] if profile else []),
        (b"IDAT", zlib.compress(filtered.tobytes(), 6)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _tiff16(pixels: NDArray[np.uint16], profile: bytes | None) -> bytes:
    import tifffile  # comes with scikit-image

    channels = pixels.shape[2]
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels[..., 0] if channels == 1 else pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        metadata=None,
        iccprofile=profile,
    )
    return file.getvalue()
