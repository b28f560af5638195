"""Seeing where a captioner looked: the course's tiles, smooth overlays, an animation."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from saccade.caption.captioner import Caption
from saccade.engine.files import write_bytes
from saccade.errors import SaccadeError
from saccade.pictures import resize
from saccade.pictures.draw import from_image
from saccade.pictures.text import font

BAR = 25  # pixels of the black bar that carries the word, on a tile of 224


def attention_tiles(
    picture: Float[Tensor, "3 h w"], caption: Caption, *, side: int = 224, columns: int = 8, smooth: bool = False
) -> Float[Tensor, "3 a b"]:
    """One tile a word, `columns` in a row: the picture at half strength plus its attention at half strength (scaled to
    its own maximum), under a black bar with the word, as the course draws it. smooth: attention without its squares.

    The tiles have the picture's shape, `side` pixels wide. Raises `SaccadeError` without attention or words.
    """
    tiles = [_tile(picture, [word], look, side, smooth) for word, look in _looks(caption)]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    _, h, w = tiles[0].shape
    page = torch.ones(3, rows * h + (rows - 1) * 4, columns * w + (columns - 1) * 4)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (h + 4), place % columns * (w + 4)
        page[:, top : top + h, left : left + w] = tile
    return page


def save_animation(
    picture: Float[Tensor, "3 h w"], caption: Caption, path: str | Path, *, side: int = 320, seconds: float = 0.6
) -> None:
    """An animated GIF or WebP (by the ending of `path`): the attention moves word by word, as the sentence grows."""
    path = Path(path)
    kinds = {".gif": "GIF", ".webp": "WEBP"}
    if path.suffix.lower() not in kinds:
        raise SaccadeError(f"Writing {path}: an animation ends in .gif or .webp.")
    frames: list[Image.Image] = []
    looks = _looks(caption)
    lines = _wrap(caption.words, side)
    for said, (_, look) in enumerate(looks, 1):
        tile = _tile(picture, _so_far(lines, said), look, side, True)
        frames.append(Image.fromarray(tile.mul(255).round().byte().permute(1, 2, 0).numpy()))
    buffer = io.BytesIO()
    pauses = [round(1000 * seconds)] * (len(frames) - 1) + [2000]
    options = {"quality": 85} if path.suffix.lower() == ".webp" else {}
    frames[0].save(
        buffer, kinds[path.suffix.lower()], save_all=True, append_images=frames[1:], duration=pauses, loop=0, **options
    )
    write_bytes(path, buffer.getvalue())


def _looks(caption: Caption) -> Sequence[tuple[str, Tensor]]:
    if caption.attention is None or not caption.words:
        raise SaccadeError("Drawing attention: this caption has none; its decoder does not look, or it has no words.")
    return list(zip(caption.words, caption.attention, strict=True))


def _bar(side: int) -> tuple[int, int]:
    """Height of a line of the bar, and size of its letters."""
    height = max(round(BAR * side / 224), 12)
    return height, height * 16 // 25


def _wrap(words: Sequence[str], side: int) -> list[list[str]]:
    """The words in lines that fit the bar."""
    letters = font(_bar(side)[1])
    lines: list[list[str]] = [[]]
    for word in words:
        if lines[-1] and letters.getlength(" ".join([*lines[-1], word])) > side - 8:
            lines.append([])
        lines[-1].append(word)
    return lines


def _so_far(lines: Sequence[Sequence[str]], count: int) -> list[str]:
    """The lines with only the first `count` words; words keep their line as the sentence grows."""
    said = []
    for line in lines:
        said.append(" ".join(line[: max(count, 0)]))
        count -= len(line)
    return said


def _tile(picture: Tensor, lines: Sequence[str], look: Tensor, side: int, smooth: bool) -> Tensor:
    height = max(round(picture.shape[1] * side / picture.shape[2]), 1)
    small = resize(picture.cpu(), (height, side)).clamp(0, 1)
    share = look[None, None] / look.max().clamp_min(1e-12)
    light = resize(share[0].float().cpu(), (height, side), method="bicubic" if smooth else "nearest").clamp(0, 1)
    line, letters = _bar(side)
    bar = Image.new("RGB", (side, line * len(lines)))
    canvas = ImageDraw.Draw(bar)
    for place, words in enumerate(lines):
        size = letters
        while size > 6 and font(size).getlength(words) > side - 8:
            size -= 1
        canvas.text((side / 2, line * (place + 0.5)), words, fill="white", font=font(size), anchor="mm")
    return torch.cat([from_image(bar), small / 2 + light / 2], dim=1)
