"""Resizing against Pillow, a second implementation of the same filters; cropping by index arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from saccade.errors import SaccadeError
from saccade.pictures import centre_crop, resize, sample

SIDES = st.integers(1, 40)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["bicubic", "bilinear"]))
@example(2, 1, 3, 1, "bicubic")  # PyTorch 2.13 itself gets this one wrong
@example(5, 1, 3, 4, "bilinear")
@example(1, 5, 3, 1, "bicubic")
def test_agrees_with_pillow(h: int, w: int, new_h: int, new_w: int, method: str) -> None:
    picture = noise(1, h, w)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    expected = np.asarray(Image.fromarray(picture[0].numpy()).resize((new_w, new_h), filters[method]))
    expected = expected.clip(float(picture.min()), float(picture.max()))
    np.testing.assert_allclose(resize(picture, (new_h, new_w), method=method)[0], expected, atol=1e-5)


def test_nothing_aliases() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(3, 64, 64)
    small = resize(board, 16)[:, 2:-2, 2:-2]
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.02, rtol=0)
    assert set(resize(board, 16, method="nearest").unique().tolist()) <= {0.0, 1.0}


def test_nearest_copies_pixels() -> None:
    picture = noise(3, 4, 5)
    expected = picture.repeat_interleave(3, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(resize(picture, (12, 15), method="nearest"), expected, rtol=0, atol=0)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES)
def test_shorter_side(h: int, w: int, size: int) -> None:
    out = resize(noise(2, 3, h, w), size, method="bilinear")
    assert out.shape[:2] == (2, 3)
    assert min(out.shape[2:]) == size
    longer, expected = max(out.shape[2:]), max(h, w) * size / min(h, w)
    assert abs(longer - expected) <= 0.5
    assert (out.shape[2] >= out.shape[3]) == (h >= w) or out.shape[2] == out.shape[3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    out = resize(noise(3, 8, 8).to(dtype), 5)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), resize(noise(3, 8, 8), 5), atol=0.01, rtol=0)


def test_batch_invariance_and_gradient() -> None:
    batch = noise(4, 3, 9, 7)
    batch[2] *= 0.1  # a darker picture has its own range
    torch.testing.assert_close(resize(batch, 12)[2], resize(batch[2], 12), rtol=0, atol=0)
    picture = noise(3, 6, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: resize(p, 4, method="bilinear"), picture)


def test_the_same_size_is_untouched() -> None:
    cat = sample("chelsea")
    assert torch.equal(resize(cat, 300), cat)


@settings(deadline=None)
@given(SIDES, SIDES, st.data())
def test_centre_crop(h: int, w: int, data: st.DataObject) -> None:
    new_h, new_w = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    places = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).float()
    out = centre_crop(places, (new_h, new_w))
    assert out.shape == (2, new_h, new_w)
    top, left = out[:, 0, 0]
    bottom, right = out[:, -1, -1]
    assert 0 <= (h - 1 - bottom) - top <= 1
    assert 0 <= (w - 1 - right) - left <= 1


def test_errors() -> None:
    picture = noise(3, 8, 6)
    with pytest.raises(SaccadeError, match="7 x 7 asked of 8 x 6"):
        centre_crop(picture, 7)
    for size in (0, -1, (4, 0)):
        with pytest.raises(SaccadeError, match="expected a whole number of at least 1"):
            resize(picture, size)
    with pytest.raises(SaccadeError, match="method is 'lanczos'"):
        resize(picture, 4, method="lanczos")
    for wrong in (picture[0], (picture * 255).byte()):
        with pytest.raises(SaccadeError, match="expected floats"):
            resize(wrong, 4)
