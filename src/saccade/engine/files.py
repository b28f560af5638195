"""Writing files so that a crash, a full disk or a kill leaves the earlier file whole."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from saccade.errors import SaccadeError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success sync it to disk and rename it over `path`.

    If the body raises, the temporary file is removed and `path` is what it was. Raises `SaccadeError` when
    the disk is full or the folder cannot be written.
    """
    path = Path(path)
    # the same suffix, because writers go by it; `remove_leftovers` knows this pattern
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        with suppress(OSError):  # e.g. the folder is a file; the first error says more
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files that processes killed while writing `path` left beside it."""
    path = Path(path)
    pattern = f".{escape(path.stem)}.{'[0-9a-f]' * 8}{escape(path.suffix)}"
    for leftover in path.parent.glob(pattern):
        leftover.unlink(missing_ok=True)


def explain_os_error(error: OSError, path: Path) -> SaccadeError:
    """Say in one sentence why writing `path` failed and that what stood there is untouched."""
    if error.errno in _FULL:
        why = "the disk is full; free some space or choose another folder"
    else:
        why = (error.strerror or str(error)).lower()
    return SaccadeError(f"Could not write {path}: {why}. Any earlier file of that name is untouched.")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically (see `atomic_path`)."""
    write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where folders can be opened (POSIX); elsewhere the rename is atomic anyway."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
