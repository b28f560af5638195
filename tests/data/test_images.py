"""A set of pictures: what it refuses, and that splits share memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.images import ImageSet
from saccade.errors import SaccadeError


def make(count=6, h=4, w=5, classes=3):
    pictures = torch.arange(count * h * w * 3, dtype=torch.int64).remainder(256).to(torch.uint8).view(count, h, w, 3)
    return ImageSet("made", pictures, torch.arange(count) % classes, tuple("abc"[:classes]))


def test_length_size_and_pictures():
    images = make()
    assert len(images) == 6
    assert images.size == (4, 5)
    pictures, labels = images.take(torch.tensor([4, 0, 4]))
    assert torch.equal(pictures, images.pictures[[4, 0, 4]])
    assert labels.tolist() == [1, 0, 1]


@given(st.lists(st.integers(0, 5), max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_a_subset_of_a_subset_is_indexing_twice(first, data):
    images = make()
    inner = images.subset(first)
    second = data.draw(st.lists(st.integers(0, max(len(first) - 1, 0)), max_size=4 if first else 0))
    outer = inner.subset(torch.tensor(second, dtype=torch.int64))
    rows = [first[i] for i in second]
    pictures, labels = outer.take(torch.arange(len(outer)))
    assert len(outer) == len(rows)
    assert torch.equal(pictures, images.pictures[torch.tensor(rows, dtype=torch.int64)])
    assert labels.tolist() == [int(images.labels[i]) for i in rows]
    assert outer.pictures is images.pictures  # nothing was copied


@pytest.mark.parametrize("wrong", [[6], [-1], [0, 99]])
def test_a_subset_outside_the_set_is_refused(wrong):
    with pytest.raises(SaccadeError, match="outside 0 to 5"):
        make().subset(wrong)
    with pytest.raises(SaccadeError, match="outside 0 to 1"):
        make().subset([0, 5]).subset([2])


def test_a_mask_is_refused_instead_of_read_as_zeros_and_ones():
    mask = torch.tensor([True, False, True, False, False, False])
    with pytest.raises(SaccadeError, match="not a mask"):
        make().subset(mask.tolist())


def unchecked(pictures, labels, classes):
    """What a user without the tests' type checks gets."""
    images = object.__new__(ImageSet)
    for key, value in {"name": "x", "pictures": pictures, "labels": labels, "classes": classes, "rows": None}.items():
        object.__setattr__(images, key, value)
    images.__post_init__()


def test_wrong_shapes_types_and_labels_are_one_sentence():
    good = make()
    for pictures in (good.pictures.float(), good.pictures[0], good.pictures.permute(0, 3, 1, 2)):
        with pytest.raises(SaccadeError, match=r"Data set x: pictures must be uint8 \(N, H, W, 3\), got .*\("):
            unchecked(pictures, good.labels, good.classes)
    with pytest.raises(SaccadeError, match="6 pictures but 5 labels; each picture needs one"):
        unchecked(good.pictures, good.labels[:5], good.classes)
    for labels in (good.labels + 1, good.labels - 1):
        with pytest.raises(SaccadeError, match=r"labels from -?\d to \d with 3 classes, counted from 0"):
            ImageSet("x", good.pictures, labels, good.classes)
