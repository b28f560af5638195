"""What a picture file is besides its colours, kept so that a picture made from it can be written as the same kind."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from saccade.engine.files import write_bytes
from saccade.pictures.check import check_picture
from saccade.pictures.colour import luminance
from saccade.pictures.decode import READABLE, stored
from saccade.pictures.geometry import resize
from saccade.pictures.io import MAX_PIXELS, format_of, load, pack
from saccade.pictures.profile import deep_to_srgb, srgb_profile


@dataclass(frozen=True)
class Original:
    """A picture file, read.

    colour: (3, H, W) float32 in [0, 1], sRGB, upright, on the CPU. Where alpha is 0 the file's colours mean nothing:
        there it holds the colours of the visible surroundings, smoothly continued (white if nothing is visible).
    alpha: (1, H, W) float32 in [0, 1], not multiplied in; None if the file has no transparency.
    grey: the file stores grey, not merely equal colours.
    bits: of a channel, 8 or 16.
    profile: the ICC profile embedded in the file; `colour` is already converted from it.
    """

    colour: Float[Tensor, "3 h w"]
    alpha: Float[Tensor, "1 h w"] | None
    grey: bool
    bits: int
    profile: bytes | None


def read_original(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Original:
    """Read a picture together with what else its file holds.

    Unlike `saccade.pictures.read` it keeps transparency apart instead of compositing it on a background: a background
    would take part in a style, and would stay as a fringe around what is cut out. It also converts the colour profile
    of 16-bit pictures. Raises `SaccadeError` as `read` does.
    """
    pixels = load(path, max_pixels=max_pixels)
    with Image.open(path, formats=READABLE) as image:
        grey, bits = stored(image)
        profile = image.info.get("icc_profile") or None
    if profile and bits == 16:  # that of 8 bits is converted while decoding
        pixels = np.dstack([deep_to_srgb(pixels[..., :3], profile), pixels[..., 3:]])
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    colour, alpha = planes[:3], planes[3:] if len(planes) == 4 else None
    if alpha is not None:
        colour = _continued(colour, alpha)
    return Original(colour, alpha, grey, bits, profile)


def write_like(
    picture: Tensor, path: str | Path, original: Original, *, keep_grey: bool = True, quality: int = 95
) -> None:
    """Write a picture (3, H, W) in [0, 1], sRGB, of any size, as the kind of file that `original` was.

    - Alpha is resized to the picture's size. JPEG has none: the picture is composited on white.
    - A grey original gives a grey file of the picture's luma; with `keep_grey` false, the picture's colours.
    - A 16-bit original gives 16 bits in PNG and TIFF.
    - Colours are written in sRGB, and labelled so by a profile if the original had a profile. They are not converted
      back to the original's: a picture of sRGB values lies within sRGB, so that a wider space would add nothing but
      rounding, and a printer's has channels that these formats lack. Grey, and originals without a profile, stay
      unlabelled, which viewers take for sRGB.

    The suffix chooses the format, and `quality` is that of JPEG and WebP, as for `saccade.pictures.write`; writing is
    atomic. Raises `SaccadeError` as `write` does.
    """
    path = Path(path)
    operation = f"write {path}"
    format = format_of(path)
    pixels = check_picture(picture, operation)
    bits = original.bits if format in ("png", "tiff") else 8
    profile = srgb_profile() if original.profile and not (original.grey and keep_grey) else None
    if original.grey and keep_grey:
        pixels = luminance(pixels)
    if original.alpha is not None:
        alpha = resize(original.alpha, (pixels.shape[1], pixels.shape[2]), method="bilinear").clamp(0, 1)
        pixels = pixels * alpha + 1 - alpha if format == "jpeg" else torch.cat([pixels, alpha])
    if len(pixels) < 3 and (format == "webp" or (format == "tiff" and bits == 16 and len(pixels) == 2)):
        pixels = torch.cat([pixels[:1].expand(3, -1, -1), pixels[1:]])  # what `pack` says they lack
    data = pack(
        pixels.permute(1, 2, 0), format=format, bits=bits, quality=quality, operation=operation, profile=profile
    )
    write_bytes(path, data)


def _continued(colour: Float[Tensor, "3 h w"], alpha: Float[Tensor, "1 h w"]) -> Float[Tensor, "3 h w"]:
    """`colour` where alpha is above 0; elsewhere the nearest scale of an image pyramid that has any colour there.

    This is the pull-push interpolation of Gortler et al., The Lumigraph (1996).
    """
    h, w = alpha.shape[1:]
    hidden = alpha == 0
    if not hidden.any():
        return colour
    if h == w == 1:
        return torch.ones_like(colour)
    half = ((h + 1) // 2, (w + 1) // 2)
    weight = adaptive_avg_pool2d(alpha, half)
    mean = adaptive_avg_pool2d(colour * alpha, half) / torch.where(weight > 0, weight, 1.0)
    return torch.where(hidden, resize(_continued(mean, weight), (h, w), method="bilinear"), colour)
