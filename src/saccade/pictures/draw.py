"""Pictures laid out on a page: a plain grid, and a sheet with titles, row labels and captions.

Drawn pixel by pixel with Pillow rather than as a plot, so that every picture lands on whole device pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures.check import check_picture, check_size
from saccade.pictures.geometry import resize
from saccade.pictures.text import GREY, Block, block

# Lengths in points: one CSS pixel on a page, `density` device pixels in the drawing.
MARGIN, COLUMN_GAP, ROW_GAP, CAPTION_GAP, LABEL_GAP = 16, 10, 14, 5, 14
TEXT, TITLE, LABEL_WIDTH = 10, 14, 110
PIXELATE = 3  # pictures enlarged this many times or more show their pixels


def grid(
    pictures: Tensor | Sequence[Tensor], *, columns: int | None = None, gap: int = 2, background: float = 1.0
) -> Float[Tensor, "3 h w"]:
    """Set pictures (N, 3, H, W), or a sequence of (3, H, W) of one size, side by side, pixel for pixel.

    `columns` defaults to the squarest arrangement that is not taller than wide; `gap` is in pixels and, like
    the empty cells at the end, filled with the grey `background` in [0, 1].

    Raises `SaccadeError` for no pictures, and for pictures of several sizes (use `sheet` for these).
    """
    cells = [check_picture(p, "draw a grid") for p in pictures]
    if not cells:
        raise SaccadeError("Could not draw a grid: there are no pictures, expected at least one.")
    if len({c.shape for c in cells}) > 1:
        sizes = ", ".join(sorted({f"{c.shape[1]} x {c.shape[2]}" for c in cells}))
        raise SaccadeError(f"Could not draw a grid: sizes {sizes}, expected one. Resize them, or draw a sheet.")
    columns = check_size(columns or int((len(cells) - 1) ** 0.5) + 1, "columns", "draw a grid")
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    _, h, w = cells[0].shape
    page = torch.full((3, rows * (h + gap) - gap, columns * (w + gap) - gap), float(background))
    for i, cell in enumerate(cells):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        page[:, top : top + h, left : left + w] = cell
    return page


def sheet(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    title: str = "",
    note: str = "",
    cell: int = 150,
    density: int = 2,
    smooth: bool = False,
) -> Float[Tensor, "3 h w"]:
    """Draw rows of pictures (3, H, W) of any sizes, with a title, labels, captions and a closing note.

    Each picture is scaled to fit a square of `cell` points (CSS pixels); `density` device pixels a point keep
    it sharp on a high-density page, so show the result at 1 / density of its size. `None` leaves a place
    empty, rows may be of different lengths. Pictures enlarged three times or more show their pixels, unless
    `smooth`.

    `captions` has the lengths of `rows`; `row_labels` stand on the left, `column_titles` on top. All text
    wraps; after its first line break it becomes secondary (grey), so "tabby cat 93 %\\nlynx 4 %" reads as
    answer and runner-up.

    Raises `SaccadeError` for no pictures, and for labels or captions that do not match the rows.
    """
    scale = check_size(density, "density", "draw a sheet")
    side = check_size(cell, "cell", "draw a sheet") * scale
    columns = _check(rows, captions, row_labels, column_titles)
    margin, column_gap, row_gap = MARGIN * scale, COLUMN_GAP * scale, ROW_GAP * scale

    # First every piece in its size, then its place.
    cells = [
        [
            _Cell(
                tile=None if picture is None else _fit(picture, side, smooth=smooth),
                words=block(captions[i][j] if captions else "", width=side, size=TEXT * scale),
                gap=CAPTION_GAP * scale,
            )
            for j, picture in enumerate(row)
        ]
        for i, row in enumerate(rows)
    ]
    labels = [block(s, width=LABEL_WIDTH * scale, size=TEXT * scale, bold=True) for s in row_labels or ()]
    tops = [block(s, width=side, size=TEXT * scale, bold=True) for s in column_titles or ()]
    left = margin + (max(b.width for b in labels) + LABEL_GAP * scale if any(b.lines for b in labels) else 0)
    width = left + columns * (side + column_gap) - column_gap + margin
    head = block(title, width=width - 2 * margin, size=TITLE * scale, bold=True)
    foot = block(note, width=width - 2 * margin, size=(TEXT - 1) * scale, colour=GREY)
    if not any(c.words.lines for row in cells for c in row):
        row_gap = column_gap

    tops_height = max((b.height for b in tops), default=0)
    y = margin + _above(head, ROW_GAP * scale) + tops_height + (CAPTION_GAP * scale if tops_height else 0)
    heights = [max((c.height for c in row), default=0) for row in cells]
    height = y + sum(heights) + row_gap * (len(rows) - 1) + _above(foot, ROW_GAP * scale) + margin
    page = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(page)
    head.draw(canvas, margin, margin)
    foot.draw(canvas, margin, height - margin - foot.height)
    for j, b in enumerate(tops):  # these stand on the pictures, however many lines they have
        b.draw(canvas, left + j * (side + column_gap), y - CAPTION_GAP * scale - b.height)
    for i, row in enumerate(cells):
        if labels:
            tallest = max((c.tile.height for c in row if c.tile), default=0)
            labels[i].draw(canvas, margin, y + max(0, tallest - labels[i].height) // 2)
        for j, c in enumerate(row):
            c.draw(page, canvas, left + j * (side + column_gap), y)
        y += heights[i] + row_gap
    return from_image(page)


def from_image(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """A Pillow picture in RGB as a tensor (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255).contiguous()


