"""Parametrisations, penalties, projections and transforms against hand-made numbers and closed forms."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.autograd import gradcheck

from saccade.networks import load
from saccade.pictures.optimise import (
    Ball,
    Blur,
    Box,
    ClipSmallContribution,
    ClipSmallNorm,
    Crop,
    Decay,
    Fourier,
    Jitter,
    Pad,
    Pixels,
    Rotate,
    Scale,
    alpha_norm,
    gaussian_blur,
    l2,
    noise,
    optimise,
    roughness,
    total_variation,
)
from saccade.pictures.optimise.parametrise import COLOUR_ROOT
from saccade.pictures.optimise.steps import Plain


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# parametrisations


@pytest.mark.parametrize("size", [(6, 8), (7, 8), (1, 2), (16, 12)])
@pytest.mark.parametrize("settings", [{}, {"falloff": 1.3}, {"decorrelate": False}])
def test_a_spectrum_gives_back_the_picture(size, settings):
    picture, way = 0.01 + 0.98 * rand(2, 3, *size), Fourier(**settings)
    torch.testing.assert_close(way.pictures(way.values(picture)), picture, rtol=0, atol=1e-12)


def test_at_full_resolution_in_float32_too():
    picture = torch.rand(1, 3, 256, 320).clamp(0.01, 0.99)
    torch.testing.assert_close(Fourier().pictures(Fourier().values(picture)), picture, rtol=0, atol=2e-5)


def test_pixels_at_the_ends_of_the_range_come_back_nearly():
    picture = torch.tensor([0.0, 1.0, 0.5, 0.0], dtype=torch.float64).expand(1, 3, 2, 4)
    torch.testing.assert_close(Fourier().pictures(Fourier().values(picture)), picture, rtol=0, atol=1.1e-4)


def test_the_gradient_of_a_spectrum():
    values = (0.3 * (rand(1, 3, 4, 3, 2) - 0.5)).requires_grad_()
    assert gradcheck(Fourier(falloff=1.2).pictures, (values,))


def test_a_coefficient_is_a_wave_whose_height_falls_with_its_frequency():
    heights = []
    for k in (1, 2, 4):
        values = torch.zeros(1, 3, 16, 9, 2, dtype=torch.float64)
        values[0, :, 0, k, 0] = 1e-3
        wave = Fourier(decorrelate=False).pictures(values).logit()[0, 0, 0]
        heights.append(wave.max().item())
        expected = heights[-1] * torch.cos(2 * math.pi * k * torch.arange(16, dtype=torch.float64) / 16)
        torch.testing.assert_close(wave, expected, rtol=0, atol=1e-12)
    assert heights == pytest.approx([heights[0], heights[0] / 2, heights[0] / 4])
    # 2 / sqrt(16 * 16) for the inverse transform of a pair, 1/4 of 1 / f
    assert heights[0] == pytest.approx(1e-3 * 2 / 16 * 0.25 * 16)


def test_the_colours_are_those_of_natural_pictures():
    root = torch.tensor(COLOUR_ROOT)
    spread = root.square().sum(1).sqrt()  # the deviation of each colour that this square root stands for
    torch.testing.assert_close(spread, load("tinynet").std.flatten(), rtol=0.03, atol=0)
    gram = root.T @ root  # made of singular vectors: its columns are orthogonal, the first is brightness
    assert (gram - gram.diag().diag()).abs().max() < 0.002
    assert gram[0, 0] > 10 * gram[1, 1] > 30 * gram[2, 2]
    values = torch.zeros(1, 3, 2, 2, 2, dtype=torch.float64)
    values[0, 0, 0, 0, 0] = 0.1
    shift = Fourier().pictures(values).logit()[0, :, 0, 0]
    torch.testing.assert_close(shift / shift[0], torch.tensor([1, 0.27 / 0.26, 0.27 / 0.26], dtype=torch.float64))


def test_normalised_pixels():
    way = Pixels((0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    picture = rand(1, 3, 2, 2)
    values = way.values(picture)
    torch.testing.assert_close(values[0, 1], (picture[0, 1] - 0.2) / 0.25)
    torch.testing.assert_close(way.pictures(values), picture)
    assert Pixels().pictures(picture) is picture


def test_noise_depends_on_its_seed_and_place_alone():
    one, three = noise(Fourier(), (8, 8), spread=0.1, seed=4), noise(Fourier(), (8, 8), spread=0.1, seed=4, count=3)
    assert torch.equal(one[0], three[0])
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(one, noise(Fourier(), (8, 8), spread=0.1, seed=5))
    many = noise(Pixels(0.4, 1 / 255), (64, 64), spread=10.0, seed=0)
    assert many.mean().item() == pytest.approx(0.4, abs=2e-3)
    assert many.std().item() == pytest.approx(10 / 255, rel=0.03)


# penalties


def test_total_variation_by_hand():
    picture = torch.zeros(1, 3, 2, 3, dtype=torch.float64)
    picture[0, 1] = torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
    # down: 2, 0, -3; across: 1, 2 and -1, -1
    assert total_variation(picture).item() == 4 + 0 + 9 + 1 + 4 + 1 + 1
    # by pixel: (0,0) 4+1, (0,1) 0+4, (0,2) 9, (1,0) 1, (1,1) 1
    expected = 5**0.5 + 4**0.5 + 9**0.5 + 1 + 1
    assert total_variation(picture, beta=1.0).item() == pytest.approx(expected, abs=1e-4)


def test_total_variation_is_over_rows_and_columns_alike_and_not_over_colours():
    picture = rand(2, 3, 5, 7)
    torch.testing.assert_close(total_variation(picture), total_variation(picture.transpose(2, 3)))
    flat = rand(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert total_variation(flat).item() == 0
    assert gradcheck(lambda x: total_variation(x, 1.5), (rand(1, 3, 3, 3).requires_grad_(),))
    assert torch.isfinite(
        torch.autograd.grad(total_variation(x := flat.clone().requires_grad_(), 1.0).sum(), x)[0]
    ).all()


def test_norms_by_hand():
    picture = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert l2(picture).item() == pytest.approx(0.5)
    assert l2(picture, (0.5, 0.5, 1.0), (1.0, 0.5, 2.0)).item() == pytest.approx(0 + 1 + 0.25)
    assert alpha_norm(picture).item() == pytest.approx(2 * 0.5**6)
    assert alpha_norm(picture, 3.0, 0.0).item() == pytest.approx(0.125 + 1)


def test_blur_is_scipys():
    picture = rand(2, 3, 9, 4)
    for sigma in (0.5, 1.0, 2.3):
        expected = gaussian_filter(picture.numpy(), (0, 0, sigma, sigma))
        torch.testing.assert_close(gaussian_blur(picture, sigma), torch.from_numpy(expected), rtol=1e-12, atol=1e-14)
    assert gaussian_blur(picture, 0.1) is picture


def test_a_step_down_the_roughness_is_a_blur():
    picture = rand(1, 3, 6, 6)
    found = optimise(lambda x: -roughness(x, 1.2), picture, steps=1, rule=Plain(0.3))
    torch.testing.assert_close(found, 0.7 * picture + 0.3 * gaussian_blur(picture, 1.2))


# projections


def test_boxes_and_balls():
    values = 4 * rand(2, 3, 2, 2) - 2
    low, high = (-1.0, -0.5, 0.0), (1.0, 0.5, 0.25)
    found = Box(low, high)(values, values, 0)
    for i in range(3):
        assert torch.equal(found[:, i], values[:, i].clamp(low[i], high[i]))
    assert torch.equal(Box()(values, values, 0), values.clamp(0, 1))
    lengths = values.flatten(1).norm(dim=1)
    radius = lengths.mean().item()
    found = Ball(radius)(values, values, 0)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), lengths.clamp(max=radius))
    inside = int(lengths.argmin())
    assert torch.equal(found[inside], values[inside])


def test_decay_and_periodic_blur():
    values = rand(1, 3, 5, 5)
    torch.testing.assert_close(Decay(0.3)(values, values, 0), 0.7 * values)
    blurred = gaussian_blur(values, 0.5)
    for step in range(7):
        assert torch.equal(Blur(0.5, 3)(values, values, step), blurred if step in (0, 3, 6) else values)


def test_pixels_of_small_norm_or_contribution_are_set_to_zero():
    values = torch.zeros(1, 3, 1, 4, dtype=torch.float64)
    values[0, 0] = torch.tensor([3.0, -1.0, 2.0, 4.0])
    values[0, 2] = torch.tensor([4.0, 0.0, 0.0, 3.0])  # norms 5, 1, 2, 5
    kept = ClipSmallNorm(50)(values, values, 0)  # the median is 3.5
    assert (kept[0, 0] == torch.tensor([3.0, 0.0, 0.0, 4.0], dtype=torch.float64)).all()
    assert (kept[0, 2] == torch.tensor([4.0, 0.0, 0.0, 3.0], dtype=torch.float64)).all()
    gradient = torch.zeros_like(values)
    gradient[0, 0] = torch.tensor([1.0, -9.0, 1.0, 3.0])
    gradient[0, 2] = torch.tensor([-1.0, 0.0, 0.0, -3.0])  # contributions -1, 9, 2, 3: their sizes count
    kept = ClipSmallContribution(50)(values, gradient, 0)
    assert (kept[0, 0] != 0).tolist() == [[False, True, False, True]]
    two = torch.cat([values, 100 * values])
    assert torch.equal(ClipSmallNorm(50)(two, two, 0)[1], 100 * ClipSmallNorm(50)(values, values, 0)[0])


# transforms


def test_jitter_moves_whole_pixels_and_loses_none():
    picture = rand(1, 3, 5, 7)
    seen = {}
    for seed in range(200):
        moved = Jitter(0, 2)(picture, torch.Generator().manual_seed(seed))
        ways = [(x, y) for x in range(5) for y in range(5) if torch.equal(moved, picture.roll((y, x), (2, 3)))]
        assert len(ways) == 1
        seen[ways[0]] = True
    assert sorted(seen) == [(x, y) for x in range(3) for y in range(3)]  # both ends are drawn


def test_padding_and_cropping():
    picture = rand(1, 3, 5, 7)
    padded = Pad(2, 0.25)(picture, random())
    assert torch.equal(padded[:, :, 2:-2, 2:-2], picture)
    assert (padded[:, :, :2] == 0.25).all()
    seen = set()
    for seed in range(100):
        cut = Crop(2)(picture, torch.Generator().manual_seed(seed))
        assert cut.shape == (1, 3, 3, 5)
        seen |= {(y, x) for y in range(3) for x in range(3) if torch.equal(cut, picture[:, :, y : y + 3, x : x + 5])}
    assert len(seen) == 9


def test_scaling_changes_the_number_of_pixels_and_keeps_a_slope():
    ramp = torch.linspace(0, 1, 40, dtype=torch.float64).expand(1, 3, 40, 40)
    small = Scale(0.5, 0.5)(ramp, random())
    assert small.shape == (1, 3, 20, 20)
    step = (ramp[..., 1] - ramp[..., 0])[0, 0, 0]
    torch.testing.assert_close(small[..., 2:-2].diff(dim=3), (2 * step).expand(1, 3, 20, 15))
    assert Scale(1.0, 1.0)(ramp, random()) is ramp
    sizes = {Scale(0.5, 1.5)(ramp, torch.Generator().manual_seed(seed)).shape[-1] for seed in range(60)}
    assert min(sizes) < 23
    assert max(sizes) > 57


def test_rotation_turns_a_ramp_also_of_a_picture_that_is_not_square():
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(31.0), indexing="ij")
    ramp = (columns - 15).double().expand(1, 3, 21, 31)
    turned = Rotate(30.0)(ramp, torch.Generator().manual_seed(1))
    angle = math.radians(30 * (2 * torch.rand((), generator=torch.Generator().manual_seed(1)).item() - 1))
    expected = math.cos(angle) * (columns - 15) - math.sin(angle) * (rows - 10)
    middle = (slice(None), slice(None), slice(8, 13), slice(8, 23))
    torch.testing.assert_close(turned[middle], expected.double().expand(1, 3, 21, 31)[middle])
    assert abs(angle) > 0.1
