"""Reading the files of a folder, a zip or a tar (plain, gz, bz2, xz) in order, in memory, nothing extracted
to disk."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from saccade.errors import SaccadeError

Progress = Callable[[int, int], None]
"""Called with (done, total): bytes of an archive, or files of a folder."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError)
_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")


def is_archive(path: Path) -> bool:
    """Whether the name says that this is an archive that `members` reads."""
    return path.name.lower().endswith(_TAR_NAMES)


def members(
    path: Path, *, wanted: Callable[[str], bool] = lambda _: True, progress: Progress | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each regular file of a folder or an archive for whose name `wanted` is true.

    Names are relative, with forward slashes, without a leading "./". Hidden files (".x", "__MACOSX/x") are
    left out. Folders and zips come sorted by name, tars in their own order, read once from front to back.

    Raises:
        SaccadeError: there is no such file, it is no archive, or it is cut or damaged; the message says how
            far it could be read.
    """
    if not path.exists():
        raise SaccadeError(f"Reading pictures: there is no file or folder {path}.")
    if path.is_dir():
        yield from _folder_members(path, wanted, progress)
        return
    count, total, position = 0, 0, 0
    try:
        total = path.stat().st_size
        with open(path, "rb") as raw:
            kind = _kind(raw)
            read = _zip_members if kind == "zip" else _tar_members
            for name, content in read(raw, kind, wanted):
                position = max(position, min(raw.tell(), total))  # a zip is not read in its order
                yield name, content
                count += 1
                if progress is not None and count % 64 == 0:
                    progress(position, total)
    except (*_BROKEN, OSError) as error:
        # gzip and bz2 report damage as an OSError without a number
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(path, error) from error
        raise SaccadeError(_broken(path, error, count, position, total)) from error
    if progress is not None:
        progress(total, total)


def names(path: Path, *, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    """The names that `members` would yield, in its order, at the cost of one decompression of an archive."""
    if path.is_dir():
        return [name for name in _walk(path) if wanted(name)]
    return [name for name, _ in members(path, wanted=wanted)]


def _folder_members(
    folder: Path, wanted: Callable[[str], bool], progress: Progress | None
) -> Iterator[tuple[str, bytes]]:
    found = [name for name in _walk(folder) if wanted(name)]
    for done, name in enumerate(found, 1):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise _unreadable(folder / name, error) from error
        yield name, content
        if progress is not None and (done % 64 == 0 or done == len(found)):
            progress(done, len(found))


def _walk(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        inside = PurePosixPath(Path(root).relative_to(folder).as_posix())
        for file in sorted(files):
            if _visible(name := str(inside / file)):
                yield name


def _zip_members(raw: IO[bytes], _: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(raw) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if not entry.is_dir() and _visible(name := _clean(entry.filename)) and wanted(name):
                yield name, archive.read(entry)


_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    "xz": lzma.open,
    "gz": lambda raw: gzip.GzipFile(fileobj=raw),
    "bz2": bz2.open,
}


def _tar_members(raw: IO[bytes], kind: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    # tarfile's own stream mode takes the end of a cut gzip for the end of the archive; the decompressors here
    # do not
    whole = _Tail((_OPENERS[kind](raw) if kind in _OPENERS else raw).read)
    with closing(tarfile.open(fileobj=cast(IO[bytes], whole), mode="r|")) as archive:
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # a list of all that was read, of no use to a single pass
            name = _clean(entry.name)
            if entry.isreg() and _visible(name) and wanted(name):
                file = archive.extractfile(entry)
                if file is not None:
                    yield name, file.read()
    while whole.read(1 << 16):  # to the end, where the checksum is
        pass
    if any(whole.tail):
        raise tarfile.ReadError("the end mark is missing")


class _Tail:
    """A stream that remembers its last 1024 bytes: a whole tar ends with as many zeros, a cut one with a
    picture."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read_block, self.tail = read, b""

    def read(self, size: int) -> bytes:
        block = self.read_block(size)
        self.tail = block[-1024:] if len(block) >= 1024 else (self.tail + block)[-1024:]
        return block


def _kind(raw: IO[bytes]) -> str:
    """The format by its first bytes; "tar" when nothing else fits. Leaves the file at its start."""
    head = raw.read(6)
    raw.seek(0)
    for magic, kind in ((b"PK\x03\x04", "zip"), (b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2")):
        if head.startswith(magic):
            return kind
    return "tar"


def _clean(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _unreadable(path: Path, error: OSError) -> SaccadeError:
    return SaccadeError(f"Reading {path}: {error.strerror or error}. Mend that and try again.")


def _broken(path: Path, error: Exception, count: int, position: int, total: int) -> str:
    megabytes = f"{position / 1e6:.1f} of {total / 1e6:.1f} MB"
    return (
        f"Reading {path}: the archive is cut or damaged ({str(error) or type(error).__name__}); {count} "
        f"files could be read, up to {megabytes}. Nothing was kept of it; fetch the archive again."
    )
