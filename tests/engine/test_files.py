"""Writing is all or nothing: a crash, a full disk or a kill leaves what was there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.engine.files import atomic_path, remove_leftovers, write_bytes, write_text
from saccade.errors import SaccadeError


def test_written_whole_with_folders_made(tmp_path):
    path = tmp_path / "a" / "b" / "ünï [x].txt"
    write_text(path, "first\nline é")
    assert path.read_bytes() == "first\nline é".encode()
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == [path.name]


def test_a_failing_body_changes_nothing(tmp_path):
    path = tmp_path / "x.bin"
    write_bytes(path, b"before")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_readers_never_see_half_a_file(tmp_path):
    path = tmp_path / "x.bin"
    write_bytes(path, b"before")
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        assert path.read_bytes() == b"before"
        assert temporary.suffix == path.suffix
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("stage", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_at_any_stage(tmp_path, monkeypatch, stage, code):
    path = tmp_path / "x.bin"
    write_bytes(path, b"before")

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    owner, name = {"write": (Path, "write_bytes"), "fsync": (os, "fsync"), "rename": (os, "replace")}[stage]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(SaccadeError, match=r"Could not write .*x\.bin: the disk is full.* untouched\."):
            write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.bin"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file size are a matter of POSIX")
def test_a_real_limit_of_file_size(tmp_path):
    """The system itself refuses to write more than 10,000 bytes."""
    script = f"""
import resource
from saccade.engine.files import write_bytes
from saccade.errors import SaccadeError
write_bytes({str(tmp_path / "x.bin")!r}, b"before")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_bytes({str(tmp_path / "x.bin")!r}, bytes(100_000))
except SaccadeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the disk is full" in done.stdout
    assert (tmp_path / "x.bin").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_other_errors_say_why(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaccadeError, match=r"Could not write .*: (not a directory|file exists)"):
        write_text(tmp_path / "file" / "x.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SaccadeError, match=r"Could not write .*folder: .*directory"):
        write_text(tmp_path / "folder", "")
    with pytest.raises(SaccadeError, match="Could not write"), atomic_path(tmp_path / "never"):
        pass  # the body wrote nothing
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    path = tmp_path / "last [1].pt"
    keep = [path.name, ".last [1].pt", ".last [1].old.pt", ".last [1].0123456z.pt"]
    keep += [".other.01234567.pt", ".last 1.01234567.pt"]
    for name in [*keep, ".last [1].01234567.pt", ".last [1].deadbeef.pt"]:
        (tmp_path / name).write_text("x")
    remove_leftovers(path)
    assert sorted(os.listdir(tmp_path)) == sorted(keep)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_killed_writer_leaves_is_what_leftovers_finds(tmp_path):
    path = tmp_path / "x.bin"
    child = os.fork()
    if child == 0:  # pragma: no cover
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            os._exit(9)
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1
    assert not path.exists()
    remove_leftovers(path)
    assert os.listdir(tmp_path) == []
