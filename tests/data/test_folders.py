from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saccade.data import ImageSet, load
from saccade.errors import SaccadeError

Pack = Callable[..., Path]
Encode = Callable[..., bytes]
COLOURS = {"cat": (250, 0, 0), "dog": (0, 250, 0), "emu": (0, 0, 250)}


def of_classes(picture: Encode, folder: str, count: int) -> dict[str, bytes]:
    """`count` pictures of each class below `folder`, in several formats, each in the colour of its class."""
    formats = {"png": "PNG", "jpg": "JPEG", "JPEG": "JPEG", "webp": "WEBP", "bmp": "BMP"}
    return {
        f"{folder}{name}/{k}.{list(formats)[k % 5]}": picture(colour, format=list(formats.values())[k % 5])
        for name, colour in COLOURS.items()
        for k in range(count)
    }


def colours_match(images: ImageSet) -> bool:
    """Whether the strongest channel of each picture is that of its class (cat red, dog green, emu blue)."""
    pictures, labels = images.take(torch.arange(len(images)))
    return torch.equal(pictures.float().mean((1, 2)).argmax(1), labels)


@pytest.mark.parametrize("form", ["box", "box.zip", "box.tar", "box.tar.xz"])
@pytest.mark.parametrize("prefix", ["", "data/pets/"])
def test_train_and_test_folders(pack: Pack, picture: Encode, form: str, prefix: str) -> None:
    files = {
        **of_classes(picture, f"{prefix}train/", 10),
        **of_classes(picture, f"{prefix}test/", 4),
        f"{prefix}README.md": b"about",
    }
    path = pack(files, form)
    train, val, test = (load(path, split=split, size=8) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (27, 3, 12)
    assert train.classes == ("cat", "dog", "emu")
    assert all(colours_match(images) for images in (train, val, test))


def test_train_and_val_as_imagenet_comes(pack: Pack, picture: Encode) -> None:
    path = pack({**of_classes(picture, "train/", 10), **of_classes(picture, "val/", 4)}, "box")
    sizes = [len(load(path, split=split, size=8)) for split in ("train", "val", "test")]
    assert sizes == [27, 3, 12]  # val is the test set; a validation set is taken from train


def test_three_parts_stay_as_they_are(pack: Pack, picture: Encode) -> None:
    files = {f"{part}/": count for part, count in (("training", 6), ("validation", 3), ("test", 2))}
    path = pack({key: value for part, n in files.items() for key, value in of_classes(picture, part, n).items()}, "box")
    assert [len(load(path, split=split, size=8)) for split in ("train", "val", "test")] == [18, 9, 6]
    with pytest.raises(SaccadeError, match=r"val=0.1 was given, but it has a validation part of its own"):
        load(path, split="train", size=8, val=0.1)


def test_class_folders_alone(pack: Pack, picture: Encode) -> None:
    path = pack(of_classes(picture, "", 20), "pets.zip")
    parts = [load(path, split=split, size=8, val=6, seed=seed) for seed in (0, 1) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [48, 6, 6] * 2
    rows = [part.rows for part in parts]
    everything = torch.cat([row for row in rows[:3] if row is not None])
    assert sorted(everything.tolist()) == list(range(60))
    assert torch.equal(rows[2], rows[5])  # type: ignore[arg-type]  # another seed leaves the test set alone
    assert not torch.equal(rows[1], rows[4])  # type: ignore[arg-type]
    assert all(colours_match(part) for part in parts)
    assert parts[0].name == "pets"


def test_images_folder_below_the_class(pack: Pack, picture: Encode) -> None:
    files = {f"train/{name}/images/{k}.png": picture(colour) for name, colour in COLOURS.items() for k in range(5)}
    images = load(pack(files, "box"), split="train", val=0)
    assert (images.classes, len(images), images.size) == (("cat", "dog", "emu"), 15, (64, 64))


def test_a_class_may_be_called_train(pack: Pack, picture: Encode) -> None:
    files = {f"{name}/{k}.png": picture() for name in ("bus", "train", "test") for k in range(5)}
    assert load(pack(files, "vehicles"), split="train").classes == ("bus", "test", "train")


def test_a_split_that_is_not_there(pack: Pack, picture: Encode) -> None:
    only_train = pack(of_classes(picture, "train/", 3), "only_train")
    with pytest.raises(SaccadeError, match="no test part, only train"):
        load(only_train, split="test", size=8)
    only_test = pack(of_classes(picture, "test/", 3), "only_test")
    with pytest.raises(SaccadeError, match="no train part, only test"):
        load(only_test, split="train", size=8)
    with pytest.raises(SaccadeError, match="split='holdout' was given; it is one of train, val, test"):
        load.__wrapped__(only_test, split="holdout") if hasattr(load, "__wrapped__") else load(
            only_test,
            split="holdout",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b"x"}, "no pictures in it"),
        ({"loose.png": b"x", "cat/1.png": b"x"}, r"loose.png lies in no class folder"),
        ({"train/1.png": b"x", "test/2.png": b"x", "train/cat/1.png": b"x"}, r"in no class folder"),
        ({"train/cat/1.png": b"x", "figures/x/1.png": b"x"}, r"figures/x/1.png lies outside train"),
        ({"train/cat/1.png": b"x", "test/cat/2.png": b""}, r"could not read test/cat/2.png, train/cat/1.png"),
    ],
)
def test_folders_that_cannot_be_read(pack: Pack, home: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        load(pack(files, "box"), split="train")
    assert not (home / "data").exists() or list((home / "data").iterdir()) == []


def test_progress(pack: Pack, picture: Encode) -> None:
    seen: list[tuple[int, int]] = []
    path = pack(of_classes(picture, "", 30), "box")
    load(path, split="train", size=8, progress=lambda *at: seen.append(at))
    assert seen == [(64, 90), (90, 90)]
    load(path, split="train", size=8, progress=lambda *at: seen.append(at))
    assert len(seen) == 2  # the second time there is nothing to decode
