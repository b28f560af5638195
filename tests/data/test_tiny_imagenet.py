import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data import load
from saccade.data.tiny_imagenet import class_names
from saccade.errors import SaccadeError

Pack = Callable[..., Path]
ARCHIVES = os.environ.get("SACCADE_ARCHIVES")
WNIDS = ["n02", "n01", "n03"]  # as in the official file, not sorted
WORDS = "n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane, derrick\n"


def grey(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L" if level % 2 else "RGB", (64, 64), level if level % 2 else (level,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def official(prefix: str = "tiny-imagenet-200/") -> dict[str, bytes]:
    """Two training and one validation picture of each of three classes; the grey tells which."""
    files = {}
    for k, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x\t0\t0\t1\t1\n"
        for i in range(2):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = grey(50 * k + i)
    for k in range(3):
        files[f"val/images/val_{k}.JPEG"] = grey(50 * k + 2)
        files[f"test/images/test_{k}.JPEG"] = grey(250)
    lines = [f"val_{k}.JPEG\t{wnid}\t0\t0\t10\t10" for k, wnid in enumerate(WNIDS)]
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    files["wnids.txt"] = "\n".join(WNIDS).encode()
    files["words.txt"] = WORDS.encode()
    return {prefix + name: content for name, content in files.items()}


def placed(pack: Pack, form: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    path = pack(files, f"archives/{form}")
    monkeypatch.setenv("SACCADE_ARCHIVES", str(path.parent))
    return path


@pytest.mark.parametrize("prefix", ["tiny-imagenet-200/", "", "./"])
@pytest.mark.parametrize("form", ["zip", "tar.xz", "tar.gz", "tar"])
def test_official_layout(pack: Pack, form: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(pack, f"tiny-imagenet-200.{form}", official(prefix), monkeypatch)
    train, test = (load("tiny-imagenet", split=split, size=64, val=0) for split in ("train", "test"))
    assert train.classes == ("goldfish", "crane", "crane, derrick")  # by WordNet number; the doubled name in full
    assert (len(train), len(test), train.size) == (6, 3, (64, 64))
    rank = {0: 1, 1: 0, 2: 2}  # place in wnids.txt to class index
    for images in (train, test):
        pictures, labels = images.take(torch.arange(len(images)))
        for picture, label in zip(pictures, labels, strict=True):
            level = int(picture.float().mean().round())
            assert rank[level // 50] == int(label)


def test_a_folder_and_a_smaller_size(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(pack, "tiny-imagenet-200", official(""), monkeypatch)
    images = load("tiny-imagenet", split="test", size=48)
    assert images.size == (48, 48)
    assert images.pictures.float().mean((1, 2, 3)).round().tolist() == [2, 52, 102]


def test_missing_lists_are_named(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: content for name, content in official().items() if "words" not in name}
    placed(pack, "tiny-imagenet-200.tar", files, monkeypatch)
    with pytest.raises(SaccadeError, match=r"words.txt is missing"):
        load("tiny-imagenet", split="train")


def test_a_picture_without_a_class_is_named(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**official(), "tiny-imagenet-200/val/images/val_77.JPEG": grey(8)}
    placed(pack, "tiny-imagenet-200.tar", files, monkeypatch)
    with pytest.raises(SaccadeError, match=r"no class is given for val_77.JPEG"):
        load("tiny-imagenet", split="train")


def test_names() -> None:
    assert class_names(["n03", "n09", "n01"], WORDS) == ["crane", "n09", "goldfish"]


@pytest.mark.slow
@pytest.mark.skipif(
    not (ARCHIVES and (Path(ARCHIVES) / "tiny-imagenet-200.tar.xz").exists()),
    reason="tiny-imagenet-200.tar.xz is not in SACCADE_ARCHIVES",
)
def test_the_real_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_ARCHIVES", str(ARCHIVES))
    train, val, test = (load("tiny-imagenet", split=split, size=16) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (95_000, 5_000, 10_000)
    assert len(set(train.classes)) == 200
    assert train.classes[:3] == ("goldfish", "European fire salamander", "bullfrog")
    for images, each in ((train, 475), (val, 25), (test, 50)):
        rows = images.labels if images.rows is None else images.labels[images.rows]
        assert np.bincount(rows.numpy()).tolist() == [each] * 200
