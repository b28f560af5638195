"""Common corruptions against closed forms, statistics, Pillow and the standard library; what holds of all of them."""

import colorsys
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from attack.nets import conv_net, draw, labels_of
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack import CORRUPTIONS, MeanShare, Share, corrupt, draw_corruptions, evaluate_corruptions
from saccade.attack.corruptions import blur, digital, noise, weather
from saccade.attack.corruptions.frost import TINT, frost, window
from saccade.attack.corruptions.kernels import disc, filtered, gaussian, streaks
from saccade.attack.corruptions.levels import constants
from saccade.attack.corruptions.plasma import plasma
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.pictures import resize, sample

DRAWN = [name for name, one in CORRUPTIONS.items() if one.group == "noise"] + [
    "glass-blur", "motion-blur", "snow", "frost", "fog", "elastic",
]  # fmt: skip


def drawn(count: int = 1, seed: int = 0) -> list[torch.Generator]:
    return [generator(seed, i) for i in range(count)]


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """(1, 3, 64, 64)."""
    return resize(sample("chelsea")[:, :300, 100:400], (64, 64)).clamp(0, 1)[None]


def grey(value: float, side: int = 64, count: int = 4) -> Tensor:
    return torch.full((count, 3, side, side), value)


def ramp(height: int, width: int) -> tuple[Tensor, Tensor]:
    """How far down and to the right of the middle each pixel is, float64 (1, 3, H, W)."""
    down, right = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (height, width))
    shape = (1, 3, height, width)
    return down[:, None].expand(shape), right.expand(shape)


# Noise


def test_gaussian_noise_has_its_deviation_and_no_other_order() -> None:
    for severity, std in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1):
        change = corrupt(grey(0.5, 32, 16), "gaussian-noise", severity=severity) - 0.5
        assert change.std().item() == pytest.approx(std, rel=0.02)
        assert change.mean().item() == pytest.approx(0, abs=0.001)
        assert change.transpose(0, 1).flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 0.03
        assert change.flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 0.08  # pictures have noise of their own
        beside = torch.stack([change[..., :-1].flatten(), change[..., 1:].flatten()]).corrcoef()[0, 1]
        assert abs(beside) < 0.02


@pytest.mark.parametrize("value", [0.05, 0.3, 0.8])
def test_shot_noise_varies_as_light_does(value: float) -> None:
    counts = noise.shot_noise(grey(value), drawn(4), 25.0)
    assert counts.mean().item() == pytest.approx(value, rel=0.02)
    assert counts.var().item() == pytest.approx(value / 25, rel=0.05)
    torch.testing.assert_close(25 * counts, (25 * counts).round())
    assert (noise.shot_noise(grey(0.0), drawn(4), 25.0) == 0).all()


def test_impulse_noise_replaces_its_share() -> None:
    for severity, share in enumerate((0.03, 0.06, 0.09, 0.17, 0.27), 1):
        out = corrupt(grey(0.5, 224, 3), "impulse-noise", severity=severity)
        assert (out == 0).double().mean().item() == pytest.approx(share / 2, rel=0.05)
        assert (out == 1).double().mean().item() == pytest.approx(share / 2, rel=0.05)
        assert ((out == 0) | (out == 1) | (out == 0.5)).all()


# Blur


def test_kernels_have_a_sum_of_one_and_their_widths() -> None:
    for kernel in (disc(0.3), disc(1), disc(7.25), gaussian(0.05), gaussian(3), streaks(9, 2.5, [0.3, 2.0])):
        torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(len(kernel), dtype=torch.float64))
        assert kernel.min() >= 0
        assert kernel.shape[-1] % 2 == 1
    assert torch.equal(disc(0.3), torch.ones(1, 1, 1, dtype=torch.float64))

    def variance(kernel: Tensor) -> float:
        at = torch.arange(kernel.shape[-1], dtype=torch.float64) - kernel.shape[-1] // 2
        return float((kernel[0].sum(0) * at.square()).sum())

    assert variance(gaussian(3)) == pytest.approx(9, rel=0.01)
    assert variance(disc(7.25)) == pytest.approx(7.25**2 / 4 + 1 / 12, rel=0.01)  # of a disc, and of a pixel
    assert torch.equal(disc(4.3), disc(4.3).transpose(1, 2))


