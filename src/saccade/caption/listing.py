"""Reading which sentences belong to which picture, from every usual kind of file, with the line of whatever is wrong.

Flickr8k   `Flickr8k.token.txt` or `captions.token.txt` (name#number, a tab, a sentence) and lists of the splits
COCO       a JSON of images (id, file_name) and annotations (image_id, caption)
Karpathy   a JSON of images, each with filename, split and sentences (raw)
table      `captions.csv`, or any .csv or .tsv, with a column for the picture and one for the sentence, perhaps a
           split; or JSON lines with such keys, one sentence ("caption") or several ("captions") each
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from saccade.caption.text import tokenise
from saccade.errors import SaccadeError

PICTURE_KEYS = ("picture", "image", "file_name", "filename", "file", "path", "image_path")
CAPTION_KEYS = ("caption", "captions", "text", "sentence", "sentences", "comment")
SPLITS = {"train": "train", "restval": "train", "val": "val", "valid": "val", "dev": "val", "validation": "val",
          "test": "test"}  # fmt: skip
SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file of captions: which file, which line (0 where there is none), what."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Entry:
    """One sentence of one picture. split: "train", "val", "test", or "" where none is given."""

    picture: str
    caption: str
    split: str
    file: str
    line: int


@dataclass
class Listing:
    """All sentences found, and all that was wrong."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, picture: Any, caption: Any, split: Any, file: str, line: int) -> None:
        """Enter a sentence, or what is wrong with it."""
        if not isinstance(picture, str) or not picture.strip():
            self.problems.append(Problem(file, line, "no picture is named"))
        elif not isinstance(caption, str) or not tokenise(caption):
            self.problems.append(Problem(file, line, f"the caption of {picture} is empty"))
        elif split and str(split).lower() not in SPLITS:
            self.problems.append(Problem(file, line, f"{split!r} is no split (train, val or test)"))
        else:
            split = SPLITS[str(split).lower()] if split else ""
            self.entries.append(Entry(picture.strip().replace("\\", "/"), caption.strip(), split, file, line))


def is_caption_file(name: str) -> bool:
    """Whether a file may hold captions or splits, by its name."""
    return PurePosixPath(name).suffix.lower() in (".txt", ".csv", ".tsv", ".json", ".jsonl")


def read_listing(files: dict[str, bytes]) -> Listing:
    """The sentences in the files of a data set, given by name; files that hold none are left aside.

    Raises `SaccadeError` if none holds any.
    """
    listing = Listing()
    lists = {name: content for name, content in files.items() if name.lower().endswith(".txt") and _split_of(name)}
    for name, content in sorted(files.items()):
        read = None if name in lists else _reader(name, content)
        if read is not None:
            read(name, content, listing)
    if not listing.entries and not listing.problems:
        kinds = "captions.csv, captions.jsonl, a COCO or Karpathy JSON, or Flickr8k's token file"
        raise SaccadeError(f"Reading captions: found none in {', '.join(sorted(files)) or 'it'}; expected {kinds}.")
    return _with_splits(listing, lists) if lists else listing


def complain(problems: list[Problem], what: str) -> SaccadeError:
    """One error for all that is wrong, the first few named."""
    shown = "; ".join(map(str, problems[:SHOWN]))
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return SaccadeError(f"{what}: {shown}{more}. Mend these, or go on without them with skip_bad (--skip-bad).")


def _reader(name: str, content: bytes) -> Callable[[str, bytes, Listing], None] | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_table
    if suffix == ".jsonl":
        return _read_json_lines
    if suffix == ".json":
        return _read_json
    first = content[:400].split(b"\n", 1)[0]
    return _read_tokens if b"#" in first and b"\t" in first else None


