import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data import Scene, draw_scenes, scene, scene_masks, scenes
from saccade.data.scene_draw import COLOURS, SIZES, SPLITS, keys
from saccade.data.scene_shapes import BACKGROUNDS, FILLS, GRID, REACH, SHAPES, shape_table
from saccade.errors import SaccadeError

MANY = 200


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return draw_scenes(range(MANY), size=64)


def test_a_scene_does_not_depend_on_its_batch(many: list[Scene]) -> None:
    for index in (0, 7, 120, MANY - 1):
        alone = scene(index, size=64)
        assert torch.equal(alone.picture, many[index].picture)
        assert torch.equal(alone.masks, many[index].masks)
        assert (alone.objects, alone.captions) == (many[index].objects, many[index].captions)
    order = [41, 3, 150]
    assert all(torch.equal(a.picture, many[k].picture) for a, k in zip(draw_scenes(order), order, strict=True))


def test_the_set_and_the_scenes_agree(many: list[Scene]) -> None:
    images = scenes(MANY, size=64)
    assert torch.equal(images.pictures, torch.stack([one.picture for one in many]))
    assert images.labels.tolist() == [one.label for one in many]
    assert images.classes == SHAPES
    colours = scenes(MANY, size=16, target="colour")
    assert [colours.classes[k] for k in colours.labels] == [one.objects[one.main].colour for one in many]


def test_a_longer_set_begins_with_the_shorter() -> None:
    assert torch.equal(scenes(100, size=16).pictures[:37], scenes(37, size=16).pictures)


def test_the_main_object_is_the_largest_by_a_class(many: list[Scene]) -> None:
    rank = list(SIZES)
    for one in many:
        main = one.objects[one.main]
        assert SHAPES[one.label] == main.shape
        others = [thing for k, thing in enumerate(one.objects) if k != one.main]
        assert all(rank.index(thing.size) < rank.index(main.size) for thing in others)


def test_every_object_shows(many: list[Scene]) -> None:
    for one in many:
        assert 1 <= len(one.objects) == len(one.masks) <= 4
        assert int(one.masks.sum(0).max()) == 1  # no pixel belongs to two
        for thing, mask in zip(one.objects, one.masks, strict=True):
            low, high = SIZES[thing.size]
            area = int(mask.sum()) / 64**2
            assert 0.25 * low**2 < area < 3.3 * high**2  # between a thin crescent, partly hidden, and a disc
            left, top, right, bottom = thing.box
            inside = mask[top:bottom, left:right]
            assert int(inside.sum()) == int(mask.sum())
            assert all(bool(edge.any()) for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            x, y = thing.centre
            assert low <= min(x, y) <= max(x, y) <= 1 - low


def test_colours_are_what_they_are_called(many: list[Scene]) -> None:
    """Of the palette, the mean colour under a plain object's mask is nearest to that of its name."""
    palette = torch.tensor(list(COLOURS.values()))
    right = tried = 0
    for one in many:
        for thing, mask in zip(one.objects, one.masks, strict=True):
            if thing.texture == "plain":
                mean = one.picture[mask].float().mean(0) / 255
                tried += 1
                right += list(COLOURS)[int((palette - mean).norm(dim=1).argmin())] == thing.colour
    assert tried > 100
    assert right / tried > 0.98


def test_textures_vary_and_plain_does_not(many: list[Scene]) -> None:
    spread: dict[str, list[float]] = {texture: [] for texture in FILLS}
    for one in many:
        main = one.objects[one.main]
        if main.size == "large":
            inner = one.picture[one.masks[one.main]].float() / 255
            spread[main.texture].append(float(inner.std(0).max()))
    medians = {texture: float(np.median(values)) for texture, values in spread.items()}
    assert all(medians[texture] > 2 * medians["plain"] for texture in FILLS[1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_distances_are_true_to_their_shape(shape: str) -> None:
    """The table's gradient has length one almost everywhere, as that of any distance, and its inside is filled."""
    table = shape_table().reshape(len(SHAPES), GRID, GRID)[SHAPES.index(shape)]
    step = 2 * REACH / GRID
    slope = np.hypot(*np.gradient(table, step))
    assert abs(float(np.median(slope)) - 1) < 0.02
    assert slope[1:-1, 1:-1].max() < 1.3
    inside = table < 0
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    areas = {"circle": np.pi * 0.92**2, "square": 1.6**2, "triangle": 1.7, "diamond": 2 * 0.68 * 1.1}
    areas |= {"ring": np.pi * (0.95**2 - 0.49**2), "cross": 4 * 0.6 - 0.36}
    if shape in areas:
        assert abs(float(inside.mean()) * (2 * REACH) ** 2 / areas[shape] - 1) < 0.02


@settings(max_examples=30)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.sampled_from(SPLITS))
def test_no_two_scenes_share_a_key(seed: int, start: int, split: str) -> None:
    indices = np.arange(start, start + 200)
    found = np.concatenate([keys(indices, seed=seed, split=name) for name in SPLITS])
    assert len(np.unique(found)) == len(found)
    assert np.array_equal(keys(indices[5:6], seed=seed, split=split), keys(indices, seed=seed, split=split)[5:6])


def test_seeds_and_splits_give_other_scenes(many: list[Scene]) -> None:
    others = [scene(0, seed=1), scene(0, split="val"), scene(0, split="test"), scene(1)]
    assert all(not torch.equal(many[0].picture, other.picture) for other in others)


def test_everything_occurs_evenly() -> None:
    images = scenes(2000, size=16)
    counts = torch.bincount(images.labels)
    assert counts.min() > 145  # 200 are expected, with a deviation of 13
    assert counts.max() < 255
    drawn = draw_scenes(range(150), size=16)
    assert {len(one.objects) for one in drawn} == {1, 2, 3, 4}
    assert {one.background for one in drawn} == set(BACKGROUNDS)
    for field, names in (("colour", COLOURS), ("texture", FILLS), ("size", SIZES), ("shape", SHAPES)):
        assert {getattr(thing, field) for one in drawn for thing in one.objects} == set(names)


def test_the_scene_is_the_same_at_every_size() -> None:
    small, large = (draw_scenes(range(12), size=size) for size in (32, 128))
    for a, b in zip(small, large, strict=True):
        assert [thing.centre for thing in a.objects] == [thing.centre for thing in b.objects]
        assert a.captions == b.captions
        shrunk = torch.nn.functional.avg_pool2d(b.masks.float()[None], 4)[0] > 0.5
        assert float((shrunk ^ a.masks).float().mean()) < 0.02


def test_the_masks_of_a_set_hold_what_makes_its_classes() -> None:
    masks, drawn = scene_masks(40, size=32, split="test"), draw_scenes(range(40), size=32, split="test")
    assert torch.equal(scenes(40, size=32, split="test").labels, torch.tensor([one.label for one in drawn]))
    for mask, one in zip(masks, drawn, strict=True):
        same = [k for k, thing in enumerate(one.objects) if thing.shape == SHAPES[one.label]]
        assert one.main in same
        assert mask.sum() == one.masks[same].sum()  # no pixel belongs to two
        assert mask[one.masks[one.main]].all()


def test_out_of_range() -> None:
    with pytest.raises(SaccadeError, match="size=8 was given"):
        scene(0, size=8)
    with pytest.raises(SaccadeError, match="split='dev' was given"):
        scene(0, split="dev")
    with pytest.raises(SaccadeError, match="-1 was given"):
        scene(-1)