def test_streaks_point_where_they_should() -> None:
    """The mean of half a bell lies sigma sqrt(2 / pi) from its middle; sums over whole pixels add half the first."""
    angles = [0.0, math.pi / 2, -0.7]
    kernels = streaks(100, 6, angles)
    at = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    weights = torch.exp(-torch.arange(25.0, dtype=torch.float64).square() / 72)
    far = float((weights * torch.arange(25.0)).sum() / weights.sum())
    assert far == pytest.approx(6 * math.sqrt(2 / math.pi), rel=0.1)
    for kernel, angle in zip(kernels, angles, strict=True):
        assert float((kernel.sum(1) * at).sum()) == pytest.approx(far * math.sin(angle), abs=1e-9)
        assert float((kernel.sum(0) * at).sum()) == pytest.approx(far * math.cos(angle), abs=1e-9)
    assert streaks(3, 100, [0.0])[0].count_nonzero() == 7  # twice the radius, and the middle


def test_filtering_is_convolution_with_the_border_continued() -> None:
    x, kernels = draw(2, 3, 9, 14), draw(2, 5, 5, seed=3)
    around = F.pad(x, [2] * 4, mode="replicate")
    for kernel in (kernels, kernels[:1]):
        flipped = kernel.flip(1, 2).expand(2, -1, -1)
        wanted = [F.conv2d(one[:, None], k[None, None])[:, 0] for one, k in zip(around, flipped, strict=True)]
        torch.testing.assert_close(filtered(x, kernel), torch.stack(wanted))


@pytest.mark.parametrize("name", ["defocus-blur", "glass-blur", "motion-blur", "zoom-blur", "elastic", "pixelate"])
def test_even_pictures_stay(name: str) -> None:
    x = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(2, 3, 24, 40)
    torch.testing.assert_close(corrupt(x, name, severity=5), x, rtol=0, atol=2e-6)


def test_zooming_into_a_slope_makes_it_flatter() -> None:
    down, right = ramp(20, 30)
    flatter = (2 + sum(1 / (1 + 0.01 * i) for i in range(1, 11))) / 12
    for slope in (down, right):
        torch.testing.assert_close(blur.zoom_blur(slope, drawn(), 1.1), flatter * slope)


def test_glass_takes_pixels_from_its_reach() -> None:
    down, right = ramp(96, 96)
    for reach in (0.5, 3.0):
        moved = [blur.glass_blur(slope, drawn(), 0.05, reach) - slope for slope in (down, right)]
        for way in moved:
            inner = way[0, 0, 12:-12, 12:-12]
            torch.testing.assert_close(inner, inner.round())
            steps = torch.arange(-40, 41, dtype=torch.float64)  # a bell, rounded
            below = 0.5 * (1 + torch.erf((steps + 0.5) / reach / math.sqrt(2)))
            chance = below.diff()
            expected = float((chance * steps[1:].square()).sum()) ** 0.5
            assert inner.std().item() == pytest.approx(expected, rel=0.04)
            assert inner.mean().item() == pytest.approx(0, abs=0.1)
            assert torch.equal(way[0, 0], way[0, 2])  # colours move together


# Weather


