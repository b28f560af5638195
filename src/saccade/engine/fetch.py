"""Finding a file: in the cache, in the archives of this machine, or at its official address.

The cache is the folder `SACCADE_HOME` (default: the user's cache folder). `SACCADE_ARCHIVES` lists further
folders, separated like `PATH`: the mirror of a class room or of a laboratory without a network. Both are read
at every look-up, so a program may set them at run time.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saccade.engine.files import atomic_path
from saccade.errors import SaccadeError

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all; 0 when the server does not say)."""


def cache_folder() -> Path:
    """The folder of downloads: `SACCADE_HOME`, else the user's cache folder. It need not exist yet."""
    home = os.environ.get("SACCADE_HOME")
    if home:
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("saccade"))


def archive_folders() -> list[Path]:
    """The folders of `SACCADE_ARCHIVES`, in order."""
    parts = os.environ.get("SACCADE_ARCHIVES", "").split(os.pathsep)
    return [Path(part).expanduser() for part in parts if part]


def find(file_names: str | Sequence[str]) -> Path | None:
    """The first of `file_names` that exists in the cache, else in the archives; None if there is none.

    A folder is searched for all names before the next folder; a name may be that of a folder or hold slashes.
    """
    names = _as_list(file_names)
    candidates = (folder / name for folder in [cache_folder(), *archive_folders()] for name in names)
    return next((path for path in candidates if path.exists()), None)


def locate(
    file_names: str | Sequence[str],
    *,
    url: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The path of a file, found as `find` does or else downloaded into the cache.

    Args:
        file_names: the names it may have, best first; a download is stored under the first.
        url: its official address; None for a file that cannot be downloaded.
        sha256: the hexadecimal digest of what `url` holds, or the first digits of it (at least eight). Only a
            download is checked: in an archive the file may have another, equally good form.
        progress: called during a download with (bytes so far, bytes in all).

    Raises:
        SaccadeError: no folder has it and it cannot be downloaded, or the download is not what it should be.
    """
    names = _as_list(file_names)
    found = find(names)
    if found is not None:
        return found
    if url is None:
        raise SaccadeError(_missing(names, "there is no address to download it from", url))
    target = cache_folder() / names[0]
    with atomic_path(target) as temporary:
        try:
            _download(url, temporary, progress)
        except OSError as error:
            if error.errno is not None:  # a disk error; those of `requests` carry no number
                raise
            raise SaccadeError(_missing(names, f"the download failed ({_brief(error)})", url)) from error
        if sha256 is not None:
            check_sha256(temporary, sha256, origin=url)
    return target


def check_sha256(path: Path, expected: str, *, origin: str | None = None) -> None:
    """Raise `SaccadeError` unless the SHA-256 of `path` starts with `expected` (8 to 64 hex digits)."""
    if not 8 <= len(expected) <= 64:
        raise ValueError(f"a SHA-256 or its beginning has 8 to 64 digits, not {len(expected)}")
    digest = sha256_of(path)
    if not digest.startswith(expected.lower()):
        raise SaccadeError(
            f"Checking {origin or path}: its SHA-256 is {digest[: len(expected)]}, expected was {expected}, "
            "so the transfer was cut or the file is another one. Try again, or provide the file by hand."
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Bar:
    """What pooch expects of a progress bar, passed on to a plain callback."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def update(self, n: int) -> None:
        self.done = min(self.done + n, self.total) if self.total else self.done + n
        self.progress(self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def _download(url: str, path: Path, progress: Progress | None) -> None:
    import pooch

    bar: Any = _Bar(progress) if progress else False
    pooch.HTTPDownloader(progressbar=bar, timeout=30)(url, str(path), None)


def _as_list(file_names: str | Sequence[str]) -> list[str]:
    return [file_names] if isinstance(file_names, str) else list(file_names)


def _brief(error: OSError) -> str:
    response = getattr(error, "response", None)
    return f"HTTP status {response.status_code}" if response is not None else type(error).__name__


def _missing(names: list[str], why: str, url: str | None) -> str:
    """The sentence for a file that is nowhere, with the three ways to provide it."""
    again = f"let this machine reach {url}" if url else "ask whoever published it for a copy"
    return (
        f"Looking for {' or '.join(names)}: it is neither in the cache nor in an archive, and {why}. "
        f"Put it into {cache_folder()}, or name the folder that holds it in SACCADE_ARCHIVES, or {again}."
    )
