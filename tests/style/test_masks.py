"""Masks: what is drawn is what is read, and a place at a layer counts only if it sees its region alone."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.pictures import read, write
from saccade.style.masks import check_masks, masks_for_layer, read_masks, region_colours

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 255, 255)


def drawing(size: int, *, smooth: bool, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A red disc and a blue rectangle on white; smooth edges are drawn four times larger and shrunk."""
    scale = 4 if smooth else 1
    image = Image.new("RGB", (size * scale, size * scale), background)
    pen = ImageDraw.Draw(image)
    pen.ellipse([v * size * scale // 64 for v in (6, 6, 34, 34)], fill=RED)
    pen.rectangle([v * size * scale // 64 for v in (40, 20, 60, 61)], fill=BLUE)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def jpeg(image: Image.Image, quality: int = 75) -> Tensor:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    return read(file)


def colour_set(colours: Tensor) -> set[tuple[int, ...]]:
    return {tuple(c) for c in (colours * 255).round().int().tolist()}


def test_a_drawing_without_soft_edges_is_read_exactly() -> None:
    picture = tensor(drawing(64, smooth=False))
    colours = region_colours(picture)
    assert colour_set(colours) == {WHITE, RED, BLUE}
    masks = read_masks(picture)
    for colour, mask in zip(colours, masks, strict=True):
        assert torch.equal(mask.bool(), (picture == colour[:, None, None]).all(0))
    shares = masks.mean((1, 2))
    assert (shares.diff() <= 0).all()  # the most frequent first


@pytest.mark.parametrize("size", [64, 200])
@pytest.mark.parametrize("quality", [None, 75, 40])
def test_smooth_edges_and_jpeg_make_no_regions(size: int, quality: int | None) -> None:
    smooth = drawing(size, smooth=True)
    picture = tensor(smooth) if quality is None else jpeg(smooth, quality)
    exact = read_masks(tensor(drawing(size, smooth=False)))
    colours = region_colours(picture)
    assert len(colours) == 3
    assert (colours - region_colours(tensor(drawing(size, smooth=False)))).abs().max() < 0.1
    masks = read_masks(picture)
    assert torch.equal(masks.sum(0), torch.ones(size, size))
    assert (masks - exact).abs().mean() < 0.02


def test_regions_of_two_drawings_match_by_colour() -> None:
    content = tensor(drawing(64, smooth=True))
    style = torch.empty(3, 40, 30)
    for row, colour in zip((0, 10, 25), (BLUE, (250, 6, 4), WHITE), strict=True):  # another red, and another order
        style[:, row:] = torch.tensor(colour)[:, None, None] / 255
    colours = region_colours(content, style)
    assert len(colours) == 3
    ours, theirs = read_masks(content, colours=colours), read_masks(style, colours=colours)
    rows = {"white": (25, 40), "red": (10, 25), "blue": (0, 10)}
    for colour, our, their in zip(colours, ours, theirs, strict=True):
        name = ["red", "green", "blue"][int(colour.argmax())] if colour.min() < 0.5 else "white"
        top, bottom = rows[name]
        expected = torch.zeros(40, 30)
        expected[top:bottom] = 1
        assert torch.equal(their, expected)
        middle = {"white": (3, 3), "red": (20, 20), "blue": (40, 50)}[name]
        assert our[middle] == 1


def test_a_colour_of_one_drawing_alone_is_an_empty_region_of_the_other() -> None:
    two, three = torch.zeros(3, 20, 20), torch.zeros(3, 20, 20)
    two[0, :10], three[0, :5], three[2, 15:] = 1, 1, 1
    masks = read_masks(two, colours=region_colours(two, three))
    with pytest.raises(SaccadeError, match=r"region 2 of 3 .* is empty"):
        check_masks(masks, (20, 20))


def test_grey_masks_are_soft_and_files_do(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 32).expand(3, 16, 32)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, picture in zip(paths, (ramp, 1 - ramp), strict=True):
        write(picture, path)
    masks = read_masks(paths)
    assert masks.shape == (2, 16, 32)
    torch.testing.assert_close(masks, torch.stack([ramp[0], 1 - ramp[0]]), rtol=0, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close(read_masks([ramp])[0], ramp[0])
    shape = np.zeros((8, 8, 4), np.uint8)
    shape[2:5, 3:6] = 255  # white on transparent: what is not drawn is outside
    Image.fromarray(shape).save(tmp_path / "c.png")
    assert torch.equal(read_masks([tmp_path / "c.png"])[0].bool(), torch.from_numpy(shape[..., 3] > 0))
    drawing(64, smooth=False).save(tmp_path / "d.png")
    assert torch.equal(read_masks(str(tmp_path / "d.png")), read_masks(tensor(drawing(64, smooth=False))))


def test_overlaps_share_and_gaps_stay() -> None:
    masks = torch.tensor([[[1.0, 1.0, 0.5, 0.0, 0.2]], [[0.0, 1.0, 1.0, 0.0, 0.3]]])
    expected = torch.tensor([[[1.0, 0.5, 1 / 3, 0.0, 0.2]], [[0.0, 0.5, 2 / 3, 0.0, 0.3]]])
    torch.testing.assert_close(check_masks(masks, (1, 5)), expected)
    assert torch.equal(check_masks(masks > 0.5, (1, 5))[0, 0], torch.tensor([1.0, 0.5, 0.0, 0.0, 0.0]))
    assert check_masks(masks.double(), (1, 5)).dtype == torch.float64


def test_masks_of_the_same_aspect_are_resized() -> None:
    masks = torch.zeros(1, 30, 40)
    masks[:, :, 20:] = 1
    small = check_masks(masks, (15, 20))
    torch.testing.assert_close(small[0, :, [0, 8, 11, 19]], torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(15, 4))
    assert check_masks(masks, (31, 41)).shape == (1, 31, 41)  # rounding of sides is no other aspect
    with pytest.raises(SaccadeError, match="they are 30 x 40 and the picture is 40 x 30"):
        check_masks(masks, (40, 30))


def test_area_averaging() -> None:
    masks = torch.rand(2, 12, 20, generator=torch.Generator().manual_seed(0))
    expected = masks.reshape(2, 3, 4, 5, 4).mean((2, 4))
    torch.testing.assert_close(masks_for_layer(masks, (3, 5)), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(1, 14), st.integers(1, 14), st.integers(0, 1000))
def test_erosion_is_the_least_value_of_a_square(radius: int, h: int, w: int, seed: int) -> None:
    masks = torch.rand(2, h, w, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.6  # never lost
    out = masks_for_layer(masks, (h, w), erode=radius)
    reach = radius + 1  # and half a place, rounded up
    for y in range(h):
        for x in range(w):
            square = masks[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            assert torch.equal(out[:, y, x], square.amin((1, 2)))


def test_a_place_that_counts_sees_its_region_alone() -> None:
    """Real receptive fields: a network with pools, a region of odd shape, and noise everywhere outside of it."""
    torch.manual_seed(0)
    conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU())  # noqa: E731
    network = nn.Sequential(
        conv(3, 4), conv(4, 4), nn.MaxPool2d(2), conv(4, 4), conv(4, 4), nn.MaxPool2d(2), conv(4, 4)
    )
    half = 11  # the sixteen pixels of a place of four reach (1 + 1 + 2 + 2 + 4) = 10 further; 23 wide in all, or 11.5
    yy, xx = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    region = ((yy - 50) ** 2 + (xx - 40) ** 2 < 35**2) | (yy > 80)
    picture = torch.rand(1, 3, 96, 96)
    other = torch.where(region, picture, torch.rand(1, 3, 96, 96))
    changed = ((network(picture) - network(other)).abs().amax((0, 1)) > 0).detach()
    eroded = masks_for_layer(region[None].float(), (24, 24), erode=half)[0]
    assert not (changed & (eroded > 0)).any()
    assert (changed & (masks_for_layer(region[None].float(), (24, 24))[0] > 0)).any()  # without erosion they count
    assert (eroded > 0).sum() > 0.4 * (~changed).sum()  # and not much more than needed is lost


def test_a_narrow_region_is_eroded_less_and_keeps_some_place() -> None:
    masks = torch.zeros(3, 64, 64)
    masks[0, :, :40], masks[1, :, 40:42], masks[2, 30, 50] = 1, 1, 0.3
    out = masks_for_layer(masks, (16, 16), erode=8)
    alone = masks_for_layer(masks[:1], (16, 16), erode=8)
    assert torch.equal(out[:1], alone)  # what happens to one region does not concern another
    assert torch.equal(out[0, 0] > 0, torch.arange(16) < 8)  # 40 - (8 + 2) = 30 pixels, the last place half
    torch.testing.assert_close(out[1:], masks_for_layer(masks, (16, 16))[1:])
    middle = torch.zeros(1, 64, 64)
    middle[:, :, 24:40] = 1  # 16 wide: 10 on each side is too much, 5 leaves six columns
    expected = torch.zeros(16)
    expected[[7, 8]] = 0.75
    assert torch.equal(masks_for_layer(middle, (16, 16), erode=8)[0, 5], expected)


def test_dtype() -> None:
    masks = torch.ones(2, 8, 8, dtype=torch.float64)
    assert masks_for_layer(masks, (4, 4), erode=2).dtype == torch.float64


def test_errors(tmp_path: Path) -> None:
    picture = torch.zeros(3, 8, 8)
    for call, message in (
        (lambda: read_masks([]), "0 masks"),
        (lambda: read_masks([picture, torch.zeros(3, 8, 9)]), r"sizes \[\(8, 8\), \(8, 9\)\]"),
        (lambda: read_masks([picture], colours=torch.zeros(1, 3)), "one or the other"),
        (lambda: read_masks(picture, colours=torch.zeros(3)), r"colours have shape \(3,\)"),
        (lambda: read_masks(tmp_path / "none.png"), "no such file"),
        (lambda: read_masks(picture * 2 + 2), "run from"),
        (lambda: region_colours(torch.rand(3, 64, 64)), "no colour is flat"),
        (lambda: check_masks(picture, (8, 8)), "region 0, 1, 2 of 3"),
        (lambda: check_masks(picture[0], (8, 8)), r"shape is \(8, 8\)"),
        (lambda: check_masks(picture + 255, (8, 8)), "Divide 8-bit values by 255"),
        (lambda: check_masks(picture * torch.nan, (8, 8)), "nan"),
        (lambda: masks_for_layer(picture, (0, 2)), "a size of at least 1 x 1"),
        (lambda: masks_for_layer(picture, (2, 2), erode=-1), "erode -1"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
