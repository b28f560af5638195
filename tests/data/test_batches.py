"""Batches are a pure function of (seed, epoch, step), whichever process or sitting makes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.augment import Augment
from saccade.data.batches import Batches
from saccade.data.images import ImageSet
from saccade.errors import SaccadeError

RICH = Augment(flip="random", translate=1, cutout=2, crop=0.6)


def make(count=23, h=6, w=6):
    """The label of each picture is its number, so that a batch says what is in it."""
    pictures = torch.randint(0, 256, (count, h, w, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet("made", pictures, torch.arange(count), tuple(map(str, range(count))))


def collect(batches, **kwargs):
    return list(batches.epoch(**kwargs))


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


def test_plain_batches_are_the_pictures_in_order():
    images = make()
    batches = Batches(images, batch_size=5)
    found = collect(batches)
    assert [len(y) for _, y in found] == [5, 5, 5, 5, 3]
    assert len(batches) == 5
    assert torch.cat([y for _, y in found]).tolist() == list(range(23))
    expected = images.pictures.permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(torch.cat([x for x, _ in found]), expected, rtol=0, atol=1e-7)
    for x, y in found:
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_a_training_epoch_is_a_shuffle_without_the_incomplete_batch():
    batches = Batches(make(), batch_size=5, augment=Augment())
    assert len(batches) == 4
    orders = []
    for epoch in range(3):
        found = collect(batches, epoch=epoch)
        assert [len(y) for _, y in found] == [5] * 4
        order = torch.cat([y for _, y in found]).tolist()
        assert len(set(order)) == 20
        orders.append(order)
        for x, y in found:  # each label still belongs to its picture
            torch.testing.assert_close(x, make().pictures[y].permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-7)
    assert orders[0] != orders[1] != orders[2]


@given(st.integers(0, 5), st.integers(0, 4), st.integers(0, 100), st.booleans())
@settings(max_examples=25, deadline=None)
def test_an_epoch_taken_up_at_a_step_is_the_tail_of_the_whole(epoch, start, seed, rich):
    augment = RICH if rich else None
    whole = collect(Batches(make(), batch_size=5, augment=augment, seed=seed), epoch=epoch)
    fresh = collect(Batches(make(), batch_size=5, augment=augment, seed=seed), epoch=epoch, start=start)
    assert equal(whole[start:], fresh)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 30), st.booleans(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_shares_of_the_processes_put_together_are_the_batch_of_one(world, times, count, rich, epoch):
    batch_size = world * times
    augment = RICH if rich else None
    if rich and count < batch_size:
        return
    images = make(count)
    whole = collect(Batches(images, batch_size=batch_size, augment=augment), epoch=epoch)
    shares = [
        collect(Batches(images, batch_size=batch_size, augment=augment, rank=rank, world=world), epoch=epoch)
        for rank in range(world)
    ]
    assert {len(share) for share in shares} == {len(whole)}
    for (u, v), *parts in zip(whole, *shares, strict=True):
        x, y = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        assert torch.equal(y, v)
        torch.testing.assert_close(x, u, rtol=0, atol=1e-6)  # a matrix product may round by its batch size
    if rich:
        assert {len(y) for share in shares for _, y in share} <= {times}


def test_alternating_flip_shows_both_sides_in_two_epochs():
    images = make(8)
    batches = Batches(images, batch_size=4, augment=Augment(flip="alternating"))
    seen = {label: [] for label in range(8)}
    for epoch in range(2):
        for x, y in collect(batches, epoch=epoch):
            for picture, label in zip(x, y.tolist(), strict=True):
                seen[label].append(picture)
    for label, (first, second) in seen.items():
        plain = images.pictures[label].permute(2, 0, 1) / 255
        assert torch.equal(first, second.flip(2))
        assert torch.equal(first, plain) or torch.equal(second, plain)


def test_sizes():
    batches = Batches(make(h=6, w=9), batch_size=5, size=4)
    assert collect(batches)[0][0].shape == (5, 3, 4, 4)
    assert collect(batches, size=7)[0][0].shape == (5, 3, 7, 7)
    assert collect(Batches(make(h=6, w=9), batch_size=5))[0][0].shape == (5, 3, 6, 9)
    crops = Batches(make(h=6, w=9), batch_size=5, augment=Augment(crop=0.3))
    assert collect(crops)[0][0].shape == (5, 3, 6, 9)


def test_an_epoch_without_crops_shows_whole_pictures_in_its_own_order():
    images = make()
    batches = Batches(images, batch_size=5, augment=Augment(crop=0.3))
    for x, y in collect(batches, epoch=2, crop=1.0):
        torch.testing.assert_close(x, images.pictures[y].permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-7)
    assert not equal(collect(batches, epoch=2, crop=1.0), collect(batches, epoch=2))


def test_the_cutout_has_the_colour_asked_for():
    batches = Batches(make(), batch_size=5, augment=Augment(cutout=2), fill=(0.25, 0.5, 0.75))
    for x, _ in collect(batches):
        hits = (x == torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1)).all(1).flatten(1).sum(1)
        assert (hits >= 4).all()


def test_values_stay_in_range_and_the_data_untouched():
    images = make()
    before = images.pictures.clone()
    state = torch.get_rng_state()
    for x, _ in collect(Batches(images, batch_size=5, augment=RICH), epoch=3):
        assert x.min() >= 0
        assert x.max() <= 1 + 1e-6
    assert torch.equal(before, images.pictures)
    assert torch.equal(state, torch.get_rng_state())


def test_subsets_give_their_own_pictures():
    chosen = make().subset([7, 3, 11])
    ((_, y),) = collect(Batches(chosen, batch_size=5))
    assert y.tolist() == [7, 3, 11]
    assert collect(Batches(make().subset([]), batch_size=5)) == []


def test_impossible_batches_are_refused():
    with pytest.raises(SaccadeError, match="batch_size 5 must be a positive multiple of 2 processes"):
        Batches(make(), batch_size=5, world=2)
    with pytest.raises(SaccadeError, match="batch_size 0 must be"):
        Batches(make(), batch_size=0)
    with pytest.raises(SaccadeError, match="made has 23 pictures, fewer than one batch of 24"):
        Batches(make(), batch_size=24, augment=Augment())
    assert len(collect(Batches(make(), batch_size=24))) == 1
