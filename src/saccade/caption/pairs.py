"""Pictures with their sentences: Flickr8k, COCO, any folder or archive with captions, generated scenes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from saccade.caption.listing import Entry, Listing, Problem, complain, is_caption_file, read_listing
from saccade.data.archives import Progress, is_archive, members
from saccade.data.cache import Cache, Labelling, Writer, build
from saccade.data.decode import Fit, decode, is_picture
from saccade.data.scenes import Scene, draw_scenes
from saccade.engine.fetch import locate
from saccade.engine.files import write_text
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

KNOWN = {
    "flickr8k": (
        "Flickr8k",
        "flickr8k",
        "flickr8k.zip",
        "flickr8k.tar.gz",
        "flickr8k_192.tar.xz",
    ),
    "coco": ("coco", "coco2014", "coco2017"),
}
SCENES = {"train": 10_000, "val": 500, "test": 500}
_HELD_OUT = 0.1  # of the pictures of a folder without splits, for each of val and test


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """One split of a data set of captions.

    pictures: uint8 (total, S, S, 3), sRGB, perhaps in a memory map. rows: which of them belong to this split. captions:
    the sentences of each. names: their files. scenes: the truth about each, if they were generated.
    key: names the pictures as they lie in `pictures`, for a cache of their features.
    """

    name: str
    split: str
    pictures: UInt8[Tensor, "total s s 3"]
    rows: Int[Tensor, " n"]
    captions: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    key: str
    scenes: tuple[Scene, ...] = ()
    skipped: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.captions)

    def subset(self, indices: Sequence[int]) -> "CaptionSet":
        """The pictures at `indices`, as a set of their own (no copy of pixels)."""
        return replace(
            self,
            rows=self.rows[torch.as_tensor(indices, dtype=torch.int64)],
            captions=tuple(self.captions[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
            scenes=tuple(self.scenes[i] for i in indices) if self.scenes else (),
        )


def load_captions(
    name_or_path: str | Path,
    *,
    split: str = "train",
    size: int = 192,
    fit: Fit = "squash",
    seed: int = 0,
    count: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> CaptionSet:
    """One split of a data set of captions; pictures are decoded on the first call only.

    Args:
        name_or_path: "flickr8k", "coco", "scenes", or a folder, zip or tar with pictures and a file of captions (see
            `saccade.caption.listing` for the kinds).
        split: "train", "val" or "test". Where the captions name no splits, a tenth of the pictures each is held out.
        size: side of the pictures in pixels. fit: how another shape becomes a square: "squash", "crop" or "pad".
        seed: which pictures are held out; of scenes, which scenes.
        count: only so many pictures; of scenes, how many.
        skip_bad: leave out what is wrong (it is listed in `skipped`) instead of raising.

    Raises:
        SaccadeError: the data are missing; or a picture is missing or unreadable, a caption is empty, a line is not
            UTF-8, an id is given twice: each named by file and line.
    """
    if split not in ("train", "val", "test"):
        raise SaccadeError(f"Loading captions: split={split!r} was given; it is train, val or test.")
    if str(name_or_path) == "scenes":
        return _scenes(split, size, seed, SCENES[split] if count is None else count)
    source = _source(name_or_path)
    name = str(name_or_path) if str(name_or_path) in KNOWN else source.resolve().name.split(".")[0]

    def fill(writer: Writer) -> Labelling:
        return _fill(source, writer, progress)

    cache = build(source, fill, name=f"captions-{name}", size=size, fit=fit)
    found = _select(cache, name, split, seed, skip_bad)
    return found if count is None else found.subset(range(min(count, len(found))))


def _source(name_or_path: str | Path) -> Path:
    if str(name_or_path) in KNOWN:
        return locate(KNOWN[str(name_or_path)])
    source = Path(name_or_path).expanduser()
    if not (source.is_dir() or is_archive(source)):
        raise SaccadeError(
            f"Loading captions: {name_or_path} is none of {', '.join(KNOWN)}, scenes, and there is no folder or "
            "archive (zip, tar, tar.gz, tar.xz, tar.bz2) of that path."
        )
    return source


def _fill(source: Path, writer: Writer, progress: Progress | None) -> Labelling:
    """Decode every picture that a caption names; put all sentences and problems down in `captions.json`."""
    files = dict(members(source, wanted=is_caption_file))
    listing = read_listing(files)
    wanted = {PurePosixPath(entry.picture).name for entry in listing.entries}
    kept: list[str] = []
    broken: list[str] = []

    def asked(name: str) -> bool:
        return is_picture(name) and PurePosixPath(name).name in wanted

    for name, content in members(source, wanted=asked, progress=progress):
        try:
            picture = decode(content, size=writer.size, fit=writer.fit)
        except ValueError:
            broken.append(name)
            continue
        writer.add_pixels("all", [name], picture[None])
        kept.append(name)
    state = {
        "entries": [list(asdict(entry).values()) for entry in listing.entries],
        "problems": [list(asdict(problem).values()) for problem in listing.problems],
        "broken": broken,
    }
    write_text(writer.folder / "captions.json", json.dumps(state))
    return Labelling(kept, {name: number for number, name in enumerate(kept)})


def _select(cache: Cache, name: str, split: str, seed: int, skip_bad: bool) -> CaptionSet:
    state = json.loads((cache.folder / "captions.json").read_text("utf-8"))
    listing = Listing([Entry(*row) for row in state["entries"]], [Problem(*row) for row in state["problems"]])
    images = cache.images("all")
    places = {picture: row for row, picture in enumerate(images.classes)}
    short = {PurePosixPath(picture).name: row for picture, row in places.items()}
    broken = {PurePosixPath(picture).name for picture in state["broken"]}
    of: dict[int, list[Entry]] = {}
    for entry in listing.entries:
        base = PurePosixPath(entry.picture).name
        row = places.get(entry.picture, short.get(base))
        if row is None:
            why = "cannot be read as a picture" if base in broken else "is missing"
            listing.problems.append(Problem(entry.file, entry.line, f"{entry.picture} {why}"))
        else:
            of.setdefault(row, []).append(entry)
    if listing.problems and not skip_bad:
        raise complain(listing.problems, f"Loading captions of {name}")
    rows = _rows_of_split(of, split, seed, name)
    return CaptionSet(
        name,
        split,
        images.pictures,
        torch.tensor(rows, dtype=torch.int64),
        tuple(tuple(entry.caption for entry in of[row]) for row in rows),
        tuple(images.classes[row] for row in rows),
        cache.folder.name,
        skipped=tuple(listing.problems),
    )


def _rows_of_split(of: dict[int, list[Entry]], split: str, seed: int, name: str) -> list[int]:
    """The pictures of a split: as the captions say or, where none says anything, drawn by the seed."""
    splits = {row: entries[0].split for row, entries in of.items()}
    named = set(splits.values()) - {""}
    if named:
        rows = [row for row, given in splits.items() if given == split]
        if not rows:
            raise SaccadeError(f"Loading captions of {name}: it has no {split} split, only {', '.join(sorted(named))}.")
        return rows
    if len(of) < 3:
        raise SaccadeError(f"Loading captions of {name}: {len(of)} pictures have captions, at least 3 are needed.")
    order = torch.randperm(len(of), generator=generator(0xCA9, seed)).tolist()
    held = max(round(_HELD_OUT * len(of)), 1)
    parts = {"test": order[:held], "val": order[held : 2 * held], "train": order[2 * held :]}
    rows = sorted(of)
    return [rows[i] for i in sorted(parts[split])]


def _scenes(split: str, size: int, seed: int, count: int) -> CaptionSet:
    drawn = draw_scenes(range(count), size=size, seed=seed, split=split)
    return CaptionSet(
        "scenes",
        split,
        torch.stack([one.picture for one in drawn]),
        torch.arange(count),
        tuple(one.captions for one in drawn),
        tuple(f"scene {number}" for number in range(count)),
        f"scenes-{split}-{seed}-{size}-{count}",
        tuple(drawn),
    )
