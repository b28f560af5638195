"""Typography of the drawn figures: DejaVu Sans (shipped by matplotlib) in three weights of importance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

INK = "#1b1b1f"
GREY = "#6a6a72"
LEADING = 1.36  # line height over font size


@dataclass(frozen=True)
class Block:
    """Wrapped text, ready to draw: lines of (words, font, colour), all of one size; lengths in pixels."""

    lines: tuple[tuple[str, ImageFont.FreeTypeFont, str], ...]
    size: int

    @property
    def height(self) -> int:
        return round(len(self.lines) * self.size * LEADING)

    @property
    def width(self) -> int:
        return max((round(font.getlength(words)) for words, font, _ in self.lines), default=0)

    def draw(self, canvas: ImageDraw.ImageDraw, x: int, y: int) -> None:
        """Draw with the top left corner at (x, y)."""
        for i, (words, font, colour) in enumerate(self.lines):
            baseline = y + i * self.size * LEADING + self.size * 1.02
            canvas.text((x, round(baseline)), words, fill=colour, font=font, anchor="ls")


def block(words: str, *, width: int, size: int, bold: bool = False, colour: str = INK) -> Block:
    """Wrap `words` to `width` pixels. What follows the first line break is secondary: regular and grey."""
    if not words.strip():
        return Block((), size)
    lines: list[tuple[str, ImageFont.FreeTypeFont, str]] = []
    for i, paragraph in enumerate(words.split("\n")):
        face = font(size, bold and i == 0)
        lines += [(line, face, colour if i == 0 else GREY) for line in _wrap(paragraph, face, width)]
    return Block(tuple(lines), size)


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at `size` pixels an em."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    # The basic layout engine: which others Pillow has differs between machines, and so would the figures.
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def _wrap(paragraph: str, face: ImageFont.FreeTypeFont, width: int) -> Sequence[str]:
    """Break at spaces, and inside a word only if it alone is wider than `width`."""
    lines = [""]
    for word in paragraph.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and face.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
