"""Fake data sets in their official formats, small enough to be written for each test."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("no deadline", deadline=None)  # machines that test are often busy
settings.load_profile("no deadline")

Pack = Callable[[Mapping[str, bytes], str], Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh SACCADE_HOME and no archives."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SACCADE_HOME", str(folder))
    monkeypatch.delenv("SACCADE_ARCHIVES", raising=False)
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Write files as a folder ("x"), a zip ("x.zip") or a tar ("x.tar", "x.tar.gz", ...) and return its path."""

    def write(files: Mapping[str, bytes], name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                for entry, content in files.items():
                    archive.writestr(entry, content)
        elif ".tar" in name:
            kind = name.rpartition(".")[2]
            mode = "w" if kind == "tar" else f"w:{kind}"
            with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
                for entry, content in files.items():
                    header = tarfile.TarInfo(entry)
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
        else:
            for entry, content in files.items():
                (path / entry).parent.mkdir(parents=True, exist_ok=True)
                (path / entry).write_bytes(content)
        return path

    return write


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """The bytes of a picture file of one colour."""

    def encode(
        colour: tuple[int, ...] = (200, 30, 60),
        *,
        size: tuple[int, int] = (8, 8),
        format: str = "PNG",
        mode: str = "RGB",
    ) -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, format)
        return buffer.getvalue()

    return encode


@pytest.fixture
def noise() -> Callable[..., bytes]:
    """The bytes of a PNG of noise, which does not compress."""

    def encode(seed: int, *, size: int = 32) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return encode
