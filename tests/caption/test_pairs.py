"""Files of captions of every kind, and everything that can be wrong with them, named by file and line."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.caption import load_captions
from saccade.caption.listing import read_listing
from saccade.data import holds
from saccade.errors import SaccadeError

NAMES = [f"{i}.png" for i in range(6)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))


def picture(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (40 * i, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def folder(tmp_path: Path, files: dict[str, str | bytes], *, inside: str = "images") -> Path:
    """A folder with six pictures, each of its own red, and these files."""
    root = tmp_path / "set"
    (root / inside).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(NAMES):
        (root / inside / name).write_bytes(picture(i))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


TOKENS = "".join(f"{name}#{k}\tPicture {i}, sentence {k} .\n" for i, name in enumerate(NAMES) for k in range(2))
LISTS = {"train.txt": "0.png\n1.png\n2.png\n", "dev.txt": "3.png\n", "test.txt": "4.png\n"}


def rows(split_of):
    return [(name, f"Picture {i}, sentence {k} .", split_of(i)) for i, name in enumerate(NAMES) for k in range(2)]


def split_of(i: int) -> str:
    return "train" if i < 3 else "val" if i == 3 else "test"


KINDS = {
    "flickr8k": {"captions.token.txt": TOKENS, **LISTS},
    "official flickr8k": {
        "Flickr8k.token.txt": TOKENS.replace(".png", ".jpg"),
        **{f"Flickr_8k.{part}Images.txt": text.replace(".png", ".jpg") for part, text in
           (("train", LISTS["train.txt"]), ("dev", LISTS["dev.txt"]), ("test", LISTS["test.txt"]))},
    },
    "csv": {"captions.csv": "image,caption,split\n" + "".join(f'images/{n},"{c}",{s}\n' for n, c, s in rows(split_of))},
    "tsv": {"x.tsv": "file_name\tsplit\ttext\n" + "".join(f"{n}\t{s}\t{c}\n" for n, c, s in rows(split_of))},
    "json lines": {"captions.jsonl": "".join(
        json.dumps({"file_name": n, "caption": c, "split": s}) + "\n" for n, c, s in rows(split_of))},
    "json lines, many": {"captions.jsonl": "".join(
        json.dumps({"id": i, "image": n, "split": split_of(i),
                    "captions": [f"Picture {i}, sentence {k} ." for k in (0, 1)]}) + "\n"
        for i, n in enumerate(NAMES))},
    "karpathy": {"dataset.json": json.dumps({"images": [
        {"filename": n, "split": {"val": "val", "train": "restval"}.get(split_of(i), "test"),
         "sentences": [{"raw": f"Picture {i}, sentence {k} ."} for k in (0, 1)]} for i, n in enumerate(NAMES)]})},
    "coco": {
        f"annotations/captions_{part}2014.json": json.dumps({
            "images": [{"id": i, "file_name": n} for i, n in enumerate(NAMES) if split_of(i) == part],
            "annotations": [{"image_id": i, "caption": f"Picture {i}, sentence {k} ."}
                            for i in range(6) if split_of(i) == part for k in (0, 1)]})
        for part in ("train", "val", "test")
    } | {"annotations/instances_train2014.json": json.dumps(
        {"images": [{"id": 0, "file_name": "0.png"}], "annotations": [{"image_id": 0, "bbox": [0, 0, 1, 1]}]})},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_says_the_same(kind, tmp_path):
    files = KINDS[kind]
    if kind == "official flickr8k":  # lists name .jpg, the pictures at hand are .png
        files = {name: text.replace(".jpg", ".png") if "token" in name else text for name, text in files.items()}
    root = folder(tmp_path, files)
    for split, expected in (("train", [0, 1, 2]), ("val", [3]), ("test", [4] if "flickr8k" in kind else [4, 5])):
        data = load_captions(root, split=split, size=8)
        assert sorted(Path(name).name for name in data.names) == [NAMES[i] for i in expected]
        for row, name, captions in zip(data.rows.tolist(), data.names, data.captions, strict=True):
            number = NAMES.index(Path(name).name)
            assert captions == (f"Picture {number}, sentence 0 .", f"Picture {number}, sentence 1 .")
            assert data.pictures[row].flatten(0, 1).unique(dim=0).tolist() == [[40 * number, 0, 0]]


def test_an_archive_reads_as_its_folder(tmp_path):
    root = folder(tmp_path, KINDS["flickr8k"])
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, path.relative_to(root))
    data = load_captions(tmp_path / "set.tar.gz", split="train", size=8)
    assert [Path(name).name for name in data.names] == NAMES[:3]
    again = load_captions(tmp_path / "set.tar.gz", split="train", size=8)
    assert again.key == data.key


def test_without_splits_a_tenth_is_held_out_by_the_seed(tmp_path):
    root = folder(tmp_path, {"captions.csv": "image,caption\n" + "".join(f"{n},a red thing {n[0]}\n" for n in NAMES)})
    parts = {split: load_captions(root, split=split, size=8, seed=3).names for split in ("train", "val", "test")}
    assert sorted(len(names) for names in parts.values()) == [1, 1, 4]
    assert len({name for names in parts.values() for name in names}) == 6


PROBLEMS = {
    "a missing picture": (
        b"image,caption\n0.png,a b\nlost.png,a b\n1.png,c\n2.png,d\n",
        "captions.csv, line 3: lost.png is missing",
    ),
    "an empty caption": (
        b"image,caption\n0.png,a b\n1.png, ...\n2.png,c\n3.png,d\n",
        "captions.csv, line 3: the caption of 1.png is empty",
    ),
    "wrong encoding": (
        b"image,caption\n0.png,a b\n1.png,caf\xe9\n2.png,c\n3.png,d\n",
        "captions.csv, line 3: this is not UTF-8 text",
    ),
    "the same line twice": (
        b"image,caption\n0.png,a b\n1.png,c\n0.png,a b\n2.png,d\n",
        "line 4: 0.png has this caption already, in line 2",
    ),
    "no name": (b"image,caption\n0.png,a b\n,c\n1.png,c\n2.png,d\n", "line 3: no picture is named"),
    "no split": (
        b"image,caption,split\n0.png,a b,train\n1.png,c,training\n2.png,d,train\n3.png,e,val\n",
        "line 3: 'training' is no split",
    ),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_what_is_wrong_is_named_by_line_and_left_out_only_when_asked(kind, tmp_path):
    content, message = PROBLEMS[kind]
    root = folder(tmp_path, {"captions.csv": content})
    with pytest.raises(SaccadeError) as error:
        load_captions(root, split="train", size=8)
    assert message in str(error.value)
    assert "--skip-bad" in str(error.value)
    data = load_captions(root, split="train", size=8, skip_bad=True)
    assert len(data) >= 1
    assert message in " ".join(map(str, data.skipped))


def test_a_picture_that_cannot_be_read_is_named_by_the_lines_that_want_it(tmp_path):
    root = folder(tmp_path, {"captions.token.txt": TOKENS, **LISTS, "images/1.png": picture(1)[:40]})
    with pytest.raises(SaccadeError) as error:
        load_captions(root, split="train", size=8)
    assert "captions.token.txt, line 3: 1.png cannot be read as a picture" in str(error.value)
    assert "line 4: 1.png" in str(error.value)
    assert len(load_captions(root, split="train", size=8, skip_bad=True)) == 2


def test_duplicate_ids_are_found_in_every_kind():
    found = read_listing({"captions.token.txt": TOKENS.encode() + b"0.png#0\tAgain .\n"})
    assert str(found.problems[0]) == "captions.token.txt, line 13: 0.png#0 was already given in line 1"
    found = read_listing(
        {"a.jsonl": b'{"id": 7, "image": "a", "caption": "b"}\n{"id": 7, "image": "a", "caption": "c"}\n'}
    )
    assert str(found.problems[0]) == "a.jsonl, line 2: the id 7 was already given in line 1"
    coco = {"images": [{"id": 1, "file_name": "a"}] * 2, "annotations": [{"image_id": 2, "caption": "b"}]}
    found = read_listing({"captions_val.json": json.dumps(coco).encode()})
    assert [p.what for p in found.problems] == [
        "the image id 1 was already given",
        "annotation 1 is of image id 2, which is not listed",
    ]


def test_damaged_json_is_one_problem():
    found = read_listing({"a.json": b'{"images": [\n{]', "b.jsonl": b'{"image": "a", "caption": "b"}\nnonsense\n'})
    assert [str(p) for p in found.problems] == [
        "a.json, line 2: this is no valid JSON",
        "b.jsonl, line 2: this is no JSON object",
    ]


def test_where_there_are_no_captions_the_kinds_are_named(tmp_path):
    with pytest.raises(SaccadeError, match=r"found none in it; expected captions.csv, captions.jsonl"):
        load_captions(folder(tmp_path, {}))
    with pytest.raises(SaccadeError, match="none of flickr8k, coco, scenes, and there is no folder"):
        load_captions(tmp_path / "nowhere")
    with pytest.raises(SaccadeError, match="split='dev' was given"):
        load_captions("scenes", split="dev")


def test_scenes_are_pictures_with_true_sentences():
    data = load_captions("scenes", split="val", size=32, count=5)
    assert len(data) == 5
    assert data.pictures.shape == (5, 32, 32, 3)
    for scene, captions in zip(data.scenes, data.captions, strict=True):
        assert all(holds(caption, scene) for caption in captions)
    part = data.subset([3, 1])
    assert part.captions == (data.captions[3], data.captions[1])
    assert np.array_equal(part.pictures[part.rows[0]], data.scenes[3].picture)
