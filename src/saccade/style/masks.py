"""Regions of pictures that get styles of their own: reading them, checking them, bringing them to a layer.

Spatial guidance of style transfer, Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer"
(1611.07865), section 4. Masks are floats (R, H, W) in [0, 1], one for each of R regions; region r of the content is
painted like region r of the style.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from saccade.errors import SaccadeError
from saccade.pictures import read, resize
from saccade.pictures.check import TOLERANCE, check_picture
from saccade.pictures.colour import luminance

Picture = str | Path | Tensor

APART = 0.15  # nearer than that in RGB, 38 of 255 levels, two colours of a drawing are one: what JPEG does stays below
SMALLEST = 1e-3  # the share of a drawing that a colour must fill without an edge to be a region


def read_masks(pictures: Picture | Sequence[Picture], *, colours: Tensor | None = None) -> Float[Tensor, "r h w"]:
    """Masks from files or pictures (3, H, W) in [0, 1]: grey ones, one a region, or a drawing in colours.

    A sequence of R grey pictures gives R soft masks: white is inside. One picture gives as many as it has `colours`
    (by default `region_colours` of it): each pixel belongs to the nearest of them, so that the mixed colours of smooth
    edges and of JPEG make no regions. A single grey mask is given as `[picture]`. Transparent is black.

    The regions of two drawings belong together by colour:
    `colours = region_colours(content, style)`, then `read_masks(content, colours=colours)` and the same for the style.

    Args:
        colours: (R, 3) in [0, 1], only with one picture.

    Raises:
        SaccadeError: no pictures, sizes that differ, colours given for grey pictures, or what `read` and
            `region_colours` raise.
    """
    if not isinstance(pictures, str | Path | Tensor):
        return _grey_masks(pictures, colours)
    picture = _picture(pictures)
    if colours is None:
        colours = region_colours(picture)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) == 0:
        raise SaccadeError(f"Could not read masks: colours have shape {tuple(colours.shape)}, expected (r, 3).")
    distances = torch.stack([(picture - colour[:, None, None]).square().sum(0) for colour in colours.to(picture)])
    return torch.zeros_like(distances).scatter_(0, distances.argmin(0, keepdim=True), 1.0)


def region_colours(first: Picture, *others: Picture) -> Float[Tensor, "r 3"]:
    """The colours of the regions of drawings, (R, 3) in [0, 1]; the one that fills most of a drawing comes first.

    A colour counts where it is flat, its 3 x 3 neighbourhood being of one colour, so that smooth edges do not count.
    Colours nearer than 38 of 255 levels are one, in one drawing and in several; colours that fill less than a
    thousandth of every drawing are none.

    Raises `SaccadeError` if a file is no picture or nothing is flat.
    """
    found, shares, owners = [], [], []
    for index, drawing in enumerate((first, *others)):
        picture = _picture(drawing)[None]
        spread = max_pool2d(picture, 3, 1, 1) + max_pool2d(-picture, 3, 1, 1)
        levels = (picture[0] * 255).round().int()
        flat = levels[:, spread[0].amax(0) <= APART / 2].T.numpy()
        colours, counts = np.unique(flat, axis=0, return_counts=True)
        found.append(colours / 255)
        shares.append(counts / levels[0].numel())
        owners.append(np.full(len(colours), index))
    colour, share, owner = np.concatenate(found), np.concatenate(shares), np.concatenate(owners)
    main: list[tuple[float, NDArray[np.float64]]] = []  # colours, and the most that they fill of a drawing
    while len(colour):
        peak = colour[share.argmax()]
        near = np.square(colour - peak).sum(1) <= APART**2
        fills = float(np.bincount(owner[near], share[near]).max())
        if fills >= SMALLEST:
            main.append((fills, peak))
        colour, share, owner = colour[~near], share[~near], owner[~near]
    if not main:
        raise SaccadeError(
            f"Could not find the regions of {1 + len(others)} drawing(s): no colour is flat, expected one a region. "
            "Fill the regions, or give a sequence of grey masks, one a region."
        )
    main.sort(key=lambda entry: -entry[0])
    return torch.from_numpy(np.stack([colour for _, colour in main])).float()


def check_masks(masks: Tensor, size: tuple[int, int]) -> Float[Tensor, "r h w"]:
    """Masks (R, h, w) as floats of a picture's `size` (height, width), fit for use, or `SaccadeError`.

    Masks of another size but the same aspect are resized. Where masks add up to more than 1 they share the place: they
    are divided by their sum. Where they add up to less, the rest belongs to no region.

    Raises `SaccadeError` for other shapes and ranges, another aspect, and a region that is empty.
    """
    operation = "use masks"
    if masks.ndim != 3 or masks.numel() == 0:
        raise SaccadeError(f"Could not {operation}: their shape is {tuple(masks.shape)}, expected (regions, h, w).")
    masks = masks if masks.is_floating_point() else masks.float()
    if not bool(((masks >= -TOLERANCE) & (masks <= 1 + TOLERANCE)).all()):  # a NaN fails both
        low, high = (float(v) for v in masks.aminmax())
        raise SaccadeError(
            f"Could not {operation}: their values run from {low:.4g} to {high:.4g}, expected [0, 1]. "
            "Divide 8-bit values by 255."
        )
    h, w = masks.shape[1:]
    if abs(w * size[0] / h - size[1]) > 1 and abs(h * size[1] / w - size[0]) > 1:
        raise SaccadeError(
            f"Could not {operation}: they are {h} x {w} and the picture is {size[0]} x {size[1]} (height x width), "
            "expected the same size or the same aspect. Crop them as the picture was cropped."
        )
    masks = resize(masks.clamp(0, 1), size, method="bilinear")
    empty = (masks.amax((1, 2)) == 0).nonzero().flatten().tolist()
    if empty:
        raise SaccadeError(
            f"Could not {operation}: region {', '.join(map(str, empty))} of {len(masks)} (counted from 0) is empty, "
            "expected some place for each. Draw it in this picture too, or leave it out of all."
        )
    return masks / masks.sum(0).clamp(min=1)


def masks_for_layer(masks: Tensor, size: tuple[int, int], *, erode: int = 0) -> Float[Tensor, "r h w"]:
    """Masks (R, H, W) of a picture at the `size` (h, w) of a layer's map, averaged over the area of each place.

    `erode`, in pixels of the picture, is half of the layer's receptive field: a place then counts only if all that it
    sees lies in its region, or outside of the picture. For that the masks are eroded (each pixel takes the least value
    within a square) by `erode` and half a place. A region too narrow for it, which would fall below half of its largest
    value, is eroded by half as much, and so on; so every region keeps some place.

    Keeps dtype and device. Raises `SaccadeError` for other shapes and a negative `erode`.
    """
    if masks.ndim != 3 or masks.numel() == 0 or min(size) < 1 or erode < 0:
        raise SaccadeError(
            f"Could not bring masks to a layer: given shape {tuple(masks.shape)}, size {size} and erode {erode}, "
            "expected (regions, h, w), a size of at least 1 x 1 and at least 0."
        )
    plain = adaptive_avg_pool2d(masks, size)
    enough = plain.amax((1, 2), keepdim=True) / 2
    half = -(-max(masks.shape[1] / size[0], masks.shape[2] / size[1]) // 2)  # of a place, rounded up
    radius = erode + int(half) if erode else 0
    out, narrow = plain, torch.ones_like(enough, dtype=torch.bool)
    while radius and bool(narrow.any()):
        fitted = adaptive_avg_pool2d(_eroded(masks, radius), size)
        fits = fitted.amax((1, 2), keepdim=True) >= enough
        out = torch.where(narrow & fits, fitted, out)
        narrow = narrow & ~fits
        radius //= 2
    return out


def _eroded(masks: Tensor, radius: int) -> Tensor:
    """The least value within a square of side 2 radius + 1, which is the least of columns of the least of rows."""
    side = 2 * radius + 1
    return -max_pool2d(max_pool2d(-masks, (1, side), 1, (0, radius)), (side, 1), 1, (radius, 0))


def _grey_masks(pictures: Sequence[Picture], colours: Tensor | None) -> Tensor:
    if colours is not None:
        raise SaccadeError(
            f"Could not read masks: {len(pictures)} grey masks and colours, expected one or the other. A drawing in "
            "colours is given by itself, not in a sequence."
        )
    masks = [luminance(_picture(picture)).clamp(0, 1) for picture in pictures]
    sizes = {tuple(mask.shape[1:]) for mask in masks}
    if len(sizes) != 1:
        raise SaccadeError(
            f"Could not read masks: {len(masks)} masks of sizes {sorted(sizes)} (height, width), expected at least "
            "one, all of one size. Resize them to the picture's."
        )
    return torch.cat(masks)


def _picture(picture: Picture) -> Tensor:
    if isinstance(picture, Tensor):
        return check_picture(picture, "read masks")
    return read(picture, background=(0.0, 0.0, 0.0))
