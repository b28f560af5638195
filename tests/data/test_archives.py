import os
from collections.abc import Callable
from pathlib import Path

import pytest

from saccade.data.archives import is_archive, members, names
from saccade.errors import SaccadeError

FORMS = ["box", "box.zip", "box.tar", "box.tar.gz", "box.tar.bz2", "box.tar.xz"]
Pack = Callable[..., Path]
Noise = Callable[..., bytes]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_files(pack: Pack, form: str) -> None:
    files = {"a/1.png": b"one", "a/2.png": b"", "b/3.txt": b"three" * 1000}
    path = pack({**files, ".hidden": b"x", "__MACOSX/a/1.png": b"x", "a/._1.png": b"x"}, form)
    assert dict(members(path)) == files
    assert names(path, wanted=lambda name: name.endswith(".png")) == ["a/1.png", "a/2.png"]


@pytest.mark.parametrize("form", FORMS[1:])
def test_the_content_decides_not_the_suffix(pack: Pack, form: str) -> None:
    path = pack({"a/1.png": b"one"}, form)
    other = path.rename(path.with_name("misnamed.tar"))
    assert dict(members(other)) == {"a/1.png": b"one"}


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_cut_archive_is_named_with_how_far_it_was_read(pack: Pack, noise: Noise, form: str, share: float) -> None:
    path = pack({f"a/{k}.png": noise(k) for k in range(40)}, form)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(SaccadeError, match=r"box.*cut or damaged.*files could be read, up to .* of .* MB"):
        list(members(path))


def test_a_tar_cut_between_two_files_is_noticed(pack: Pack) -> None:
    path = pack({"a": b"x" * 512, "b": b"y" * 512}, "box.tar")
    os.truncate(path, 1024)  # a header and its file: nothing in it tells that another should follow
    with pytest.raises(SaccadeError, match="1 files could be read"):
        list(members(path))


@pytest.mark.parametrize("form", ["box.tar.gz", "box.tar.xz", "box.zip"])
def test_a_flipped_bit_is_noticed(pack: Pack, noise: Noise, form: str) -> None:
    path = pack({f"a/{k}.png": noise(k) for k in range(10)}, form)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SaccadeError, match="cut or damaged"):
        list(members(path))


def test_progress_ends_at_the_total_and_never_falls(pack: Pack, noise: Noise) -> None:
    path = pack({f"a/{k}.png": noise(k, size=8) for k in range(200)}, "box.tar.xz")
    seen: list[tuple[int, int]] = []
    list(members(path, progress=lambda done, total: seen.append((done, total))))
    size = path.stat().st_size
    assert len(seen) >= 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (size, size)
    seen.clear()
    list(members(pack({f"{k}.png": b"" for k in range(70)}, "plain"), progress=lambda *at: seen.append(at)))
    assert seen == [(64, 70), (70, 70)]


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match=r"no file or folder .*nowhere"):
        list(members(tmp_path / "nowhere"))


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "letter.tar").write_text("Dear reader, " * 100)
    with pytest.raises(SaccadeError, match=r"letter.tar.*cut or damaged.*0 files"):
        list(members(tmp_path / "letter.tar"))


def test_is_archive() -> None:
    assert [is_archive(Path(name)) for name in ("a.TAR.XZ", "a.zip", "a.tgz", "a.png", "a")] == [True] * 3 + [False] * 2
