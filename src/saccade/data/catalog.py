"""The data sets this library knows by name, and `load` for them and for any folder of pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from saccade.data import cifar, folders, tiny_imagenet
from saccade.data.archives import Progress, is_archive
from saccade.data.cache import Cache, Labelling, Writer, build, folder_of, read
from saccade.data.decode import Fit
from saccade.data.images import ImageSet
from saccade.data.scenes import scenes
from saccade.data.split import split_indices
from saccade.engine.fetch import find, locate
from saccade.errors import SaccadeError

Fill = Callable[..., Labelling]
Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")
FOLDER_SIZE, FOLDER_VAL = 64, 0.1  # what `load` takes for a folder when it is told nothing


@dataclass(frozen=True)
class DataSet:
    """A row of `DATASETS`.

    files: the names its archive may have, best first (a folder counts too). sha256: of what `url` holds. megabytes:
    of the download. size: the side of its pictures. classes, train, test: how many. val: how many of the training
    pictures are held out unless `load` is told otherwise.
    """

    name: str
    kind: Literal["archive", "generated"]
    description: str
    licence: str
    size: int
    classes: int
    train: int
    test: int
    val: int
    files: tuple[str, ...] = ()
    url: str | None = None
    sha256: str | None = None
    megabytes: float = 0.0
    fill: Fill | None = None


_TORONTO = "https://www.cs.toronto.edu/~kriz"

_ROWS = [
    DataSet(
        "cifar10",
        "archive",
        "60,000 small colour photographs in 10 classes (Krizhevsky 2009)",
        "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        size=32,
        classes=10,
        train=50_000,
        test=10_000,
        val=5_000,
        files=(
            "cifar-10-python.tar.gz",
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-py",
            "cifar-10-batches-bin",
        ),
        url=f"{_TORONTO}/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        megabytes=170.5,
        fill=partial(cifar.fill, classes=10),
    ),
    DataSet(
        "cifar100",
        "archive",
        "60,000 small colour photographs in 100 classes (Krizhevsky 2009)",
        "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        size=32,
        classes=100,
        train=50_000,
        test=10_000,
        val=5_000,
        files=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz", "cifar-100-python", "cifar-100-binary"),
        url=f"{_TORONTO}/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        megabytes=169.0,
        fill=partial(cifar.fill, classes=100),
    ),
    DataSet(
        "cifar10-jpeg",
        "archive",
        "a JPEG re-compression of CIFAR-10 as class folders; figures are not comparable with CIFAR-10",
        "as CIFAR-10",
        size=32,
        classes=10,
        train=50_000,
        test=10_000,
        val=5_000,
        files=("cifar10_jpg.tar.xz",),
        fill=folders.fill,
    ),
    DataSet(
        "tiny-imagenet",
        "archive",
        "110,000 photographs of 64 x 64 in 200 classes of ImageNet (Le and Yang 2015); test is the official "
        "validation set",
        "as ImageNet: research and teaching only",
        size=64,
        classes=200,
        train=100_000,
        test=10_000,
        val=5_000,
        files=(
            "tiny-imagenet-200.zip",
            "tiny-imagenet-200.tar.xz",
            "tiny-imagenet-200.tar.gz",
            "tiny-imagenet-200.tar",
            "tiny-imagenet-200",
        ),
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        megabytes=248.1,
        fill=tiny_imagenet.fill,
    ),
    DataSet(
        "scenes",
        "generated",
        "coloured, textured shapes on textured backgrounds, drawn by this library; the class is the shape of the "
        "main one",
        "MIT, as this library",
        size=32,
        classes=10,
        train=20_000,
        test=2_000,
        val=2_000,
    ),
]
DATASETS: dict[str, DataSet] = {row.name: row for row in _ROWS}
"""The data sets known by name."""


def load(
    name_or_path: str | Path,
    *,
    split: Split,
    size: int | None = None,
    seed: int = 0,
    val: float | None = None,
    fit: Fit = "crop",
    progress: Progress | None = None,
) -> ImageSet:
    """One split of a data set, as uint8 pictures over a memory map; decoded on first use, then opened at once.

    Args:
        name_or_path: a name of `DATASETS`, or a folder, zip or tar of class folders (see `folders.fill`).
        split: "train" or "val", which are divided from the training pictures by `seed`; or "test".
        size: the side of the pictures in pixels; None for that of the data set, or 64 for a folder.
        seed: which division into training and validation; for "scenes", which scenes.
        val: the fraction (below 1) or the number (from 1) of training pictures held out; None for the data set's
            own number, or a tenth for a folder; 0 trains on all. A folder with its own val part takes None only.
        fit: how a picture of another shape becomes a square: "crop", "squash" or "pad".
        progress: called with (done, total) while pictures are decoded: bytes of an archive or files of a folder.

    Raises:
        SaccadeError: there is no such data set or split, the file is missing, cut or damaged, or a value is out of
            range.
    """
    if split not in SPLITS:
        raise SaccadeError(
            f"Loading {name_or_path}: split={split!r} was given; it is one of {', '.join(SPLITS)}."
        )
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
        name, side, fill = row.name, size or row.size, row.fill
    else:
        source = Path(name_or_path).expanduser()
        if not (source.is_dir() or is_archive(source)):
            raise SaccadeError(
                f"Loading data set {name_or_path}: it is none of {', '.join(DATASETS)}, and no folder or archive "
                "(zip, tar, tar.gz, tar.xz, tar.bz2) of that path."
            )
        name, side, fill = source.resolve().name.split(".")[0], size or FOLDER_SIZE, folders.fill

    def write(writer: Writer) -> Labelling:
        return fill(source, writer, progress=progress)

    return build(source, write, name=name, size=side, fit=fit)


def _part(cache: Cache, *, split: Split, seed: int, val: float | None, default: float) -> ImageSet:
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


def _refuse_val(name: str, val: float | None) -> None:
    if val is not None:
        raise SaccadeError(f"Loading {name}: val={val} was given, but it has a validation part of its own.")


def _load_scenes(row: DataSet, *, split: Split, size: int | None, seed: int, val: float | None) -> ImageSet:
    count = {"train": row.train, "val": row.val, "test": row.test}[split]
    if val is not None:
        if not 1 <= val == int(val):
            raise SaccadeError(
                f"Loading scenes: val={val} was given; scenes are drawn, so give their number."
            )
        count = int(val) if split == "val" else count
    return scenes(count, size=size or row.size, seed=seed, split=split)


@dataclass(frozen=True)
class CatalogueRow:
    """A data set and its state: "generated", "cached" (decoded), "present" (its file is here), "download" (can be
    fetched) or "missing" (must be provided). path: of its file or cache, if any."""

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
