"""Random changes of pictures against naive loops, Pillow's and PyTorch's resampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from saccade.data.augment import Augment, cut_out, draw, resampled, translated
from saccade.errors import SaccadeError


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- draws


@pytest.mark.parametrize("flip", ["none", "random", "alternating"])
def test_draws_are_a_function_of_seed_and_epoch(flip):
    augment = Augment(flip=flip, translate=2, crop=0.5)
    a, b = (draw(50, augment, seed=3, epoch=4, shuffle=True) for _ in range(2))
    for key in ("order", "flip", "shift", "box", "corner"):
        assert torch.equal(getattr(a, key), getattr(b, key))
    for seed, epoch in ((4, 4), (3, 5)):
        other = draw(50, augment, seed=seed, epoch=epoch, shuffle=True)
        assert not torch.equal(a.order, other.order)
        assert not torch.equal(a.box, other.box)
    assert a.order.sort().values.tolist() == list(range(50))


def test_alternating_flip_shows_both_sides_of_every_picture_in_two_epochs():
    def sides(epoch, seed):
        draws = draw(200, Augment(flip="alternating"), seed=seed, epoch=epoch, shuffle=True)
        side = torch.empty(200, dtype=torch.bool)
        side[draws.order] = draws.flip
        return side

    for epoch in range(4):
        assert torch.equal(sides(epoch, 1), ~sides(epoch + 1, 1))
    assert 60 < int(sides(0, 1).sum()) < 140  # the first side is a coin for each picture
    assert not torch.equal(sides(0, 1), sides(0, 2))


def test_random_flip_is_a_fair_coin_of_its_own_in_every_epoch():
    flips = torch.stack(
        [draw(500, Augment(flip="random"), seed=0, epoch=e, shuffle=False).flip.float() for e in range(2)]
    )
    assert ((flips.mean(1) - 0.5).abs() < 0.1).all()
    assert abs(torch.corrcoef(flips)[0, 1]) < 0.2


def test_shifts_are_uniform():
    shift = draw(5000, Augment(translate=2), seed=0, epoch=0, shuffle=False).shift
    counts = torch.bincount(shift.flatten(), minlength=5)
    assert len(counts) == 5
    assert ((counts - 2000).abs() < 5 * math.sqrt(2000)).all()


@given(st.floats(0.05, 1), st.floats(0.4, 2.5), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_crops_lie_inside_and_keep_the_stated_share(crop, ratio, seed):
    box = draw(100, Augment(crop=crop), seed=seed, epoch=0, shuffle=False, ratio=ratio).box.double()
    top, left, height, width = box.T
    assert (box >= 0).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    area = height * width
    assert (area >= crop - 1e-5).all()
    if crop == 1:
        assert (box == torch.tensor([0.0, 0, 1, 1])).all()
    aspect = (width / height * ratio).log().abs()  # in pixels
    fills = (height > 1 - 1e-4) | (width > 1 - 1e-4)  # only a crop that fills a side may be more oblong
    assert ((aspect <= math.log(4 / 3) + 1e-4) | fills).all()


def test_crop_areas_and_ratios_are_spread():
    box = draw(4000, Augment(crop=0.2), seed=0, epoch=0, shuffle=False).box
    area = box[:, 2] * box[:, 3]
    assert area.mean() == pytest.approx(0.6, abs=0.02)  # uniform in [0.2, 1]
    small = area < 0.5  # there every ratio fits
    ratio = (box[small, 3] / box[small, 2]).log() / math.log(4 / 3)
    assert ratio.abs().max() <= 1 + 1e-4
    assert abs(ratio.mean()) < 0.06
    assert ratio.var() == pytest.approx(1 / 3, rel=0.1)  # uniform in [-1, 1]


def test_impossible_settings_are_refused():
    for wrong in ({"translate": -1}, {"cutout": -1}, {"crop": 0.0}, {"crop": 1.1}):
        with pytest.raises(SaccadeError, match="translate and cutout must be 0 or more and crop in"):
            Augment(**wrong)


# ---- translation


@given(st.integers(2, 7), st.integers(2, 7), st.data())
@settings(max_examples=40, deadline=None)
def test_translated_is_the_naive_loop(h, w, data):
    pad = data.draw(st.integers(0, min(h, w) - 1))
    n = data.draw(st.integers(1, 4))
    shift = torch.tensor(data.draw(st.lists(st.tuples(*[st.integers(0, 2 * pad)] * 2), min_size=n, max_size=n)))
    pictures = (noise(n, h, w, 3) * 256).to(torch.uint8)
    found = translated(pictures, shift, pad)

    def reflect(i, length):
        return -i if i < 0 else 2 * (length - 1) - i if i >= length else i

    for k in range(n):
        dy, dx = (int(v) - pad for v in shift[k])
        for y in range(h):
            for x in range(w):
                assert torch.equal(found[k, y, x], pictures[k, reflect(y + dy, h), reflect(x + dx, w)])


def test_translated_works_on_views():
    """Pictures of any memory layout, for instance a transposed array."""
    pictures = (noise(3, 8, 6, 3) * 256).to(torch.uint8)
    shift = torch.tensor([[0, 4], [2, 2], [3, 1]])
    turned = pictures.transpose(1, 2)
    assert torch.equal(translated(turned, shift, 2), translated(turned.contiguous(), shift, 2))
    assert torch.equal(translated(pictures, torch.full((3, 2), 2), 2), pictures)


def test_too_large_a_translation_is_refused():
    with pytest.raises(SaccadeError, match="translate=4 is too much for pictures of 4x9"):
        translated(torch.zeros(1, 4, 9, 3, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.int64), 4)


# ---- resampling

FULL = torch.tensor([[0.0, 0, 1, 1]])


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (5, 7), (3, 20), (1, 1), (31, 33), (13, 13)])
def test_the_whole_picture_is_resampled_as_pytorch_does(size):
    pictures = noise(2, 3, 16, 12)
    expected = F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(resampled(pictures, FULL.expand(2, 4), size), expected, rtol=0, atol=1e-5)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_crops_are_resampled_as_pillow_does(data):
    """Pillow's triangle filter with a box of fractional borders."""
    h, w, a, b = (data.draw(st.integers(2, 24)) for _ in range(4))
    height, width = (data.draw(st.floats(0.125, 1, width=32)) for _ in range(2))
    top, left = ((1 - extent) * data.draw(st.floats(0, 1, width=32)) for extent in (height, width))
    box = torch.tensor([[top, left, height, width]]).clamp(max=1)
    y, x, tall, wide = box[0].double().tolist()
    corners = (x * w, y * h, min((x + wide) * w, w), min((y + tall) * h, h))
    plane = noise(h, w, seed=h * w)
    image = Image.fromarray(plane.numpy()).resize((b, a), Image.Resampling.BILINEAR, box=corners)
    found = resampled(plane.expand(1, 3, h, w), box, (a, b))
    for channel in found[0]:
        np.testing.assert_allclose(channel.numpy(), np.asarray(image), rtol=0, atol=2e-5)