def test_snow_pales_and_falls_twice() -> None:
    x = draw(2, 3, 20, 28)
    none = weather.snow(x, drawn(2), 0.1, 0.1, 1.0, 0.9, 8, 3, 0.7)
    luma = (x * torch.tensor([0.2126, 0.7152, 0.0722], dtype=x.dtype).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(none, 0.7 * x + 0.3 * torch.maximum(x, 1.5 * luma + 0.5))
    x = torch.zeros(2, 3, 32, 32)
    flakes = weather.snow(x, drawn(2), 0.1, 0.3, 1.0, 0.5, 8, 3, 1.0)
    torch.testing.assert_close(flakes, flakes.rot90(2, (2, 3)))
    chance = 0.5 * math.erfc(0.4 / 0.3 / math.sqrt(2))
    assert flakes[:, 0].mean().item() == pytest.approx(2 * chance * 0.6, rel=0.25)  # of those above 0.5, mean 0.6
    assert torch.equal(flakes[:, 0], flakes[:, 2])


def test_fog_is_added_and_white_stays_white() -> None:
    x = 0.8 * draw(2, 3, 32, 32)
    out = weather.fog(x, drawn(2), 1.5, 1.75)
    brightest = x.amax((1, 2, 3), keepdim=True)
    clouds = (out * (brightest + 1.5) / brightest - x) / 1.5
    torch.testing.assert_close(clouds, plasma(drawn(2), 32, 32, 1.75**2, x)[:, None].expand_as(x))
    assert clouds.amin((1, 2, 3)).abs().max() < 1e-12
    assert (clouds.amax((1, 2, 3)) - 1).abs().max() < 1e-12
    assert (out <= brightest).all()


def test_clouds_are_smoother_the_more_their_detail_decays() -> None:
    like = torch.zeros((), dtype=torch.float64)
    rough, smooth = (plasma(drawn(8), 64, 64, decay, like) for decay in (1.5, 6.0))
    assert 3 * smooth.diff(dim=2).abs().mean() < rough.diff(dim=2).abs().mean()
    assert plasma(drawn(2), 5, 11, 2.0, like).shape == (2, 5, 11)


def test_frost_lies_on_the_picture() -> None:
    x = draw(2, 3, 40, 24)
    ice = window(drawn(2), 40, 24, x)
    assert 0 <= ice.min() < 0.1 < 0.3 < ice.max() <= 1
    assert ((ice[0] - ice[1]).abs() > 0.1).double().mean() > 0.2
    wanted = 0.75 * x + 0.45 * torch.tensor(TINT, dtype=x.dtype).view(3, 1, 1) * ice[:, None]
    torch.testing.assert_close(frost(x, drawn(2), 0.75, 0.45), wanted)


def test_brightness_is_that_of_hsv() -> None:
    x = draw(1, 3, 16, 16)
    x[0, :, 0, 0] = 0
    out = corrupt(x, "brightness", severity=5)[0]
    for i in range(16):
        for j in range(16):
            hue, saturation, value = colorsys.rgb_to_hsv(*x[0, :, i, j].tolist())
            wanted = colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + 0.3))
            assert out[:, i, j].tolist() == pytest.approx(wanted, abs=1e-9)


# Digital


def test_contrast_is_drawn_to_the_mean() -> None:
    x = draw(2, 3, 32, 32)
    out = corrupt(x, "contrast", severity=4)
    torch.testing.assert_close(out.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(out.std((2, 3)), 0.3 * x.std((2, 3)))


def test_elastic_moves_places_by_its_size() -> None:
    down, right = ramp(160, 160)
    moved = [digital.elastic(slope, drawn(), 1.5, 2.0, 1e-9) - slope for slope in (down, right)]
    for way in moved:
        inner = way[0, 0, 10:-10, 10:-10]
        assert inner.std().item() == pytest.approx(1.5, rel=0.1)
        beside = torch.stack([inner[:, :-1].flatten(), inner[:, 1:].flatten()]).corrcoef()[0, 1].item()
        assert beside == pytest.approx(math.exp(-1 / (4 * 2.0**2)), abs=0.02)  # of noise smoothed by a bell
    affine = digital.elastic(right, drawn(), 1e-9, 1.0, 6.0)[0, 0, 20:-20, 20:-20]
    assert affine.diff(dim=1).diff(dim=1).abs().max() < 1e-6
    assert 0.3 < (affine - right[0, 0, 20:-20, 20:-20]).abs().amax() < 6 * 3.5


def test_pixelating_is_boxes_as_in_pillow(photo: Tensor) -> None:
    raw = Image.fromarray((255 * photo[0]).round().byte().permute(1, 2, 0).numpy()).resize((48, 40))
    x = torch.from_numpy(np.array(raw)).permute(2, 0, 1)[None].float() / 255
    for block, size in ((1.5, (32, 26)), (4.0, (12, 10)), (1 / 0.65, (31, 26))):
        wanted = np.array(raw.resize(size, Image.Resampling.BOX).resize((48, 40), Image.Resampling.BOX))
        out = digital.pixelate(x, drawn(), block)[0].permute(1, 2, 0) * 255
        np.testing.assert_allclose(out.numpy(), wanted, atol=1.01)


def test_jpeg_is_pillows(photo: Tensor) -> None:
    x = torch.cat([photo, photo.flip(3)])[..., :32, :32]
    for severity, quality in enumerate((80, 65, 58, 50, 40), 1):
        out = corrupt(x, "jpeg", severity=severity)
        for one, new in zip(x, out, strict=True):
            file = io.BytesIO()
            Image.fromarray((255 * one).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
            wanted = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
            assert torch.equal((255 * new).round().byte(), wanted)


def test_jpeg_of_jpeg_of_quality_75_is_rougher_just_above_50_than_below(photo: Tensor) -> None:
    once = digital.jpeg(photo, drawn(), 75)
    before, above, below = (
        x.diff(dim=3).abs().mean().item()
        for x in (once, digital.jpeg(once, drawn(), 52), digital.jpeg(once, drawn(), 48))
    )
    assert below < before < above


# All


def test_severities_follow_both_tables() -> None:
    small, large = [(0.04, 1.0)] * 5, [(0.16, 9.0)] * 5
    assert constants(small, large, (1,), 3, 32) == (0.04, 1.0)
    assert constants(small, large, (1,), 3, 224) == pytest.approx((0.16, 9.0))
    assert constants(small, large, (1,), 3, 16) == (0.04, 1.0)
    assert constants(small, large, (1,), 3, 448) == pytest.approx((0.16, 18.0))
    quarter = round(math.sqrt(32 * 224))
    assert constants(small, large, (1,), 3, quarter) == pytest.approx((0.08, 3.0), rel=0.01)
    for one in CORRUPTIONS.values():
        assert len(one.small) == len(one.large) == 5
        assert all(value > 0 for row in (*one.small, *one.large) for value in row)
    groups = [one.group for one in CORRUPTIONS.values()]
    assert [groups.count(group) for group in ("noise", "blur", "weather", "digital")] == [3, 4, 4, 4]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_holds_of_all(name: str, photo: Tensor) -> None:
    x = torch.cat([photo, photo.flip(3), 1 - photo, photo.roll(9, 2)])[..., :20, :32]
    given, before = x.clone(), torch.get_rng_state()
    out = corrupt(x, name, severity=4, seed=3, first=5)
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), before)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert 0 <= out.min() <= out.max() <= 1
    assert not torch.equal(out, x)
    assert torch.equal(out, corrupt(x, name, severity=4, seed=3, first=5))
    for i in range(4):  # no picture depends on the others
        torch.testing.assert_close(
            corrupt(x[i : i + 1], name, severity=4, seed=3, first=5 + i)[0], out[i], rtol=0, atol=1e-6
        )
    fine = corrupt(x.double(), name, severity=4, seed=3, first=5)
    assert (fine - out).abs().quantile(0.99) < 1e-5  # all but what a rounding decides
    other = [corrupt(x[:1], name, severity=4, seed=4, first=5), corrupt(x[:1], name, severity=4, seed=3, first=6)]
    assert all(torch.equal(one[0], out[0]) != (name in DRAWN) for one in other)
    assert torch.equal(corrupt(x, name.upper().replace("-", "_"), severity=4, seed=3, first=5), out)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(16, 16), (17, 40), (224, 225)])
