"""Data sets decoded once, into raw files that are mapped into memory ever after.

A cache is a folder `SACCADE_HOME/data/<name>-<size>-<fit>-<key>` with, for each part of the data set,
`<part>.pixels` (raw uint8, N x size x size x 3) and `<part>.labels` (raw int64, N), and one `meta.json`. It
is built under another
name, synced and renamed, so it is either whole or absent: a killed build leaves nothing that could be
mistaken for one, and of two processes that build the same cache the later one takes the work of the earlier.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.data.archives import members, names
from saccade.data.decode import Fit, check_fit, decode
from saccade.data.images import ImageSet
from saccade.data.statistics import Moments
from saccade.engine.fetch import cache_folder
from saccade.engine.files import explain_os_error
from saccade.errors import SaccadeError

_VERSION = 1
_ABANDONED = 3600.0  # seconds without a write after which an unfinished build counts as killed
_TOGETHER = 64  # pictures written at a time
_SHOWN, _ENOUGH = 5, 100  # unreadable pictures named in the error; their number at which reading stops


@dataclass(frozen=True)
class Labelling:
    """What a source knows once it was read to the end: class names, and the class index of each key it
    gave."""

    classes: Sequence[str]
    index: Mapping[str, int]


class Writer:
    """Receives the pictures of a data set, one after the other; see `Cache.open`."""

    def __init__(self, folder: Path, *, size: int, fit: Fit) -> None:
        self.folder, self.size, self.fit = folder, size, fit
        self.files: dict[str, Any] = {}
        self.keys: dict[str, list[str]] = {}
        self.moments: dict[str, Moments] = {}
        self.pending: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
        self.unreadable: list[str] = []

    def add(self, part: str, key: str, name: str, content: bytes) -> None:
        """Decode the picture file `name` and append it to `part`; `key` will be turned into its class at the
        end."""
        try:
            picture = decode(content, size=self.size, fit=self.fit)
        except ValueError:
            self.unreadable.append(name)
            if len(self.unreadable) >= _ENOUGH:
                raise self.complaint() from None
            return
        pending = self.pending.setdefault(part, [])
        pending.append((key, picture))
        if len(pending) == _TOGETHER:
            self._flush(part)

    def _flush(self, part: str) -> None:
        pending = self.pending.pop(part, [])
        if pending:
            self.add_pixels(part, [key for key, _ in pending], np.stack([picture for _, picture in pending]))

    def add_pixels(self, part: str, keys: Sequence[str], pictures: NDArray[np.uint8]) -> None:
        """Append decoded pictures (N, size, size, 3) with one key each."""
        if part not in self.files:
            self.files[part] = open(self.folder / f"{part}.pixels", "wb")  # noqa: SIM115  closed in `close`
            self.keys[part], self.moments[part] = [], Moments()
        self.files[part].write(np.ascontiguousarray(pictures).data)
        self.keys[part].extend(keys)
        self.moments[part].add(pictures)

    def complaint(self) -> SaccadeError:
        """The error that names the first few pictures that could not be read."""
        shown = ", ".join(self.unreadable[:_SHOWN])
        more = f" and {len(self.unreadable) - _SHOWN} more" if len(self.unreadable) > _SHOWN else ""
        return SaccadeError(
            f"Decoding pictures: could not read {shown}{more}. Nothing was kept; mend or remove these files."
        )

    def finish(self, labelling: Labelling) -> dict[str, Any]:
        """Write the labels, sync everything, and return what the parts add to `meta.json`."""
        if self.unreadable:
            raise self.complaint()
        for part in list(self.pending):
            self._flush(part)
        unknown = sorted({key for keys in self.keys.values() for key in keys} - labelling.index.keys())
        if unknown:
            raise SaccadeError(f"Labelling pictures: no class is given for {', '.join(unknown[:_SHOWN])}.")
        statistics = {}
        for part, file in self.files.items():
            file.flush()
            os.fsync(file.fileno())
            labels = np.array([labelling.index[key] for key in self.keys[part]], dtype=np.int64)
            with open(self.folder / f"{part}.labels", "wb") as out:
                out.write(labels.tobytes())
                out.flush()
                os.fsync(out.fileno())
            mean, std = self.moments[part].mean_std()
            statistics[part] = {"count": len(labels), "mean": mean, "std": std}
        return {"classes": list(labelling.classes), "parts": statistics}

    def close(self) -> None:
        """Close the files, also after a failure."""
        for file in self.files.values():
            with suppress(OSError):  # a full disk fails once more here; what counts was synced in `finish`
                file.close()


@dataclass(frozen=True)
class Cache:
    """A finished cache: its folder and what its `meta.json` says."""

    folder: Path
    meta: dict[str, Any]

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the data set ("train", "test", ...), as its source divides it."""
        return tuple(self.meta["parts"])

    def statistics(self, part: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels of a part, in [0, 1]."""
        entry = self.meta["parts"][part]
        return tuple(entry["mean"]), tuple(entry["std"])

    def images(self, part: str) -> ImageSet:
        """The pictures of a part, as a tensor over the mapped file (nothing is read until it is used)."""
        count, size = self.meta["parts"][part]["count"], self.meta["size"]
        # mode "c": a write stays in this process; torch takes no read-only memory without a warning
        pixels = np.memmap(self.folder / f"{part}.pixels", np.uint8, "c", shape=(count, size, size, 3))
        labels = np.fromfile(self.folder / f"{part}.labels", np.int64)
        classes = tuple(self.meta["classes"])
        return ImageSet(self.meta["name"], torch.from_numpy(pixels), torch.from_numpy(labels), classes)

    @property
    def whole(self) -> bool:
        """Whether every file has the length that it should have."""
        pixel = self.meta["size"] ** 2 * 3
        for part, entry in self.meta["parts"].items():
            for file, width in ((f"{part}.pixels", pixel), (f"{part}.labels", 8)):
                path = self.folder / file
                if not path.is_file() or path.stat().st_size != entry["count"] * width:
                    return False
        return True


def folder_of(source: Path, *, name: str, size: int, fit: Fit) -> Path:
    """Where the cache of `source` lies: the name holds a hash of the source's identity, the size and the fit.

    The identity of a file is its name, size and time of change, that of a folder the same for all files in
    it.
    """
    if source.is_dir():
        stats = [(entry, (source / entry).stat()) for entry in names(source)]
        identity = [(entry, stat.st_size, stat.st_mtime_ns) for entry, stat in stats]
    else:
        stat = source.stat()
        identity = [(source.name, stat.st_size, stat.st_mtime_ns)]
    key = hashlib.sha256(json.dumps([_VERSION, name, size, fit, identity]).encode()).hexdigest()[:12]
    return cache_folder() / "data" / f"{name}-{size}-{fit}-{key}"


def read(folder: Path) -> Cache | None:
    """The cache in `folder`, or None if there is none or it is damaged."""
    try:
        cache = Cache(folder, json.loads((folder / "meta.json").read_text("utf-8")))
        return cache if cache.meta["version"] == _VERSION and cache.whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(source: Path, fill: Callable[[Writer], Labelling], *, name: str, size: int, fit: Fit = "crop") -> Cache:
    """The cache of `source`: the one that exists, or a new one.

    `fill` calls `Writer.add` for each picture and returns the labelling.

    Raises:
        SaccadeError: the source holds no picture or cannot be read, or the disk is full. Nothing is left
        behind.
    """
    check_fit(fit, size)
    if not source.exists():
        raise SaccadeError(f"Loading data set {name}: there is no file or folder {source}.")
    folder = folder_of(source, name=name, size=size, fit=fit)
    cache = read(folder)
    if cache is not None:
        return cache
    _sweep(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        writer = Writer(temporary, size=size, fit=fit)
        try:
            meta = writer.finish(fill(writer))
        finally:
            writer.close()
        if not meta["parts"]:
            raise SaccadeError(f"Loading data set {name}: {source} holds no pictures.")
        meta = {"version": _VERSION, "name": name, "source": str(source), "size": size, "fit": fit, **meta}
        with open(temporary / "meta.json", "w", encoding="utf-8") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return _settle(temporary, folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _settle(temporary: Path, folder: Path) -> Cache:
    """Rename a finished build into place, unless another process was first."""
    try:
        os.rename(temporary, folder)
    except OSError:
        cache = read(folder)
        if cache is not None:
            return cache
        shutil.rmtree(folder)  # damaged: it was not readable when this build began, nor is it now
        os.rename(temporary, folder)
    cache = read(folder)
    if cache is None:
        raise SaccadeError(f"Building {folder}: what was written cannot be read back; is the disk in order?")
    return cache


def _sweep(folder: Path) -> None:
    """Remove what killed builds left: hidden folders in which nothing was written for an hour."""
    for leftover in folder.glob(".*") if folder.is_dir() else ():
        times = [file.stat().st_mtime for file in [leftover, *leftover.glob("*")] if file.exists()]
        if times and time.time() - max(times) > _ABANDONED:
            shutil.rmtree(leftover, ignore_errors=True)


def fill_from(
    source: Path,
    sort: Callable[[str], tuple[str, str] | None],
    writer: Writer,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Add every picture of a folder or archive for which `sort(name)` gives (part, key)."""
    for name, content in members(source, wanted=lambda name: sort(name) is not None, progress=progress):
        place = sort(name)
        if place is not None:
            writer.add(*place, name, content)
