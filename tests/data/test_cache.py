import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.cache import Cache, Labelling, Writer, build, folder_of, read
from saccade.data.statistics import channel_statistics
from saccade.errors import SaccadeError

Encode = Callable[..., bytes]
PIXELS = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 3), dtype=np.uint8)
LABELLING = Labelling(("even", "odd"), {"0": 0, "1": 1})


def fill(writer: Writer) -> Labelling:
    writer.add_pixels("train", [str(k % 2) for k in range(100)], PIXELS[:100])
    writer.add_pixels("test", [str(k % 2) for k in range(50)], PIXELS[100:])
    return LABELLING


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.tar"
    path.write_bytes(b"its identity alone counts here")
    return path


def made(source: Path, fill: Callable[[Writer], Labelling] = fill) -> Cache:
    return build(source, fill, name="test", size=4)


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "data").iterdir()) if (home / "data").exists() else []


def test_pictures_labels_and_statistics_come_back(source: Path) -> None:
    cache = made(source)
    assert cache.parts == ("train", "test")
    train, test = cache.images("train"), cache.images("test")
    assert np.array_equal(train.pictures.numpy(), PIXELS[:100])
    assert np.array_equal(test.pictures.numpy(), PIXELS[100:])
    assert train.labels.tolist() == [0, 1] * 50
    assert (train.classes, train.name) == (("even", "odd"), "test")
    assert cache.statistics("train") == channel_statistics(train)


def test_it_is_decoded_once(source: Path) -> None:
    made(source)

    def never(_: Writer) -> Labelling:
        raise AssertionError("decoded again")

    assert len(made(source, never).images("train")) == 100


def test_pictures_are_mapped_and_a_write_stays_private(source: Path) -> None:
    pictures = made(source).images("train").pictures
    pictures[0] = 7
    assert np.array_equal(made(source).images("train").pictures[0].numpy(), PIXELS[0])


def test_the_identity_of_the_source_its_size_and_fit_make_the_key(source: Path) -> None:
    keys = {folder_of(source, name="test", size=4, fit="crop")}
    keys |= {folder_of(source, name="test", size=5, fit="crop"), folder_of(source, name="test", size=4, fit="pad")}
    os.utime(source, ns=(0, 12345))
    keys.add(folder_of(source, name="test", size=4, fit="crop"))
    source.write_bytes(b"x")
    os.utime(source, ns=(0, 12345))
    keys.add(folder_of(source, name="test", size=4, fit="crop"))
    assert len(keys) == 5
    moved = source.parent / "elsewhere" / source.name  # the same file at another place is the same
    moved.parent.mkdir()
    os.rename(source, moved)
    assert folder_of(moved, name="test", size=4, fit="crop") in keys


def test_a_changed_file_in_a_folder_changes_the_key(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "a.png").write_bytes(b"x")
    first = folder_of(tmp_path / "box", name="test", size=4, fit="crop")
    (tmp_path / "box" / "b.png").write_bytes(b"x")
    assert folder_of(tmp_path / "box", name="test", size=4, fit="crop") != first


def test_a_failed_build_leaves_nothing(source: Path, home: Path) -> None:
    def fails(writer: Writer) -> Labelling:
        fill(writer)
        raise SaccadeError("the archive is cut")

    with pytest.raises(SaccadeError, match="cut"):
        made(source, fails)
    assert leftovers(home) == []
    assert len(made(source).images("train")) == 100


def test_a_second_builder_of_the_same_is_harmless(source: Path, home: Path) -> None:
    inner: list[Cache] = []

    def overtaken(writer: Writer) -> Labelling:
        inner.append(made(source))  # another process finishes while this one works
        return fill(writer)

    outer = made(source, overtaken)
    assert outer == inner[0]
    assert leftovers(home) == [outer.folder.name]
    assert np.array_equal(outer.images("test").pictures.numpy(), PIXELS[100:])