def test_each_picture_has_its_own_box():
    pictures = noise(4, 3, 9, 11)
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.1, 0.2, 0.5, 0.5], [0.4, 0, 0.6, 1], [0, 0, 0.3, 0.3]])
    together = resampled(pictures, boxes, (6, 5))
    for i in range(4):
        torch.testing.assert_close(together[i], resampled(pictures[i : i + 1], boxes[i : i + 1], (6, 5))[0])


def test_resampling_keeps_constants_and_range():
    boxes = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    boxes[:, 2:] = boxes[:, 2:] * 0.9 + 0.1
    boxes[:, :2] *= 1 - boxes[:, 2:]
    flat = resampled(torch.full((20, 3, 10, 10), 0.3), boxes, (7, 13))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
    found = resampled((noise(20, 3, 10, 10) > 0.5).float(), boxes, (7, 13))
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


# ---- cutout


@given(st.integers(1, 12), st.integers(1, 12), st.data())
@settings(max_examples=50, deadline=None)
def test_cut_out_is_a_whole_square(h, w, data):
    side = data.draw(st.integers(1, min(h, w)))
    place = st.floats(0, 1, exclude_max=True, width=32)
    corner = torch.tensor([[data.draw(place), data.draw(place)] for _ in range(3)])
    fill = torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1, 1)
    pictures = noise(3, 3, h, w)
    found = cut_out(pictures, corner, side, fill)
    for i in range(3):
        changed = (found[i] != pictures[i]).all(0)
        ys, xs = changed.nonzero().T
        assert int(changed.sum()) == side**2
        assert int(ys.max() - ys.min()) == int(xs.max() - xs.min()) == side - 1
        assert (torch.tensor([2.0, 3.0, 4.0]) == found[i][:, changed].T).all()
        assert torch.equal(found[i][:, ~changed], pictures[i][:, ~changed])


def test_every_place_of_the_cutout_is_as_likely():
    corner = noise(6000, 2)
    found = cut_out(torch.zeros(6000, 3, 4, 4), corner, 2, torch.ones(1, 3, 1, 1))
    tops = found[:, 0].amax(2).argmax(1)  # first row that is covered
    assert ((torch.bincount(tops, minlength=3) - 2000).abs() < 200).all()


def test_too_large_a_cutout_is_refused():
    with pytest.raises(SaccadeError, match="cutout=5 is larger than the pictures, 4x9"):
        cut_out(torch.zeros(1, 3, 4, 9), torch.zeros(1, 2), 5, torch.ones(1, 3, 1, 1))
