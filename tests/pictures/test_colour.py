"""Maps as colours, against matplotlib's own tables and simple algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps

from saccade.errors import SaccadeError
from saccade.pictures import heat, overlay, sample
from saccade.pictures.colour import luminance

RAMP = torch.linspace(-3, 5, 256).reshape(16, 16)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["inferno", "hot", "gray", "viridis"])
def test_a_ramp_runs_through_the_table(name: str) -> None:
    expected = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    np.testing.assert_allclose(heat(RAMP, colormap=name).flatten(1).T, expected, atol=1e-4)


def test_inferno_is_the_default_and_brighter_is_more() -> None:
    assert torch.equal(heat(RAMP), heat(RAMP, colormap="inferno"))
    assert (luminance(heat(RAMP)).flatten().diff() > 0).all()


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 100), st.floats(-50, 50))
def test_the_scale_of_a_map_does_not_matter(scale: float, shift: float) -> None:
    map = noise(6, 6)
    torch.testing.assert_close(heat(map * scale + shift), heat(map), atol=2e-3, rtol=0)
    torch.testing.assert_close(heat(map * scale, signed=True), heat(map, signed=True), atol=2e-3, rtol=0)


def test_signed_maps_are_symmetric_about_a_pale_zero() -> None:
    map = torch.tensor([[-2.0, 0.0, 1.0, 2.0, -1.0]])
    red, _, blue = heat(map, signed=True)
    assert heat(map, signed=True)[:, 0, 1].min() > 0.95
    assert red[0, 3] > blue[0, 3]
    assert blue[0, 0] > red[0, 0]
    both_ends = torch.from_numpy(colormaps["RdBu_r"]([0.0, 1.0])[:, :3]).float()
    torch.testing.assert_close(heat(map, signed=True)[:, 0, [0, 3]].T, both_ends)


def test_low_high_and_clip() -> None:
    map = torch.arange(100.0).reshape(10, 10)
    grey = heat(map, colormap="gray", low=0.0, high=198.0)[0]
    torch.testing.assert_close(grey, map / 198, atol=2e-3, rtol=0)
    spiked = map.clone()
    spiked[0, 0] = 1e6
    assert heat(spiked, colormap="gray")[0].median() < 0.01
    torch.testing.assert_close(
        heat(spiked, colormap="gray", clip=0.01)[0, 1:], (map[1:] - 1) / 98, atol=2e-3, rtol=0
    )  # the spike saturates; the range is that of the other 99 values, 1 to 99
    limited = heat(torch.tensor([[0.0, 5.0, 10.0]]), signed=True, high=10.0)
    torch.testing.assert_close(limited, heat(torch.tensor([[0.0, 5.0, 10.0, -10.0]]), signed=True)[..., :3])


def test_a_constant_map_shows_nothing() -> None:
    for value in (0.0, 3.0):
        constant = torch.full((2, 2), value)
        torch.testing.assert_close(heat(constant, colormap="gray"), torch.zeros(3, 2, 2))
    assert heat(torch.zeros(2, 2), signed=True).min() > 0.95


def test_each_map_of_a_batch_is_scaled_by_itself() -> None:
    maps = noise(3, 8, 8) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for signed in (False, True):
        assert torch.equal(heat(maps, signed=signed)[1], heat(maps[1], signed=signed))
        both = overlay(pictures, maps, signed=signed)
        torch.testing.assert_close(both[1], overlay(pictures[1], maps[1], signed=signed))


def test_overlay_lets_the_grey_picture_through_where_the_map_is_low() -> None:
    cat = sample("chelsea")
    grey = luminance(cat).expand_as(cat)
    left_to_right = torch.linspace(0, 1, 451).expand(300, 451)
    out = overlay(cat, left_to_right, alpha=0.6)
    torch.testing.assert_close(out[..., 0], grey[..., 0])
    top_colour = torch.tensor(colormaps["inferno"](1.0)[:3]).float()[:, None]
    torch.testing.assert_close(out[..., -1], 0.4 * grey[..., -1] + 0.6 * top_colour)
    torch.testing.assert_close(overlay(cat, left_to_right, alpha=0.0), grey)
    torch.testing.assert_close(overlay(cat, torch.zeros(7, 7), signed=True), grey)
    assert overlay(cat, noise(7, 7)).shape == cat.shape
    assert 0 <= overlay(cat, noise(7, 7)).min() <= overlay(cat, noise(7, 7)).max() <= 1


def test_luminance() -> None:
    primaries = torch.eye(3)[:, :, None, None]
    torch.testing.assert_close(luminance(primaries).flatten(), torch.tensor([0.2126, 0.7152, 0.0722]))
    grey = torch.rand(1, 4, 4).expand(3, 4, 4)
    torch.testing.assert_close(luminance(grey)[0], grey[0])


def test_errors() -> None:
    cat = sample("chelsea")
    for call, message in (
        (lambda: heat(torch.full((2, 2), float("nan"))), "not finite"),
        (lambda: heat(torch.zeros(1, 3, 2, 2)), r"shape is \(1, 3, 2, 2\)"),
        (lambda: heat(RAMP, colormap="rainbows"), "colormap is 'rainbows'"),
        (lambda: heat(RAMP, low=2.0, high=1.0), "low below high"),
        (lambda: heat(RAMP, clip=1.0), "clip is 1"),
        (lambda: overlay(cat, torch.zeros(2, 7, 7)), "do not belong together"),
        (lambda: overlay(cat[None], torch.zeros(2, 7, 7)), "do not belong together"),
        (lambda: overlay(cat, RAMP, alpha=2.0), "alpha is 2"),
        (lambda: overlay(cat * 255, RAMP), "run from"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