@dataclass(frozen=True)
class _Cell:
    """A picture with its caption below; lengths in device pixels."""

    tile: Image.Image | None
    words: Block
    gap: int

    @property
    def height(self) -> int:
        return (self.tile.height if self.tile else 0) + (self.gap + self.words.height if self.words.lines else 0)

    def draw(self, page: Image.Image, canvas: ImageDraw.ImageDraw, x: int, y: int) -> None:
        if self.tile:
            page.paste(self.tile, (x, y))
        self.words.draw(canvas, x, y + (self.tile.height if self.tile else 0) + self.gap)


def _above(text: Block, gap: int) -> int:
    """The height of a block and the gap to what follows or precedes it; nothing if it is empty."""
    return text.height + gap if text.lines else 0


def _fit(picture: Tensor, side: int, *, smooth: bool) -> Image.Image:
    """The picture scaled to fit a square of `side` device pixels."""
    picture = check_picture(picture, "draw a sheet")
    _, h, w = picture.shape
    factor = side / max(h, w)
    method = "nearest" if factor >= PIXELATE and not smooth else "bicubic"
    picture = resize(picture, (max(1, round(h * factor)), max(1, round(w * factor))), method=method)
    return Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def _check(
    rows: Sequence[Sequence[Tensor | None]],
    captions: Sequence[Sequence[str]] | None,
    row_labels: Sequence[str] | None,
    column_titles: Sequence[str] | None,
) -> int:
    """The number of columns; raises `SaccadeError` for no pictures, or texts that do not belong to them."""
    lengths = [len(row) for row in rows]
    columns = max(lengths, default=0)
    if columns == 0:
        raise SaccadeError("Could not draw a sheet: there are no pictures, expected at least one row of them.")
    if captions is not None and [len(row) for row in captions] != lengths:
        given = [len(row) for row in captions]
        raise SaccadeError(
            f"Could not draw a sheet: captions in rows of {given} for pictures in rows of {lengths}. "
            'Give one caption a picture; "" leaves one out.'
        )
    for name, texts, expected in (
        ("row_labels", row_labels, len(rows)),
        ("column_titles", column_titles, columns),
    ):
        if texts is not None and len(texts) != expected:
            raise SaccadeError(f"Could not draw a sheet: {len(texts)} {name}, expected {expected}.")
    return columns
