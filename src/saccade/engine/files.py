"""Writing files so that a crash, a full disk or a kill leaves the earlier file whole."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.errors import SaccadeError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success sync it to disk and rename it over `path`.

    If the body raises, the temporary file is removed and `path` is what it was. Raises `SaccadeError` when the
    disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")  # same suffix: writers go by it
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
        temporary.unlink(missing_ok=True)


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
    """Make a rename durable where the system can open folders (POSIX); elsewhere the rename is atomic anyway."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
