"""Drawings of attention show what they are given."""

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from saccade.caption import Caption, attention_tiles, save_animation
from saccade.caption.grounding import grounding
from saccade.errors import SaccadeError


def caption(words=("a", "red", "boat")):
    attention = torch.zeros(len(words), 2, 2)
    attention[:, 0, 0] = 0.75
    attention[:, 1, 1] = 0.25
    return Caption(tuple(words), 0.1, attention)


def test_a_tile_is_half_picture_half_attention_under_a_bar():
    picture = torch.full((3, 40, 60), 0.5)
    page = attention_tiles(picture, caption(), side=120)
    height = 13 + 80  # bar and picture
    assert page.shape == (3, height, 3 * 120 + 2 * 4)
    tile = page[:, 13:, :120]
    assert_close(tile[:, 10, 10], torch.full((3,), 0.25 + 0.5), rtol=0, atol=0.01)  # the brightest place
    assert_close(tile[:, 70, 110], torch.full((3,), 0.25 + 0.5 / 3), rtol=0, atol=0.01)
    assert_close(tile[:, 10, 110], torch.full((3,), 0.25), rtol=0, atol=0.01)
    assert page[:, :13, :120].max() > 0.9  # the word
    assert page[:, 0, 0].max() == 0  # the bar


def test_tiles_wrap():
    page = attention_tiles(torch.rand(3, 32, 32), caption([f"w{i}" for i in range(9)]), side=64)
    assert page.shape == (3, 2 * (64 + 12) + 4, 8 * 64 + 7 * 4)


@pytest.mark.parametrize("name", ["looks.gif", "looks.webp"])
def test_an_animation_has_a_frame_a_word(name, tmp_path):
    save_animation(torch.rand(3, 40, 60), caption(), tmp_path / name, side=90)
    with Image.open(tmp_path / name) as drawn:
        assert drawn.n_frames == 3


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(SaccadeError, match="this caption has none"):
        attention_tiles(torch.rand(3, 8, 8), Caption(("a",), 0.5))
    with pytest.raises(SaccadeError, match=r"an animation ends in .gif or .webp"):
        save_animation(torch.rand(3, 8, 8), caption(), tmp_path / "looks.mp4")


def test_grounding_is_the_share_inside():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, :4] = True
    assert grounding(caption().attention[0], mask) == pytest.approx(0.75)
    assert grounding(torch.full((2, 2), 0.25), mask) == pytest.approx(mask.float().mean().item())
    mask[:] = True
    assert grounding(caption().attention[0], mask) == pytest.approx(1)
