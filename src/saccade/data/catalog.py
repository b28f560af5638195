"""`load`, for a known data set or any folder of pictures, and `catalogue`, which says what is at hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saccade.data import folders
from saccade.data.archives import Progress, is_archive
from saccade.data.cache import Cache, Labelling, Writer, build, folder_of, read
from saccade.data.datasets import DATASETS, DataSet
from saccade.data.decode import Fit
from saccade.data.images import ImageSet
from saccade.data.scenes import scenes
from saccade.data.split import split_indices
from saccade.engine.fetch import find, locate
from saccade.errors import SaccadeError

Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")
FOLDER_SIZE, FOLDER_VAL = 64, 0.1  # what `load` takes for a folder when it is told nothing


def load(
    name_or_path: str | Path,
    *,
    split: Split,
    size: int | None = None,
    seed: int = 0,
    val: float | int | None = None,
    fit: Fit = "crop",
    progress: Progress | None = None,
) -> ImageSet:
    """One split of a data set, as uint8 pictures over a memory map; decoded on the first call only.

    Args:
        name_or_path: a name of `DATASETS`, or a folder, zip or tar of class folders (see `folders.fill`).
        split: "train" or "val", which are divided from the training pictures by `seed`; or "test".
        size: the side of the pictures in pixels; None for that of the data set, or 64 for a folder.
        seed: which division into training and validation; for "scenes", which scenes.
        val: the fraction (below 1) or the number (from 1) of training pictures held out; None for the data
            set's own number, or a tenth for a folder; 0 trains on all (scenes are drawn: it takes none from
            them). A folder with its own val part takes None only.
        fit: how a picture of another shape becomes a square: "crop", "squash" or "pad".
        progress: called with (done, total) while pictures are decoded: bytes of an archive or files of a
            folder.

    Raises:
        SaccadeError: there is no such data set or split, the file is missing, cut or damaged, or a value is
            out of range.
    """
    if split not in SPLITS:
        one_of = ", ".join(SPLITS)
        raise SaccadeError(f"Loading {name_or_path}: split={split!r} was given; it is one of {one_of}.")
    row = DATASETS.get(str(name_or_path))
    if row is not None and row.kind == "generated":
        return _load_scenes(row, split=split, size=size, seed=seed, val=val)
    cache = prepare(name_or_path, size=size, fit=fit, progress=progress)
    return _part(cache, split=split, seed=seed, val=val, default=row.val if row else FOLDER_VAL)


def prepare(
    name_or_path: str | Path, *, size: int | None = None, fit: Fit = "crop", progress: Progress | None = None
) -> Cache:
    """Find or download a data set and decode it into its cache; what `load` does first. See there."""
    row = DATASETS.get(str(name_or_path))
    if row is not None and row.fill is not None:
        source = locate(row.files, url=row.url, sha256=row.sha256, progress=progress)
        name, side, fill = row.name, row.size if size is None else size, row.fill
    else:
        source = Path(name_or_path).expanduser()
        if not (source.is_dir() or is_archive(source)):
            raise SaccadeError(
                f"Loading data set {name_or_path}: it is none of {', '.join(DATASETS)}, and there is no "
                "folder or archive (zip, tar, tar.gz, tar.xz, tar.bz2) of that path."
            )
        name, fill = source.resolve().name.split(".")[0], folders.fill
        side = FOLDER_SIZE if size is None else size

    def write(writer: Writer) -> Labelling:
        return fill(source, writer, progress=progress)

    return build(source, write, name=name, size=side, fit=fit)


def _part(cache: Cache, *, split: Split, seed: int, val: float | int | None, default: float | int) -> ImageSet:
    name = cache.meta["name"]
    if split == "val" and "val" in cache.parts:
        _refuse_val(name, val)
        return cache.images("val")
    if split == "test" and "all" not in cache.parts:
        if "test" not in cache.parts:
            raise SaccadeError(f"Loading {name}: it has no test part, only {', '.join(cache.parts)}.")
        return cache.images("test")
    part = "all" if "all" in cache.parts else "train"
    if part not in cache.parts:
        raise SaccadeError(f"Loading {name}: it has no train part, only {', '.join(cache.parts)}.")
    images = cache.images(part)
    if part == "all":  # an undivided folder: its test set is the same for every seed
        rest, test = split_indices(images.labels, val=FOLDER_VAL, seed=0)
        if split == "test":
            return images.subset(test)
        images = images.subset(rest)
    elif "val" in cache.parts:
        _refuse_val(name, val)
        return images
    labels = images.labels if images.rows is None else images.labels[images.rows]
    train, held_out = split_indices(labels, val=default if val is None else val, seed=seed)
    return images.subset(train if split == "train" else held_out)


def _refuse_val(name: str, val: float | int | None) -> None:
    if val is not None:
        raise SaccadeError(f"Loading {name}: val={val} was given, but it has a validation part of its own.")


def _load_scenes(row: DataSet, *, split: Split, size: int | None, seed: int, val: float | int | None) -> ImageSet:
    count = {"train": row.train, "val": row.val, "test": row.test}[split]
    if val is not None and split == "val":
        count = round(val * row.train) if 0 <= val < 1 else int(val)
    return scenes(count, size=row.size if size is None else size, seed=seed, split=split)


@dataclass(frozen=True)
class CatalogueRow:
    """A data set and its state: "generated", "cached" (decoded), "present" (its file is here), "download"
    (can be fetched) or "missing" (must be provided). path: of its file or cache, if any."""

    dataset: DataSet
    state: Literal["generated", "cached", "present", "download", "missing"]
    path: Path | None


def catalogue() -> list[CatalogueRow]:
    """The rows of `saccade data`, in the order of `DATASETS`. Nothing is downloaded or decoded."""
    return [_state(row) for row in DATASETS.values()]


def _state(row: DataSet) -> CatalogueRow:
    if row.kind == "generated":
        return CatalogueRow(row, "generated", None)
    source = find(row.files)
    if source is None:
        return CatalogueRow(row, "download" if row.url else "missing", None)
    folder = folder_of(source, name=row.name, size=row.size, fit="crop")
    cached = read(folder) is not None
    return CatalogueRow(row, "cached" if cached else "present", folder if cached else source)
