"""Generated scenes: an endless, seeded data set that needs no download and comes with the whole truth about
itself.

One to four coloured, textured shapes on a textured background. Known of each scene: the class (shape of the
main object, which is the largest), every object with its place, the pixels where it shows, and true sentences
about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from saccade.data import scene_draw
from saccade.data.images import ImageSet
from saccade.data.scene_draw import COLOURS, MOST, SIZES, SPLITS, Plan
from saccade.data.scene_grammar import SceneObject, captions_of, full_caption, parse, true_of
from saccade.data.scene_shapes import BACKGROUNDS, FILLS, SHAPES
from saccade.errors import SaccadeError

_PIXELS = 1 << 16  # drawn together: few enough that the arrays stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and the truth about it.

    picture: uint8 (H, W, 3). objects: in the order of painting, the last on top. main: which of them is the
    largest.
    label: its shape, as an index into `SHAPES`. masks: bool (K, H, W), the pixels where each object shows; no
    pixel belongs to two. background: a word of `BACKGROUNDS`. captions: true sentences, the most complete
    first.
    """

    picture: UInt8[Tensor, "h w 3"]
    label: int
    objects: tuple[SceneObject, ...]
    main: int
    masks: Bool[Tensor, "k h w"]
    background: str
    captions: tuple[str, ...]


def scene(index: int, *, size: int = 64, seed: int = 0, split: str = "train") -> Scene:
    """The `index`-th scene of a stream; the same scene whenever it is asked for.

    Args:
        index: 0 or more; there is no end.
        size: side of the picture in pixels, 16 to 512; the scene is the same at every size.
        seed, split: which stream; the streams of "train", "val" and "test" share no scene.

    Raises:
        SaccadeError: a value out of range.
    """
    return draw_scenes([index], size=size, seed=seed, split=split)[0]


def draw_scenes(indices: Sequence[int], *, size: int = 64, seed: int = 0, split: str = "train") -> list[Scene]:
    """Several scenes of a stream at once, which is much faster than one by one; see `scene`."""
    _check(indices, size, split)
    drawn: list[Scene] = []
    together = max(_PIXELS // size**2, 1)
    for start in range(0, len(indices), together):
        chunk = np.asarray(indices[start : start + together], np.int64)
        keys = scene_draw.keys(chunk, seed=seed, split=split)
        plan = scene_draw.plan(chunk, seed=seed, split=split)
        pictures, coverage = scene_draw.draw(plan, size=size)
        for row in range(len(chunk)):
            objects, main, masks = _objects(plan, row, coverage[row])
            background = BACKGROUNDS[plan.ground[row]]
            drawn.append(
                Scene(
                    picture=torch.from_numpy(pictures[row].copy()),
                    label=SHAPES.index(objects[main].shape),
                    objects=objects,
                    main=main,
                    masks=torch.from_numpy(masks),
                    background=background,
                    captions=captions_of(objects, main, background, key=int(keys[row])),
                )
            )
    return drawn


def scenes(
    count: int,
    *,
    size: int = 32,
    seed: int = 0,
    split: str = "train",
    target: Literal["shape", "colour"] = "shape",
) -> ImageSet:
    """The first `count` scenes of a stream as a labelled set of pictures.

    The label is the shape (or the colour) of the main object, which is of a larger size class than every
    other. Size, seed and split are as in `scene`.
    """
    _check([count], size, split)
    if target not in ("shape", "colour"):
        raise SaccadeError(f"Generating scenes: target={target!r} was given; it is shape or colour.")
    pictures = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty(count, np.int64)
    together = max(_PIXELS // size**2, 1)
    for start in range(0, count, together):
        chunk = np.arange(start, min(start + together, count))
        plan = scene_draw.plan(chunk, seed=seed, split=split)
        pictures[chunk], _ = scene_draw.draw(plan, size=size)
        values = plan.shape if target == "shape" else plan.colour
        labels[chunk] = values[np.arange(len(chunk)), plan.main]
    classes = SHAPES if target == "shape" else tuple(COLOURS)
    return ImageSet("scenes", torch.from_numpy(pictures), torch.from_numpy(labels), classes)


def scene_masks(count: int, *, size: int = 32, seed: int = 0, split: str = "train") -> Bool[Tensor, "n h w"]:
    """Where the shape of the class shows in each of the first `count` scenes, in the order of `scenes`.

    Of every object with that shape, as each is a reason for the class; arguments are those of `scenes`.
    """
    found = []
    for drawn in draw_scenes(range(count), size=size, seed=seed, split=split):
        same = [k for k, thing in enumerate(drawn.objects) if thing.shape == SHAPES[drawn.label]]
        found.append(drawn.masks[same].any(0))
    return torch.stack(found)


def describe(scene: Scene) -> str:
    """The most complete sentence about a scene: its main object, the nearest companion, the background."""
    return full_caption(scene.objects, scene.main, scene.background)


def holds(caption: str, scene: Scene) -> bool:
    """Whether a sentence of the grammar (see `scene_grammar`) is true of a scene; False for any other
    sentence.

    `scene_grammar.parse` tells a false sentence from one that is not of the grammar.
    """
    try:
        claim = parse(caption)
    except SaccadeError:
        return False
    return true_of(claim, scene.objects, scene.background)


def _objects(
    plan: Plan, row: int, coverage: NDArray[np.float32]
) -> tuple[tuple[SceneObject, ...], int, NDArray[np.bool_]]:
    """The objects of one scene of a plan, which is the main one, and where they show."""
    covered = coverage > 0.5
    hidden = np.zeros(covered.shape[1:], bool)
    found: list[SceneObject] = []
    masks: list[NDArray[np.bool_]] = []
    main = 0
    for k in range(MOST - 1, -1, -1):  # from the top down
        if not plan.present[row, k]:
            continue
        visible = covered[k] & ~hidden
        hidden |= covered[k]
        x, y = (float(value) for value in plan.centre[row, k])
        found.insert(
            0,
            SceneObject(
                shape=SHAPES[plan.shape[row, k]],
                colour=list(COLOURS)[plan.colour[row, k]],
                texture=FILLS[plan.fill[row, k]],
                size=list(SIZES)[plan.size[row, k]],
                centre=(x, y),
                box=_box(visible),
            ),
        )
        masks.insert(0, visible)
        main = 0 if k == plan.main[row] else main + 1
    return tuple(found), main, np.stack(masks)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _check(indices: Sequence[int], size: int, split: str) -> None:
    if split not in SPLITS:
        raise SaccadeError(f"Generating scenes: split={split!r} was given; it is one of {', '.join(SPLITS)}.")
    if not 16 <= size <= 512:
        raise SaccadeError(f"Generating scenes: size={size} was given; it is between 16 and 512 pixels.")
    if any(index < 0 for index in indices):
        raise SaccadeError(f"Generating scenes: {min(indices)} was given; counts and indices are 0 or more.")