def _lines(file: str, content: bytes, listing: Listing) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, counted from 1; one that is not UTF-8 is a problem."""
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            listing.problems.append(Problem(file, number, "this is not UTF-8 text"))
            continue
        if line.strip():
            yield number, line


def _read_tokens(file: str, content: bytes, listing: Listing) -> None:
    seen: dict[str, int] = {}
    for number, line in _lines(file, content, listing):
        key, tab, caption = line.partition("\t")
        picture, hash_, _ = key.rpartition("#")
        if not tab or not hash_:
            listing.problems.append(Problem(file, number, "expected picture#number, a tab, a sentence"))
        elif key in seen:
            listing.problems.append(Problem(file, number, f"{key} was already given in line {seen[key]}"))
        else:
            seen[key] = number
            listing.add(picture, caption, "", file, number)


def _read_table(file: str, content: bytes, listing: Listing) -> None:
    lines = list(_lines(file, content, listing))
    delimiter = "\t" if file.lower().endswith(".tsv") else ","
    rows = csv.reader(io.StringIO("\n".join(line for _, line in lines), newline=""), delimiter=delimiter)
    try:
        heads = [head.strip().lower() for head in next(rows)]
    except StopIteration:
        return
    columns = [_column(heads, keys) for keys in (PICTURE_KEYS, CAPTION_KEYS, ("split",))]
    if columns[0] is None or columns[1] is None:
        return  # a table of something else
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        if not row:
            continue
        number = lines[min(rows.line_num, len(lines)) - 1][0]
        picture, caption, split = (row[c].strip() if c is not None and c < len(row) else "" for c in columns)
        if (picture, caption) in seen:
            what = f"{picture} has this caption already, in line {seen[picture, caption]}"
            listing.problems.append(Problem(file, number, what))
            continue
        seen[picture, caption] = number
        listing.add(picture, caption, split, file, number)


def _read_json_lines(file: str, content: bytes, listing: Listing) -> None:
    ids: dict[str, int] = {}
    for number, line in _lines(file, content, listing):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            listing.problems.append(Problem(file, number, "this is no JSON object"))
            continue
        if "id" in row and str(row["id"]) in ids:
            what = f"the id {row['id']} was already given in line {ids[str(row['id'])]}"
            listing.problems.append(Problem(file, number, what))
            continue
        ids[str(row.get("id", f"line {number}"))] = number
        _add_row(row, file, number, listing)


def _read_json(file: str, content: bytes, listing: Listing) -> None:
    try:
        data = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        listing.problems.append(Problem(file, line, "this is not UTF-8 text"))
        return
    except ValueError as error:
        listing.problems.append(Problem(file, getattr(error, "lineno", 0), "this is no valid JSON"))
        return
    if isinstance(data, dict) and "annotations" in data and "images" in data:
        if any("caption" in row for row in data["annotations"]):  # else of boxes or key points
            _read_coco(data, file, listing)
    elif isinstance(data, dict) and isinstance(data.get("images"), list):
        for place, row in enumerate(data["images"], 1):
            _add_row(row if isinstance(row, dict) else {}, file, place, listing)
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for place, row in enumerate(data, 1):
            _add_row(row if isinstance(row, dict) else {}, file, place, listing)


def _read_coco(data: dict[str, Any], file: str, listing: Listing) -> None:
    names: dict[Any, str] = {}
    for place, image in enumerate(data["images"], 1):
        if image.get("id") in names:
            listing.problems.append(Problem(file, place, f"the image id {image.get('id')} was already given"))
        else:
            names[image.get("id")] = image.get("file_name", "")
    for place, row in enumerate(data["annotations"], 1):
        if row.get("image_id") not in names:
            what = f"annotation {place} is of image id {row.get('image_id')}, which is not listed"
            listing.problems.append(Problem(file, place, what))
        else:
            listing.add(names[row["image_id"]], row.get("caption"), _split_of(file), file, place)


def _add_row(row: dict[str, Any], file: str, number: int, listing: Listing) -> None:
    """A picture with one sentence, or a list of them (texts, or objects with "raw")."""
    picture = next((row[key] for key in PICTURE_KEYS if key in row), None)
    given = next((row[key] for key in CAPTION_KEYS if key in row), None)
    sentences = given if isinstance(given, list) and given else [given]
    for sentence in sentences:
        text = sentence.get("raw") if isinstance(sentence, dict) else sentence
        listing.add(picture, text, row.get("split", ""), file, number)


def _column(heads: list[str], keys: tuple[str, ...]) -> int | None:
    return next((heads.index(key) for key in keys if key in heads), None)


def _split_of(name: str) -> str:
    """The split that a file is of, by its name: "train.txt", "Flickr_8k.devImages.txt", "captions_val2014.json"."""
    stem = PurePosixPath(name).stem.lower()
    if PurePosixPath(name).suffix.lower() == ".json":
        return next((SPLITS[word] for word in ("train", "val", "test") if word in stem), "")
    bare = stem.removeprefix("flickr_8k.").removeprefix("flickr8k.").removesuffix("images")
    return SPLITS.get(bare, "") if PurePosixPath(name).suffix.lower() == ".txt" else ""


def _with_splits(listing: Listing, lists: dict[str, bytes]) -> Listing:
    """The listing with the splits of the lists of picture names; pictures in none are left out."""
    of: dict[str, str] = {}
    stems: dict[str, str] = {}
    found = Listing(problems=listing.problems)
    for file, content in sorted(lists.items()):
        for number, line in _lines(file, content, found):
            name = line.strip()
            if name in of:
                found.problems.append(Problem(file, number, f"{name} is already in the {of[name]} split"))
            of[name] = stems[PurePosixPath(name).stem] = _split_of(file)
    for entry in listing.entries:  # by name without its ending too, as re-compressed copies keep the old lists
        split = of.get(entry.picture, stems.get(PurePosixPath(entry.picture).stem, ""))
        if split:
            found.entries.append(Entry(entry.picture, entry.caption, split, entry.file, entry.line))
    return found
