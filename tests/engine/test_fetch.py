"""Files are found in the cache, then in the archives, then at an address (a server on this machine)."""

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from saccade.engine import fetch
from saccade.errors import SaccadeError

BODY = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/gone.bin":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000] if self.path == "/cut.bin" else BODY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """An empty cache and two empty archives."""
    folders = tmp_path / "cache", tmp_path / "one", tmp_path / "two"
    for folder in folders[1:]:
        folder.mkdir()
    monkeypatch.setenv("SACCADE_HOME", str(folders[0]))
    monkeypatch.setenv("SACCADE_ARCHIVES", os.pathsep.join(map(str, folders[1:])))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folders


def test_cache_before_archives_and_archives_in_order(places: tuple[Path, Path, Path]) -> None:
    for folder in reversed(places):
        folder.mkdir(exist_ok=True)
        (folder / "a.bin").write_bytes(b"")
        assert fetch.locate("a.bin") == folder / "a.bin"


def test_second_name_and_folders_are_found(places: tuple[Path, Path, Path]) -> None:
    (places[1] / "set").mkdir()
    assert fetch.locate(["set.tar", "set"]) == places[1] / "set"
    assert fetch.find("nothing") is None


def test_default_cache_is_the_users_and_archives_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_HOME", raising=False)
    monkeypatch.delenv("SACCADE_ARCHIVES", raising=False)
    assert fetch.archive_folders() == []
    assert "saccade" in str(fetch.cache_folder()).lower()


@pytest.mark.parametrize("digits", [8, 64])
def test_download_is_checked_stored_and_reported(server: str, places: tuple[Path, Path, Path], digits: int) -> None:
    seen: list[tuple[int, int]] = []
    sha = hashlib.sha256(BODY).hexdigest()[:digits]
    path = fetch.locate("b.bin", url=f"{server}/b.bin", sha256=sha, progress=lambda a, b: seen.append((a, b)))
    assert path == places[0] / "b.bin"
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert fetch.locate("b.bin", url="http://127.0.0.1:1/never-asked") == path


@pytest.mark.parametrize(
    ("page", "sha256", "words"),
    [
        ("gone.bin", None, "HTTP status 404"),
        ("cut.bin", None, "download failed"),
        ("other.bin", "0" * 64, "SHA-256"),
    ],
)
def test_a_bad_download_leaves_nothing(
    server: str, places: tuple[Path, Path, Path], page: str, sha256: str | None, words: str
) -> None:
    with pytest.raises(SaccadeError, match=words):
        fetch.locate(page, url=f"{server}/{page}", sha256=sha256)
    assert list(places[0].iterdir()) == []


def test_missing_file_names_itself_and_three_ways(places: tuple[Path, Path, Path]) -> None:
    for url in (None, "http://127.0.0.1:1/c.bin"):
        with pytest.raises(SaccadeError) as caught:
            fetch.locate("c.bin", url=url)
        expected = ["c.bin", str(places[0]), "SACCADE_ARCHIVES", url or "published"]
        assert all(word in str(caught.value) for word in expected)


def test_a_short_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"")
    fetch.check_sha256(tmp_path / "d", "e3b0c442")  # the well-known digest of nothing
    with pytest.raises(ValueError, match="8 to 64"):
        fetch.check_sha256(tmp_path / "d", "e3b0")


def test_an_unwritable_cache_is_one_sentence(server: str, places: tuple[Path, Path, Path]) -> None:
    places[0].write_bytes(b"a file where the folder should be")
    with pytest.raises(SaccadeError, match="Could not write"):
        fetch.locate("e.bin", url=f"{server}/e.bin")