@pytest.mark.parametrize("damage", ["cut pixels", "no labels", "broken meta", "empty meta", "no meta"])
def test_a_damaged_cache_is_built_again(source: Path, damage: str) -> None:
    folder = made(source).folder
    if damage == "cut pixels":
        os.truncate(folder / "train.pixels", 100)
    elif damage == "no labels":
        (folder / "test.labels").unlink()
    elif damage == "no meta":
        (folder / "meta.json").unlink()
    else:
        (folder / "meta.json").write_text("{" if damage == "broken meta" else "{}")
    assert read(folder) is None
    assert np.array_equal(made(source).images("train").pictures.numpy(), PIXELS[:100])


def test_killed_at_any_moment_leaves_no_half_cache(tmp_path: Path, home: Path, source: Path) -> None:
    """Children are killed with SIGKILL before their first, second, ... file operation, until one lives to the end."""
    program = tmp_path / "parent.py"
    program.write_text(
        f"""
import os, signal
import numpy as np
from pathlib import Path
from saccade.data.cache import Labelling, build, folder_of, read

def fill(writer):
    writer.add_pixels("train", ["0"] * 9, np.zeros((9, 4, 4, 3), np.uint8))
    return Labelling(("zero",), {{"0": 0}})

def counted(function):
    def call(*given):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given)
    return call

source = Path({str(source)!r})
folder = folder_of(source, name="test", size=4, fit="crop")
for left in range(5):
    child = os.fork()
    if not child:
        os.fsync, os.rename = counted(os.fsync), counted(os.rename)
        build(source, fill, name="test", size=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), folder.exists(), read(folder) is not None)
"""
    )
    result = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True)
    # fsync of pixels, labels and meta, and the rename
    assert result.stdout.splitlines() == ["-9 False False"] * 4 + ["0 True True"]
    killed = [name for name in leftovers(home) if name.startswith(".")]
    assert len(killed) == 4
    for name in killed:
        for path in [*(home / "data" / name).iterdir(), home / "data" / name]:
            os.utime(path, (0, time.time() - 7200))
    made(source.rename(source.with_name("other.tar")))
    assert not any(name.startswith(".") for name in leftovers(home))


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: the operating system refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(source: Path, home: Path) -> None:
    with full_disk(2000), pytest.raises(SaccadeError, match=r"Could not write .* the disk is full") as caught:
        made(source)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert leftovers(home) == []


def test_unreadable_pictures_are_named(source: Path, home: Path, noise: Encode) -> None:
    def some_broken(writer: Writer) -> Labelling:
        for k in range(20):
            writer.add("train", "0", f"a/{k}.png", noise(k)[: None if k % 3 else 60])
        return LABELLING

    with pytest.raises(SaccadeError, match=r"a/0\.png, a/3\.png, a/6\.png, a/9\.png, a/12\.png and 2 more"):
        made(source, some_broken)
    assert leftovers(home) == []


def test_reading_stops_when_hardly_anything_is_readable(source: Path) -> None:
    tried = 0

    def all_broken(writer: Writer) -> Labelling:
        nonlocal tried
        for k in range(10_000):
            tried += 1
            writer.add("train", "0", f"{k}.png", b"")
        return LABELLING

    with pytest.raises(SaccadeError, match=r"could not read 0\.png"):
        made(source, all_broken)
    assert tried < 1000


def test_a_source_without_pictures_or_that_is_missing(source: Path) -> None:
    with pytest.raises(SaccadeError, match="holds no pictures"):
        made(source, lambda _: LABELLING)
    with pytest.raises(SaccadeError, match=r"no file or folder .*gone.tar"):
        made(source.with_name("gone.tar"))


def test_added_files_keep_their_order(source: Path, noise: Encode) -> None:
    def mixed(writer: Writer) -> Labelling:
        for k in range(150):
            writer.add("test" if k % 3 == 0 else "train", str(k % 2), f"{k}.png", noise(k, size=4))
        return LABELLING

    cache = made(source, mixed)
    expected = [k % 2 for k in range(150) if k % 3 == 0]
    assert cache.images("test").labels.tolist() == expected
    assert len(cache.images("train")) == 100
    first = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert torch.equal(cache.images("test").pictures[1], torch.from_numpy(first))
