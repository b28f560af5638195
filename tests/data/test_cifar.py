import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from saccade.data import load
from saccade.data.cifar import load_plain
from saccade.errors import SaccadeError

Pack = Callable[..., Path]
FORMS = [f"cifar-{classes}-{kind}.tar.gz" for classes in (10, 100) for kind in ("python", "binary")]
COUNTS = {10: (5, 6), 100: (1, 30)}  # files of training pictures, and pictures in each


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes strings as Python 2 did, in which the official archives were made."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes) -> None:
        head = b"U" + struct.pack("<B", len(value)) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
        self.write(head + value)
        self.memoize(value)

    dispatch[bytes] = save_string


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def official(classes: int, kind: str) -> tuple[dict[str, bytes], dict[str, tuple[Any, Any]]]:
    """The files of an archive with few pictures, and of each part the pictures (N, 32, 32, 3) and labels."""
    dice = np.random.default_rng(classes)
    names = [f"class_{k}" for k in range(classes)]
    folder = {"python": {10: "cifar-10-batches-py", 100: "cifar-100-python"}}.get(
        kind, {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}
    )[classes]
    batches, each = COUNTS[classes]
    train = [f"data_batch_{k + 1}" for k in range(batches)] if classes == 10 else ["train"]
    test = "test_batch" if classes == 10 else "test"
    files: dict[str, bytes] = {}
    parts: dict[str, list[tuple[Any, Any]]] = {"train": [], "test": []}
    for name in [test, *train]:
        planes = dice.integers(0, 256, (each, 3, 32, 32), dtype=np.uint8)
        labels = dice.integers(0, classes, each)
        parts["test" if name == test else "train"].append((planes.transpose(0, 2, 3, 1), labels))
        if kind == "python":
            key = b"labels" if classes == 10 else b"fine_labels"
            content = {b"data": planes.reshape(each, 3072), key: labels.tolist(), b"filenames": [b"x.png"] * each}
            files[f"{folder}/{name}"] = pickled(content)
        else:
            coarse = [] if classes == 10 else [np.full((each, 1), 255, np.uint8)]
            rows = np.hstack([*coarse, labels[:, None].astype(np.uint8), planes.reshape(each, 3072)])
            files[f"{folder}/{name}.bin"] = rows.tobytes()
    text = "\n".join(names).encode() + b"\n"
    if kind == "binary":
        files[f"{folder}/{'batches.meta.txt' if classes == 10 else 'fine_label_names.txt'}"] = text
    else:
        key = b"label_names" if classes == 10 else b"fine_label_names"
        files[f"{folder}/{'batches.meta' if classes == 10 else 'meta'}"] = pickled(
            {key: [name.encode() for name in names]}
        )
    joined = {part: tuple(np.concatenate(column) for column in zip(*rows, strict=True)) for part, rows in parts.items()}
    return files, joined  # type: ignore[return-value]


def placed(pack: Pack, form: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    path = pack(files, f"archives/{form}")
    monkeypatch.setenv("SACCADE_ARCHIVES", str(path.parent))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_official_archives(pack: Pack, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = int(form.split("-")[1])
    files, expected = official(classes, "python" if "python" in form else "binary")
    placed(pack, form, files, monkeypatch)
    for part, (pictures, labels) in expected.items():
        images = load(f"cifar{classes}", split=part, val=0)  # type: ignore[arg-type]
        assert np.array_equal(images.pictures.numpy(), pictures)
        assert np.array_equal(images.labels.numpy(), labels)
        assert images.classes == tuple(f"class_{k}" for k in range(classes))


def test_an_unpacked_archive_and_another_size(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    files, expected = official(10, "python")
    path = pack(files, "archives")
    monkeypatch.setenv("SACCADE_ARCHIVES", str(path))
    assert np.array_equal(load("cifar10", split="test").pictures.numpy(), expected["test"][0])
    small = load("cifar10", split="test", size=16)
    assert small.size == (16, 16)
    # antialiased: the mean of a picture hardly changes
    assert np.abs(small.pictures.numpy().mean((1, 2)) - expected["test"][0].mean((1, 2))).max() < 8


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_would_run_code_is_refused(pack: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files, _ = official(10, "python")
    trace = tmp_path / "code_ran"
    files["cifar-10-batches-py/data_batch_3"] = pickle.dumps({b"data": Evil(trace), b"labels": []})
    placed(pack, "cifar-10-python.tar.gz", files, monkeypatch)
    with pytest.raises(SaccadeError, match=r"data_batch_3 in it is damaged \(it asks for .*system"):
        load("cifar10", split="train")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__", "exec"])
def test_builtins_are_refused(name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=name):
        load_plain(f"cbuiltins\n{name}\n.".encode())


def test_plain_values_and_arrays_pass() -> None:
    value = {"a": [1, 2.5, None, True], "b": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        if protocol < 5:  # protocol 5 hands arrays over by another function, which no CIFAR file uses
            back = load_plain(pickle.dumps(value, protocol=protocol))
            assert next(iter(back.values())) == [1, 2.5, None, True]
            assert np.array_equal(list(back.values())[1], value["b"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cifar-10-batches-py/data_batch_2": None}, "files of its train part are missing"),
        ({"cifar-10-batches-py/test_batch": None}, "files of its test part are missing"),
        ({"cifar-10-batches-py/batches.meta": None}, "class names .* are missing"),
        ({"cifar-10-batches-py/data_batch_2": b"not a pickle"}, "data_batch_2 in it is damaged"),
        ({"cifar-10-batches-py/batches.meta": b"not a pickle"}, "batches.meta in it is damaged"),
        (
            {"cifar-10-batches-py/data_batch_2": pickled({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]})},
            "2 pictures, 1 labels",
        ),
        (
            {"cifar-10-batches-py/test_batch": pickled({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]})},
            "a label outside 0 to 9",
        ),
    ],
)
def test_damaged_archives(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, change: dict[str, bytes | None], message: str
) -> None:
    files, _ = official(10, "python")
    changed = {name: change.get(name, content) for name, content in files.items()}
    whole = {name: content for name, content in changed.items() if content is not None}
    placed(pack, "cifar-10-python.tar.gz", whole, monkeypatch)
    with pytest.raises(SaccadeError, match=message):
        load("cifar10", split="train")


def test_a_cut_download(pack: Pack, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    files, _ = official(100, "python")
    path = placed(pack, "cifar-100-python.tar.gz", files, monkeypatch)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SaccadeError, match=r"cifar-100-python.tar.gz: the archive is cut or damaged"):
        load("cifar100", split="test")
    assert list((home / "data").iterdir()) == []
