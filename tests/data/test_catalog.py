import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data import DATASETS, catalogue, channel_statistics, load
from saccade.data.catalog import prepare
from saccade.errors import SaccadeError

Pack = Callable[..., Path]
ARCHIVES = os.environ.get("SACCADE_ARCHIVES")


def cifar10_jpeg(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {}
    for part, count in (("train", 200), ("test", 10)):
        for k in range(count):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (k % 256, 0, 0)).save(buffer, "JPEG")
            files[f"{part}/class_{k % 10}/{k:04}.jpg"] = buffer.getvalue()
    path = pack(files, "archives/cifar10_jpg.tar.xz")
    monkeypatch.setenv("SACCADE_ARCHIVES", str(path.parent))
    return path


def test_the_table_is_complete() -> None:
    assert set(DATASETS) == {"cifar10", "cifar100", "cifar10-jpeg", "tiny-imagenet", "scenes"}
    for name, row in DATASETS.items():
        assert row.name == name
        assert row.description
        assert row.licence
        assert 0 < row.val < row.train
        assert (row.url is None) == (row.sha256 is None)
        assert row.url is None or row.url.endswith(row.files[0])  # a download is stored under the first name
        assert row.sha256 is None or len(bytes.fromhex(row.sha256)) == 32
        assert (row.kind == "archive") == (row.fill is not None) == bool(row.files)


def test_states(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {row.dataset.name: row.state for row in catalogue()}
    assert states == {
        "cifar10": "download",
        "cifar100": "download",
        "cifar10-jpeg": "missing",
        "tiny-imagenet": "download",
        "scenes": "generated",
    }
    path = cifar10_jpeg(pack, monkeypatch)
    row = next(row for row in catalogue() if row.dataset.name == "cifar10-jpeg")
    assert (row.state, row.path) == ("present", path)
    cache = prepare("cifar10-jpeg")
    row = next(row for row in catalogue() if row.dataset.name == "cifar10-jpeg")
    assert (row.state, row.path) == ("cached", cache.folder)


def test_the_splits_of_a_known_set(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10_jpeg(pack, monkeypatch)
    parts = {split: load("cifar10-jpeg", split=split, val=50) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert {split: len(images) for split, images in parts.items()} == {"train": 150, "val": 50, "test": 10}
    train, val = parts["train"].rows, parts["val"].rows
    assert train is not None
    assert val is not None
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(200))
    assert parts["train"].classes == tuple(f"class_{k}" for k in range(10))
    other = load("cifar10-jpeg", split="val", val=50, seed=1).rows
    assert other is not None
    assert not torch.equal(other, val)
    assert len(load("cifar10-jpeg", split="train", val=0)) == 200
    assert len(load("cifar10-jpeg", split="val", val=0.1)) == 20


def test_statistics_are_kept_with_the_cache(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10_jpeg(pack, monkeypatch)
    assert prepare("cifar10-jpeg").statistics("train") == channel_statistics(load("cifar10-jpeg", split="train", val=0))


def test_what_is_missing_is_said(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SaccadeError, match=r"cifar10_jpg.tar.xz.*SACCADE_ARCHIVES"):
        load("cifar10-jpeg", split="train")
    with pytest.raises(SaccadeError, match=r"none of cifar10, .*no folder or archive"):
        load(tmp_path / "nothing", split="train")
    cifar10_jpeg(pack, monkeypatch)
    with pytest.raises(SaccadeError, match="val=200 was given"):
        load("cifar10-jpeg", split="train", val=200)
    with pytest.raises(SaccadeError, match="size=0 was given"):
        load("cifar10-jpeg", split="train", size=0)


def test_scenes_by_name() -> None:
    images = load("scenes", split="val", val=40, size=16)
    assert (len(images), images.size, len(images.classes)) == (40, (16, 16), 10)
    assert not torch.equal(images.pictures, load("scenes", split="val", val=40, size=16, seed=1).pictures)


@pytest.mark.slow
@pytest.mark.skipif(
    not (ARCHIVES and (Path(ARCHIVES) / "cifar10_jpg.tar.xz").exists()),
    reason="cifar10_jpg.tar.xz is not in SACCADE_ARCHIVES",
)
def test_the_real_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_ARCHIVES", str(ARCHIVES))
    train, val, test = (load("cifar10-jpeg", split=split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (45_000, 5_000, 10_000)
    assert np.bincount(test.labels.numpy()).tolist() == [1000] * 10
    mean, std = channel_statistics(load("cifar10-jpeg", split="train", val=0))
    # CIFAR-10 itself has 0.4914 0.4822 0.4465 and 0.2470 0.2435 0.2616; the compression smoothes a little
    assert np.abs(np.subtract(mean, (0.4914, 0.4822, 0.4465))).max() < 0.001
    assert np.abs(np.subtract(std, (0.2470, 0.2435, 0.2616))).max() < 0.003
