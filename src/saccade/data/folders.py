"""Any folder, zip or tar of class folders: `train/<class>/1.jpg`, `test/<class>/2.png`, or `<class>/3.webp`
alone."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from saccade.data.archives import Progress, names
from saccade.data.cache import Labelling, Writer, fill_from
from saccade.data.decode import is_picture
from saccade.errors import SaccadeError

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
Place = Callable[[str], tuple[str, str] | None]


def fill(source: Path, writer: Writer, *, progress: Progress | None = None) -> Labelling:
    """Read a folder or archive of class folders, below `train`, `val` and `test` folders or without them.

    The classes are the names of the folders, sorted. Parts: with train and test folders as they stand; with
    train and val only, as ImageNet comes, val is the test set (a validation set is then split from train);
    without either, everything is one part "all".

    Raises:
        SaccadeError: there is no picture, or pictures lie beside class folders.
    """
    found = names(source, wanted=is_picture)
    if not found:
        raise SaccadeError(f"Reading {source}: there are no pictures in it (jpg, png, webp, avif, bmp, gif, tiff).")
    place, classes = layout(source, found)
    fill_from(source, lambda name: place(name) if is_picture(name) else None, writer, progress=progress)
    return Labelling(classes, {name: number for number, name in enumerate(classes)})


def layout(source: Path, found: Sequence[str]) -> tuple[Place, list[str]]:
    """How to sort the pictures named in `found` into (part, class), and the sorted classes."""
    paths = [PurePosixPath(name).parts for name in found]
    depth = _common_depth(paths)
    divided = all(path[depth] in _PARTS for path in paths)
    if not divided:
        _refuse_strays(source, paths, depth)
    class_at = depth + 1 if divided else depth
    loose = [name for name, path in zip(found, paths, strict=True) if len(path) <= class_at + 1]
    if loose:
        raise SaccadeError(
            f"Reading {source}: {loose[0]} lies in no class folder; expected <class>/<picture>, or "
            "train/<class>/<picture> and test/<class>/<picture>."
        )
    parts = {_PARTS[path[depth]] for path in paths} if divided else {"all"}
    rename = {"val": "test"} if parts == {"train", "val"} else {}

    def place(name: str) -> tuple[str, str] | None:
        path = PurePosixPath(name).parts
        part = _PARTS[path[depth]] if divided else "all"
        return rename.get(part, part), path[class_at]

    return place, sorted({path[class_at] for path in paths})


def _refuse_strays(source: Path, paths: Sequence[tuple[str, ...]], depth: int) -> None:
    """Class folders may be called "train"; but `train/<class>/` beside other pictures is a mistake worth a
    word."""
    inner = {path[depth] for path in paths if path[depth] in _PARTS and len(path) > depth + 2}
    other = next((path for path in paths if path[depth] not in _PARTS), None)
    if inner and other is not None:
        raise SaccadeError(
            f"Reading {source}: {'/'.join(other)} lies outside {', '.join(sorted(inner))}; move it away, or "
            "name the folder with the class folders."
        )


def _common_depth(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders stand above all pictures, "train" and the like not counted, and one class folder
    kept."""
    depth = 0
    while all(len(path) > depth + 2 for path in paths) and len({path[depth] for path in paths}) == 1:
        if paths[0][depth] in _PARTS:
            break
        depth += 1
    return depth
