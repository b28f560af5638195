"""Tiny ImageNet (Le and Yang 2015): 200 classes, 100,000 training and 10,000 validation pictures of 64 x 64.

The labels of its official test set were never published, so, as everywhere, the official validation set is
the test set here, and a validation set is split from the training pictures.
"""

from pathlib import Path, PurePosixPath

from saccade.data.archives import Progress, members
from saccade.data.cache import Labelling, Writer
from saccade.data.decode import is_picture
from saccade.errors import SaccadeError

_LISTS = ("wnids.txt", "words.txt", "val_annotations.txt")


def fill(source: Path, writer: Writer, *, progress: Progress | None = None) -> Labelling:
    """Read the official layout from a folder, zip or tar, in one pass and in any order of its files.

    train/<wnid>/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt, wnids.txt and words.txt; the
    folder `tiny-imagenet-200` above them may be there or not. Classes come in the order of their WordNet
    numbers.
    """
    lists: dict[str, str] = {}
    for name, content in members(source, wanted=_wanted, progress=progress):
        path = PurePosixPath(name)
        if path.name in _LISTS:
            lists[path.name] = content.decode("utf-8")
        elif path.parts[-4:-3] == ("train",):
            writer.add("train", path.parts[-3], name, content)
        else:
            writer.add("test", path.name, name, content)
    missing = [name for name in _LISTS if name not in lists]
    if missing:
        raise SaccadeError(f"Reading Tiny ImageNet from {source}: {', '.join(missing)} is missing in it.")
    wnids = sorted(lists["wnids.txt"].split())
    index = {wnid: number for number, wnid in enumerate(wnids)}
    for line in lists["val_annotations.txt"].splitlines():
        picture, wnid, *_ = line.split("\t")
        index[picture] = index[wnid]
    return Labelling(class_names(wnids, lists["words.txt"]), index)


def class_names(wnids: list[str], words: str) -> list[str]:
    """One short name for each WordNet number: the first of its synonyms; all of them where the first is not
    unique."""
    synonyms = dict(line.split("\t", 1) for line in words.splitlines() if "\t" in line)
    full = [synonyms.get(wnid, wnid).strip() for wnid in wnids]
    first = [name.split(",")[0] for name in full]
    return [long if first.count(short) > 1 else short for short, long in zip(first, full, strict=True)]


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    if path.name in _LISTS:
        return True
    in_train = path.parts[-4:-3] == ("train",) and path.parts[-2] == "images"
    return is_picture(path.name) and (in_train or path.parts[-3:-1] == ("val", "images"))