def test_any_size(name: str, size: tuple[int, int], photo: Tensor) -> None:
    x = resize(photo, size).clamp(0, 1)
    for severity in (1, 5):
        out = corrupt(x, name, severity=severity)
        assert out.shape == x.shape
        assert torch.isfinite(out).all()
        assert 0 <= out.min() <= out.max() <= 1
        assert not torch.equal(out, x)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_rise(name: str, photo: Tensor) -> None:
    """The mean distance from the picture, over a few draws. Published constants of glass are not ordered for small
    pictures; frost darkens what it does not cover, so that here what is left of the picture is measured."""
    x = photo.expand(6, -1, -1, -1)
    x = resize(x[:1], (224, 224)).clamp(0, 1) if name == "glass-blur" else x
    far = []
    for severity in range(1, 6):
        out = corrupt(x, name, severity=severity)
        change = (out - x).flatten(1).norm(dim=1).mean().item()
        alike = torch.stack([x.flatten(), out.flatten()]).corrcoef()[0, 1].item()
        far.append(-alike if name == "frost" else change)
    assert far == sorted(far)
    assert len(set(far)) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: corrupt(grey(0.5), "rain"), "no corruption 'rain'. There are gaussian-noise, "),
        (lambda: corrupt(grey(0.5), "fog", severity=6), "severity is 6, expected a whole number from 1 to 5"),
        (lambda: corrupt(grey(0.5), "fog", severity=True), "severity is True"),
        (lambda: corrupt(grey(0.5)[0], "fog"), r"Could not corrupt pictures by fog: .* picture\[None\]"),
        (lambda: corrupt(grey(0.5)[:, :1], "fog"), "have 1 channels, expected red, green and blue"),
        (lambda: corrupt(2 * grey(0.9), "fog"), r"expected \[0, 1\]"),
        (lambda: draw_corruptions(grey(0.5)[0], severities=()), "no severities"),
        (lambda: evaluate_corruptions(Bright(), grey(0.5), [0] * 4, corruptions=[]), "corruptions are"),
        (lambda: evaluate_corruptions(Bright(), grey(0.5), [0] * 4, severities=(1, 1)), "none of them twice"),
        (lambda: evaluate_corruptions(Bright(), grey(0.5), [0] * 3), "3 .* 4 pictures"),
        (lambda: evaluate_corruptions(conv_net().train(), draw(2, 3, 8, 8), [0, 1]), "train mode"),
    ],
)
def test_refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        make()


