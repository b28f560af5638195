"""Pictures, float tensors (3, H, W) in [0, 1], sRGB: reading, writing, resizing, colour and drawing."""

from saccade.pictures.colour import heat, overlay
from saccade.pictures.curves import Curve, curves
from saccade.pictures.draw import grid, sheet
from saccade.pictures.geometry import centre_crop, resize
from saccade.pictures.io import encode, read, write
from saccade.pictures.samples import sample, sample_names

__all__ = [
    "Curve",
    "centre_crop",
    "curves",
    "encode",
    "grid",
    "heat",
    "overlay",
    "read",
    "resize",
    "sample",
    "sample_names",
    "sheet",
    "write",
]
