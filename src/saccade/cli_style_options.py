"""What the commands of `saccade style` are given as text, and where their results go."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from saccade import console
from saccade.engine.files import explain_os_error
from saccade.errors import SaccadeError
from saccade.pictures import sample, sample_names
from saccade.pictures.io import format_of
from saccade.pictures.original import Original, read_original
from saccade.style.fast.apply import pairs
from saccade.style.masks import check_masks, read_masks, region_colours


def targets_of(content: str, output: Path | None) -> list[tuple[str, Path]]:
    """Each picture with the file that its result goes to."""
    if Path(content).expanduser().is_dir():
        return [(str(source), target) for source, target in pairs(content, output or Path("styled"))]
    output = (output or Path("style.png")).expanduser()
    if output.is_dir():
        return [(content, pairs(content, output)[0][1])]
    if output.resolve() == Path(content).expanduser().resolve():
        raise SaccadeError(f"Could not restyle {content}: the result would replace it; choose another file.")
    return [(content, output)]


def check_writable(target: Path) -> None:
    format_of(target)
    check_folder(target)


def check_folder(target: Path) -> None:
    """Say before the work, and not after it, that its result cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise explain_os_error(error, target) from error


def original_of(name: str) -> Original:
    """A picture file, or the sample photograph of that name."""
    if name in sample_names() and not Path(name).exists():
        return Original(sample(name), None, False, 8, None)
    return read_original(Path(name).expanduser())


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are text, as `style_transfer` takes them; masks aside."""
    read: dict[str, Callable[[str], Any]] = {
        "style_shares": lambda text: _numbers("--style-shares", text),
        "style_scale": _scale,
        "content_layers": _split,
        "style_layers": _split,
        "start": _start,
    }
    found = {name: read[name](value) for name, value in options.items() if name in read and value is not None}
    if options.get("size") == 0:
        found["size"] = None
    return {name: None for name in read if name in options} | found


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SaccadeError(f"{option} got {text!r}; numbers by comma are expected, as in 2,1.") from None


def _scale(text: str) -> float | list[float]:
    scales = _numbers("--style-scale", text)
    return scales if len(scales) > 1 else scales[0]


def _start(text: str) -> str | float | Tensor:
    if text in ("content", "noise"):
        return text
    try:
        return float(text)
    except ValueError:
        return original_of(text).colour[None]


def masks_of(masks: str | None, style_masks: str | None, styles: list[Tensor]) -> tuple[Tensor | None, Any]:
    """The masks (R, H, W) and, for each style, its own (1, h, w), as far as they are given.

    One picture for several styles is a drawing, whose colours are those of both drawings if there are two.
    """
    drawings = [text for text in (masks, style_masks) if text is not None and "," not in text and len(styles) > 1]
    colours = region_colours(*drawings) if drawings else None
    if colours is not None:
        shown = ", ".join("#" + "".join(f"{round(255 * v):02x}" for v in colour) for colour in colours.tolist())
        console.say(f"The regions, in the order of the styles: {shown}.")
    regions, own = None, None
    if masks is not None:
        regions = read_masks(masks, colours=colours) if masks in drawings else read_masks(_split(masks))
        _check_count("--masks", len(regions), len(styles))
    if style_masks is not None:
        if style_masks in drawings:
            own = list(read_masks(style_masks, colours=colours)[:, None])
        else:
            own = [read_masks([file]) for file in _split(style_masks)]
        _check_count("--style-masks", len(own), len(styles))
        own = [check_masks(mask, (s.shape[2], s.shape[3])).to(s) for mask, s in zip(own, styles, strict=True)]
    return regions, own


def _check_count(option: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise SaccadeError(
            f"{option} gives {given} regions for {wanted} styles, expected one for each; a style may be named twice."
        )