# The table


class Bright(nn.Module):
    """Class 1 for pictures brighter than 0.55, else class 0; of two."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(0.55))
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([self.at - mean, mean - self.at], 1)


def test_the_table_is_what_counting_gives(photo: Tensor) -> None:
    network = Bright()
    levels = torch.linspace(0.3, 0.6, 13).view(-1, 1, 1, 1)
    x = (levels + 0.2 * (photo - photo.mean())).clamp(0, 1)[..., :32, :32]
    labels = torch.tensor([0, 1] + [0] * 11)
    names, severities, seen = ["brightness", "gaussian_noise", "fog"], (1, 5), []
    table = evaluate_corruptions(
        network, x, labels, corruptions=names, severities=severities, seed=7, batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(13 * (i + 1), 78) for i in range(6)]

    def right(z: Tensor) -> int:
        return sum(int(bool(one.mean() > 0.55) == bool(label)) for one, label in zip(z, labels, strict=True))

    assert table.clean == Share(right(x), 13)
    every = []
    for name in names:
        key = name.replace("_", "-")
        counts = [
            sum(right_one(corrupt(x[i : i + 1], name, severity=s, seed=7, first=i), labels[i]) for i in range(13))
            for s in severities
        ]
        assert [table.shares[key][s].count for s in severities] == counts
        assert table.mean(key).value == pytest.approx(sum(counts) / 26)
        every += counts
    assert table.mca.value == pytest.approx(sum(every) / 78)
    assert table.shares["brightness"][5].count < table.shares["brightness"][1].count
    facts = json.loads(json.dumps(table.as_dict()))
    assert facts["corruptions"]["fog"]["severities"]["5"]["count"] == table.shares["fog"][5].count
    assert facts["mca"]["value"] == table.mca.value
    assert facts["settings"]["seed"] == 7
    head, rows = table.rows()
    assert head == ["corruption", "1", "5", "mean", "95 % interval"]
    assert [row[0] for row in rows] == ["brightness", "gaussian-noise", "fog"]
    assert rows[0][1] == f"{table.shares['brightness'][1].value:.1%}"


def right_one(z: Tensor, label: Tensor) -> int:
    return int(bool(z.mean() > 0.55) == bool(label))


def test_parts_change_nothing(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = conv_net(side=16).float(), photo[..., :16, :16].repeat(7, 1, 1, 1)
    labels = labels_of(network, x)
    labels[::3] += 1
    labels %= 5
    whole = evaluate_corruptions(network, x, labels, severities=(3,))
    monkeypatch.setattr("saccade.attack.corruptions.evaluate.PIXELS", 3 * 16 * 16)
    assert evaluate_corruptions(network, x, labels, severities=(3,)) == whole
    assert list(whole.shares) == list(CORRUPTIONS)


def test_the_network_is_left_as_found(photo: Tensor) -> None:
    network, photo = conv_net(side=16).float(), photo[..., :16, :16]
    network[0].weight.requires_grad_(False)
    before = [(p.requires_grad, p.clone(), p.grad) for p in network.parameters()]
    state = torch.get_rng_state()
    evaluate_corruptions(network, photo, [1], severities=(2,))
    assert torch.equal(torch.get_rng_state(), state)
    for (flag, value, grad), parameter in zip(before, network.parameters(), strict=True):
        assert (parameter.requires_grad, parameter.grad) == (flag, grad)
        assert torch.equal(parameter, value)


def test_a_mean_of_shares_is_no_surer_than_a_share() -> None:
    mean = MeanShare((30, 50, 10), 100)
    assert mean.value == pytest.approx(0.3)
    assert mean.interval == pytest.approx(Share(30, 100).interval)
    assert str(mean) == str(Share(30, 100))


def test_the_sheet_shows_all(photo: Tensor) -> None:
    one = draw_corruptions(photo[0], cell=40)
    two = draw_corruptions(photo[0], severities=(1, 5), cell=40)
    assert one.shape[2] == two.shape[2]
    assert one.shape[1] < two.shape[1]
    assert one.shape[1] > 2 * 4 * 40
