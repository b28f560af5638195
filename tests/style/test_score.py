"""The judge of style transfers, held against the papers' formulas written as loops over places and channels."""

import ast
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks import Network
from saccade.style.preset import Layers, Preset
from saccade.style.presets import PRESETS
from saccade.style.score import score
from saccade.style.statistics import Gram, GramMeanStd, MeanStd, Sliced, Statistic, Wasserstein

MEAN, STD = (0.25, 0.5, 0.75), (0.125, 0.25, 0.5)  # exact in float32
LAYERS = Layers(("3",), ("1", "3"))
PLAIN = Preset(content_weights=(2.0,), style_weights=(3.0, 5.0))


def make_network(*, inplace: bool = False, pool: nn.Module | None = None) -> Network:
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
    tail = nn.Conv2d(5, 2, 64)  # needs larger pictures than any here: it must never run
    network = nn.Sequential(convolutions[0], nn.ReLU(inplace), pool or nn.MaxPool2d(2), convolutions[1], tail)
    return Network(network, mean=MEAN, std=STD)


def pictures(count: int = 1, h: int = 6, w: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def maps(network: Network, picture: Tensor, *, padding: str = "constant", pool=None) -> tuple[Tensor, Tensor]:
    """The two style maps of `LAYERS` for a picture (3, H, W), computed step by step."""
    first, _, _, second, _ = (layer for layer in network.module)
    x = (picture[None] - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    x = functional.pad(x, (1, 1, 1, 1), mode=padding)
    one = functional.conv2d(x, first.weight.double(), first.bias.double()).clamp(min=0)
    pooled = (pool or (lambda y: functional.max_pool2d(y, 2)))(one)
    two = functional.conv2d(functional.pad(pooled, (1, 1, 1, 1)), second.weight.double(), second.bias.double())
    return one[0], two[0]


def rows(features: Tensor, mask: Tensor | None = None) -> list[tuple[float, np.ndarray]]:
    """The places of a map: how much each counts, and its features."""
    _, h, w = features.shape
    places = itertools.product(range(h), range(w))
    return [(1.0 if mask is None else float(mask[y, x]) ** 2, features[:, y, x].numpy()) for y, x in places]


# --- the statistics, place by place. A map is a list of (weight, features); a blend is a list of (share, map)


def gram_of(places, divide):
    c = len(places[0][1])
    total = np.zeros((c, c))
    for weight, f in places:
        for i in range(c):
            for j in range(c):
                total[i, j] += weight * f[i] * f[j]
    return total / len(places) / (c if divide == "chw" else 1)


def mean_of(places):
    return sum(weight * f for weight, f in places) / sum(weight for weight, _ in places)


def second_of(places):
    return sum(weight * np.outer(f, f) for weight, f in places) / sum(weight for weight, _ in places)


def blended(blend, of):
    return sum(share * of(places) for share, places in blend)


def gram_distance(now, blend, divide="chw", reduce="mean", relative=False):
    ours, theirs = gram_of(now, divide), blended(blend, lambda p: gram_of(p, divide))
    reducer = np.mean if reduce == "mean" else np.sum
    return reducer((ours - theirs) ** 2) / (reducer(theirs**2) if relative else 1)


def mean_std_distance(now, blend, relative=False):
    def numbers(mean, second):
        return np.concatenate([mean, np.sqrt(np.diag(second) - mean**2 + 1e-5)])

    ours = numbers(mean_of(now), second_of(now))
    theirs = numbers(blended(blend, mean_of), blended(blend, second_of))
    size = np.sum(theirs**2) if relative else len(ours) / 2
    return np.sum((ours - theirs) ** 2) / size


def wasserstein_distance(now, blend, eps):
    mean, mean_ = mean_of(now), blended(blend, mean_of)
    a = second_of(now) - np.outer(mean, mean) + eps * np.eye(len(mean))
    b = blended(blend, second_of) - np.outer(mean_, mean_) + eps * np.eye(len(mean))
    return (np.sum((mean - mean_) ** 2) + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)) / len(mean)


def quantile(places, direction, level):
    """Of projections on a direction: linear between the middles of their shares, flat beyond."""
    line = sorted(((float(f @ direction), weight) for weight, f in places if weight > 0), key=lambda one: one[0])
    total, below, points = sum(weight for _, weight in line), 0.0, []
    for value, weight in line:
        points.append(((below + weight / 2) / total, value))
        below += weight
    for (low, a), (high, b) in itertools.pairwise(points):
        if low <= level <= high:
            return a + (b - a) * (level - low) / (high - low)
    return points[0][1] if level < points[0][0] else points[-1][1]


def sliced_distance(now, blend, count, seed):
    channels = len(now[0][1])
    directions = torch.randn(count or channels, channels, generator=generator(seed), dtype=torch.float64).numpy()
    blend = [(share, places) for share, places in blend if share]
    finest = max(len(places) for _, places in blend)
    result = 0.0
    for direction in directions:
        direction = direction / np.sqrt(np.sum(direction**2))
        if len(blend) > 1:
            grid = [(level + 0.5) / finest for level in range(finest)]
            values = [sum(share * quantile(places, direction, level) for share, places in blend) for level in grid]
            target, on = [(1.0, np.array([value])) for value in values], np.ones(1)
        else:
            target, on = blend[0][1], direction
        total, below = sum(weight for weight, _ in now), 0.0
        for value, weight in sorted(((float(f @ direction), weight) for weight, f in now), key=lambda one: one[0]):
            level = (below + weight / 2) / total
            below += weight
            result += weight / total * (value - quantile(target, on, level)) ** 2 if weight else 0.0
    return result / len(directions)


STATISTICS: dict[str, tuple[Statistic, object]] = {
    "gram": (Gram(), gram_distance),
    "gram hw": (Gram("hw"), lambda n, b: gram_distance(n, b, "hw")),
    "gram sum": (Gram("chw", "sum"), lambda n, b: gram_distance(n, b, "chw", "sum")),
    "gram relative": (Gram("hw", "sum", True), lambda n, b: gram_distance(n, b, "hw", "sum", True)),
    "mean-std": (MeanStd(), mean_std_distance),
    "mean-std relative": (MeanStd(relative=True), lambda n, b: mean_std_distance(n, b, True)),
    "gram-mean-std": (
        GramMeanStd(weight=0.25),
        lambda n, b: gram_distance(n, b, relative=True) + 0.25 * mean_std_distance(n, b, True),
    ),
    "wasserstein": (Wasserstein(eps=1e-3), lambda n, b: wasserstein_distance(n, b, 1e-3)),
    "sliced": (Sliced(), lambda n, b: sliced_distance(n, b, None, 0)),
    "sliced 3": (Sliced(directions=3, seed=7), lambda n, b: sliced_distance(n, b, 3, 7)),
}
each_statistic = pytest.mark.parametrize(("statistic", "reference"), STATISTICS.values(), ids=STATISTICS)


@each_statistic
@pytest.mark.parametrize("weights", [None, (1.0, 3.0), (0.0, 2.0)])
def test_style_of_one_target_between_styles(statistic, reference, weights):
    network, now, content = make_network(), pictures(2), pictures(1, seed=1)
    styles = [pictures(1, 8, 8, seed=2), pictures(1, 10, 4, seed=3)]
    found = score(
        now, content, styles, network=network, preset=replace(PLAIN, statistic=statistic), layers=LAYERS,
        style_weights=weights,
    )  # fmt: skip
    shares = [w / sum(weights or (1, 1)) for w in weights or (1, 1)]
    for layer, weight in enumerate(PLAIN.style_weights):
        blend = [(s, rows(maps(network, style[0])[layer])) for s, style in zip(shares, styles, strict=True)]
        wanted = [weight * reference(rows(maps(network, one)[layer]), blend) for one in now]
        np.testing.assert_allclose(found.style_layers[layer], wanted, rtol=1e-9)
    torch.testing.assert_close(found.style, torch.stack(found.style_layers).sum(0))


@each_statistic
@pytest.mark.parametrize("weights", [None, (1.0, 3.0)])
def test_each_region_has_a_target_of_its_own(statistic, reference, weights):
    network, now, content = make_network(), pictures(2), pictures(1, seed=1)
    styles = [pictures(1, 6, 8, seed=2), pictures(1, 10, 4, seed=3)]
    drawn = torch.Generator().manual_seed(5)
    soft = torch.rand(2, 6, 8, dtype=torch.float64, generator=drawn)
    walls = [torch.rand(6, 8, generator=drawn), torch.rand(10, 4, generator=drawn)]
    soft[0, :, 4:] = walls[1][4:] = 0
    found = score(
        now, content, styles, network=network, preset=replace(PLAIN, statistic=statistic), layers=LAYERS,
        style_weights=weights, masks=[soft] * 2, style_masks=[walls] * 2,
    )  # fmt: skip
    for layer, weight in enumerate(PLAIN.style_weights):
        wanted = np.zeros(2)
        for region, factor in enumerate(weights or (1.0, 1.0)):
            region_masks = [soft[region], walls[region].double()]
            if layer == 1:  # half as high and wide: averages of four
                region_masks = [m.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((1, 3)) for m in region_masks]
            target = rows(maps(network, styles[region][0])[layer], region_masks[1])
            ours = [rows(maps(network, one)[layer], region_masks[0]) for one in now]
            wanted += [weight * factor * reference(one, [(1.0, target)]) for one in ours]
        np.testing.assert_allclose(found.style_layers[layer], wanted, rtol=1e-9)


def test_masks_may_differ_from_layer_to_layer():
    network, now, content, style = make_network(), pictures(), pictures(seed=1), pictures(seed=2)
    at_layers = [torch.eye(6, 8), torch.ones(3, 4)]
    options = {"network": network, "preset": PLAIN, "layers": LAYERS}
    both = score(now, content, [style], masks=[[m] for m in at_layers], **options)
    first, second = (score(now, content, [style], masks=[[m]] * 2, **options) for m in at_layers)
    assert torch.equal(both.style_layers[0], first.style_layers[0])
    assert torch.equal(both.style_layers[1], second.style_layers[1])
    assert not torch.equal(first.style_layers[0], second.style_layers[0])


@each_statistic
def test_a_mask_of_ones_is_no_mask_and_what_is_masked_does_not_count(statistic, reference):
    network, content, style = make_network(), pictures(seed=1), pictures(seed=2)
    now = pictures(2)
    now[1, :, :, 5:] = 0.5  # only the second one's right side differs, outside of the mask and of what a place sees
    now[1, :, :, :5] = now[0, :, :, :5]
    options = {"network": network, "preset": replace(PLAIN, statistic=statistic), "layers": LAYERS}
    plain = score(now, content, [style], **options)
    whole = score(now, content, [style], masks=[torch.ones(1, 6, 8)] * 2, **options)
    torch.testing.assert_close(plain.style, whole.style, rtol=1e-12, atol=0)
    left = torch.zeros(1, 6, 8)
    left[:, :, :2] = 1
    masked = score(now, content, [style], masks=[left] * 2, **options)
    torch.testing.assert_close(masked.style[0], masked.style[1], rtol=1e-12, atol=0)
    assert not torch.allclose(plain.style[0], plain.style[1])


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_content_is_compared_place_by_place(mean, relative):
    network, now, style = make_network(), pictures(2), pictures(seed=2)
    preset = replace(PLAIN, content_weights=(2.0, 7.0), content_mean=mean, content_relative=relative)
    layers = replace(LAYERS, content=("3", "1"))
    for content in (pictures(2, seed=1), pictures(1, seed=1)):
        found = score(now, content, [style], network=network, preset=preset, layers=layers)
        for one, layer, weight in ((0, 1, 2.0), (1, 0, 7.0)):
            wanted = []
            for picture, target in zip(now, content.expand(2, -1, -1, -1), strict=True):
                there = maps(network, target)[layer]
                squares = (maps(network, picture)[layer] - there).square()
                size = float(there.square().sum()) if relative else squares.numel() if mean else 1
                wanted.append(weight * float(squares.sum()) / size)
            np.testing.assert_allclose(found.content_layers[one], wanted, rtol=1e-12)
        torch.testing.assert_close(found.content, found.content_layers[0] + found.content_layers[1])
        torch.testing.assert_close(found.total, found.content + found.style + found.variation)


def variation_of(x: np.ndarray, kind: str) -> float:
    """Of a picture (3, H, W), pixel by pixel."""
    _, h, w = x.shape
    down = [x[c, i + 1, j] - x[c, i, j] for c in range(3) for i in range(h - 1) for j in range(w)]
    across = [x[c, i, j + 1] - x[c, i, j] for c in range(3) for i in range(h) for j in range(w - 1)]
    if kind == "squares":
        return sum(d**2 for d in down + across)
    if kind == "absolute":
        return sum(abs(d) for d in down + across)
    if kind == "mean-squares":
        return sum(sum(d**2 for d in some) / max(1, len(some)) for some in (down, across))

    def at(c, i, j):
        return x[c, min(max(i, 0), h - 1), min(max(j, 0), w - 1)]

    inside = [(c, i, j) for c in range(3) for i in range(h) for j in range(w)]
    corners = [(c, i, j) for c in range(3) for i in range(-1, h) for j in range(-1, w)]
    straight = sum((at(c, i, j + 1) - at(c, i, j)) ** 2 + (at(c, i + 1, j) - at(c, i, j)) ** 2 for c, i, j in inside)
    diagonal = sum(
        (at(c, i + 1, j + 1) - at(c, i, j)) ** 2 + (at(c, i + 1, j) - at(c, i, j + 1)) ** 2 for c, i, j in corners
    )
    return 2 * (straight / len(inside) / 3 + diagonal / len(corners) / 12)


@pytest.mark.parametrize("kind", ["squares", "absolute", "mean-squares", "nine-point"])
@pytest.mark.parametrize("space", ["pixels", "normalised", "bytes"])
def test_variation_pixel_by_pixel(kind, space):
    shift, scale = {"pixels": (0.0, 1.0), "normalised": (MEAN, STD), "bytes": (0.0, 1 / 255)}[space]
    preset = replace(PLAIN, tv_weight=3.0, tv=kind, space=space)
    for now in (pictures(2), pictures(1, 2, 7)):
        found = score(now, now, [now[:1]], network=make_network(), preset=preset, layers=LAYERS)
        seen = (now - torch.tensor(shift).view(-1, 1, 1)) / torch.tensor(scale).double().view(-1, 1, 1)
        wanted = [3.0 * variation_of(one.numpy(), kind) for one in seen]
        np.testing.assert_allclose(found.variation, wanted, rtol=1e-6 if space == "bytes" else 1e-12)


def window_pool(x: Tensor, side: int, outside: int, of) -> Tensor:
    """Windows of `side`, two apart, the first reaching `outside`: what `of` makes of the part inside of each."""
    _, c, h, w = x.shape
    tall, wide = (-(-(n + 2 * outside - side) // 2) + 1 for n in (h, w))
    cells = []
    for k, top, left in itertools.product(
        range(c), range(-outside, 2 * tall - outside, 2), range(-outside, 2 * wide - outside, 2)
    ):
        cells.append(of(x[0, k, max(top, 0) : top + side, max(left, 0) : left + side]))
    return torch.stack(cells).view(1, c, tall, wide)


@pytest.mark.parametrize(
    ("pooling", "rescaled", "of"),
    [
        ("max", True, lambda window: window.max()),
        ("average", False, lambda window: window.mean()),
        ("average", True, lambda window: 2 * window.mean()),
        ("l2", False, lambda window: (window.square().mean() * SIDE**2).sqrt()),
        ("l2", True, lambda window: 0.78 * (window.square().mean() * SIDE**2).sqrt()),
    ],
)
@pytest.mark.parametrize(
    ("side", "outside", "padding"), [(2, 0, "zeros"), (2, 0, "replicate"), (3, 0, "reflect"), (3, 1, "zeros")]
)
def test_pools_and_padding_are_replaced(pooling, rescaled, of, side, outside, padding, monkeypatch):
    monkeypatch.setitem(globals(), "SIDE", side)
    network = make_network(pool=nn.MaxPool2d(side, 2, outside, ceil_mode=True))
    preset = replace(PLAIN, pooling=pooling, rescaled=rescaled, padding=padding)
    now, content, style = pictures(), pictures(seed=1), pictures(seed=2)
    found = score(now, content, [style], network=network, preset=preset, layers=LAYERS)
    mode = {"zeros": "constant"}.get(padding, padding)
    (one, two), (_, wished), (one_, two_) = (
        maps(network, x[0], padding=mode, pool=lambda y: window_pool(y, side, outside, of))
        for x in (now, content, style)
    )
    np.testing.assert_allclose(found.content, 2 * float((two - wished).square().mean()), rtol=1e-10)
    wanted = 3 * gram_distance(rows(one), [(1, rows(one_))]) + 5 * gram_distance(rows(two), [(1, rows(two_))])
    np.testing.assert_allclose(found.style, wanted, rtol=1e-10)


@each_statistic
@pytest.mark.parametrize("pooling", ["max", "l2"])
def test_gradient_is_the_slope_of_the_total(statistic, reference, pooling):
    network, now, content, style = make_network(), pictures(2, 4, 6), pictures(1, 4, 6, seed=1), pictures(seed=2)
    preset = replace(PLAIN, statistic=statistic, tv_weight=0.5, tv="nine-point", pooling=pooling, padding="replicate")
    options = {"network": network, "preset": preset, "layers": LAYERS}
    found = score(now, content, [style], gradient=True, **options)
    assert found.gradient.shape == now.shape
    assert found.gradient.dtype == torch.float64
    way = torch.randn(now.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    ends = [score(now + step * way, content, [style], **options).total for step in (1e-6, -1e-6)]
    np.testing.assert_allclose((found.gradient * way).flatten(1).sum(1), (ends[0] - ends[1]) / 2e-6, rtol=1e-5)
    assert score(now, content, [style], **options).gradient is None


def test_gradient_is_finite_where_roots_have_no_slope():
    network = make_network()
    preset = Preset(style_weights=(1.0,), statistic=Wasserstein(eps=1e-20))  # fewer places than channels
    layers = Layers(("1",), ("1",))
    options = {"network": network, "layers": layers, "gradient": True}
    found = score(pictures(1, 1, 2), pictures(1, 1, 2, 1), [pictures(1, 1, 2, 2)], preset=preset, **options)
    assert found.gradient.isfinite().all()
    network = Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2)))
    nn.init.zeros_(network.module[0].weight[:2])
    nn.init.zeros_(network.module[0].bias[:2])
    preset = Preset(style_weights=(1.0,), pooling="l2")
    found = score(pictures(), pictures(seed=1), [pictures(seed=2)], preset=preset, **(options | {"network": network}))
    assert found.gradient.isfinite().all()
    assert found.gradient.abs().max() > 0


def test_the_network_is_asked_as_in_use():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU()]
    now, content = pictures(), pictures(seed=1)
    options = {"preset": Preset(style_weights=(1.0,)), "layers": Layers(("3",), ("3",))}
    trained, used = (
        score(now, content, [content], network=nn.Sequential(*layers).train(mode), **options).total
        for mode in (True, False)
    )
    assert torch.equal(trained, used)


@each_statistic
def test_nothing_is_charged_at_the_target(statistic, reference):
    now = pictures(2)
    preset = replace(PLAIN, statistic=statistic)
    found = score(now, now, [now[:1]], network=make_network(), preset=preset, layers=LAYERS, gradient=True)
    assert found.content.tolist() == [0, 0]
    assert abs(found.style[0]) < 1e-14
    assert found.gradient[0].abs().max() < 1e-7
    assert found.style[1] > 1e-6


@settings(max_examples=25, deadline=None)
@example(1, 1, 3655, "gram relative")  # all features of the style are zero
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(sorted(STATISTICS)))
def test_a_style_knows_no_places(h, w, seed, name):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    now, content, style = pictures(1, h, w, seed), pictures(1, h, w, seed + 1), pictures(1, 3, 2, seed + 2)
    shuffled = now.flatten(2)[:, :, torch.randperm(h * w)].view_as(now)
    preset = Preset(style_weights=(1.0,), statistic=STATISTICS[name][0])
    found = score(torch.cat([now, shuffled]), content, [style], network=network, preset=preset,
                  layers=Layers(("1",), ("1",)))  # fmt: skip
    np.testing.assert_allclose(found.style[0], found.style[1], rtol=1e-7, atol=1e-12)
    assert found.style.min() > -1e-12


def test_one_of_a_batch_is_as_alone():
    network, now, content = make_network(), pictures(3), pictures(3, seed=1)
    styles, masks = [pictures(seed=2), pictures(1, 4, 4, seed=3)], [torch.rand(2, 6, 8)] * 2
    options = {"network": network, "preset": replace(PLAIN, tv_weight=1.0), "layers": LAYERS, "masks": masks}
    together = score(now, content, styles, gradient=True, **options)
    for i in range(3):
        alone = score(now[i : i + 1], content[i : i + 1], styles, gradient=True, **options)
        assert torch.equal(alone.total, together.total[i : i + 1])
        assert torch.equal(alone.gradient, together.gradient[i : i + 1])


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_no_trace_is_left(off):
    network = make_network(inplace=True).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    now = pictures().float()
    drawn = torch.random.get_rng_state()
    preset = Preset(style_weights=(1.0, 1.0), pooling="l2", padding="reflect", statistic=Sliced())
    with off():
        inside = score(now, now.roll(1, 3), [now], network=network, preset=preset, layers=LAYERS, gradient=True)
    outside = score(now, now.roll(1, 3), [now], network=network, preset=preset, layers=LAYERS, gradient=True)
    assert torch.equal(inside.gradient, outside.gradient)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for layer in network.modules():
        assert layer.training
        assert not layer._forward_hooks
        assert getattr(layer, "padding_mode", "zeros") == "zeros"
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not now.requires_grad


def test_a_convolution_is_tapped_before_its_relu_in_place():
    now, content = pictures(), pictures(seed=1)
    preset = Preset(style_weights=(1.0,))
    plain, inplace = (
        score(now, content, [content], network=make_network(inplace=inplace), preset=preset,
              layers=Layers(("3",), ("0",)))
        for inplace in (False, True)
    )  # fmt: skip
    after = score(now, content, [content], network=make_network(), preset=preset, layers=Layers(("3",), ("1",)))
    assert torch.equal(plain.total, inplace.total)
    assert not torch.allclose(plain.total, after.total)


def test_further_layers_of_the_network_are_left_out():
    now, content = pictures(), pictures(seed=1)
    preset = Preset(style_weights=(1.0,))
    one, two = (
        score(now, content, [content], network=make_network(), preset=preset, layers=Layers(("1",), style))
        for style in (("1",), ("1", "3"))
    )
    assert torch.equal(one.total, two.total)
    assert len(two.style_layers) == 1


# --- objectives of well-known programs, written as their sources read


def caffe_network(network: Network) -> nn.Module:
    """The same convolutions for bytes, blue first, less their mean: how Caffe's networks are fed."""
    first = network.module[0]
    flipped = nn.Conv2d(3, 4, 3, padding=1).double()
    with torch.no_grad():
        flipped.weight.copy_(first.weight.flip(1) / 32)
        flipped.bias.copy_(first.bias)
    return nn.Sequential(flipped, *list(network.module)[1:]).double().requires_grad_(False)


def test_objective_of_gatys_and_of_neural_style_pt():
    """Blue first, bytes less their mean: a `Network` whose std is 1/255 and whose first weights are turned round."""
    network = make_network()
    caffe = caffe_network(network)
    mean = torch.tensor([123.68, 116.779, 103.939], dtype=torch.float64)
    ours = nn.Conv2d(3, 4, 3, padding=1).double()
    ours.weight.data.copy_(caffe[0].weight.flip(1))
    ours.bias.data.copy_(caffe[0].bias)
    judged = Network(nn.Sequential(ours, *list(caffe)[1:]), mean=(mean / 255).tolist(), std=(1 / 255,) * 3)
    now, content, styles = pictures(2), pictures(seed=1), [pictures(seed=2), pictures(1, 10, 4, seed=3)]

    def fed(picture: Tensor) -> Tensor:
        return picture.flip(1) * 255 - mean.flip(0)[:, None, None]

    def mse(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean()

    def gram(x: Tensor, divisor: int) -> Tensor:
        flat = x[0].flatten(1)
        return flat @ flat.T / divisor

    weights = (1e3 / 4**2, 1e3 / 5**2)
    gatys = Preset(content_weights=(1.0,), style_weights=weights, statistic=Gram("hw", "mean"))
    pt = Preset(content_weights=(5.0,), style_weights=(100.0, 100.0), statistic=Gram("chw", "mean"), tv_weight=1e-3,
                tv="absolute", space="bytes")  # fmt: skip
    found = score(now, content, styles[:1], network=judged, preset=gatys, layers=LAYERS)
    found_pt = score(now, content, styles, network=judged, preset=pt, layers=LAYERS, style_weights=(3.0, 7.0))
    for i in range(2):
        here, there, style, style_ = (
            (caffe[:2](fed(x)), caffe[:4](fed(x))) for x in (now[i : i + 1], content, *styles)
        )
        wanted = mse(here[1], there[1])
        for weight, x, s in zip(weights, here, style, strict=True):
            wanted = wanted + weight * mse(gram(x, x[0, 0].numel()), gram(s, s[0, 0].numel()))
        np.testing.assert_allclose(found.total[i], float(wanted), rtol=1e-5)
        np.testing.assert_allclose(found_pt.content[i], float(5 * mse(here[1], there[1])), rtol=1e-5)
        for layer, (x, s, t) in enumerate(zip(here, style, style_, strict=True)):
            target = 0.3 * gram(s, s.numel()) + 0.7 * gram(t, t.numel())
            wanted = 100 * mse(gram(x, x.numel()), target)
            np.testing.assert_allclose(found_pt.style_layers[layer][i], float(wanted), rtol=1e-5)
        x = fed(now[i : i + 1])
        wanted = (x[:, :, 1:] - x[:, :, :-1]).abs().sum() + (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().sum()
        np.testing.assert_allclose(found_pt.variation[i], 1e-3 * float(wanted), rtol=1e-5)


def test_objective_of_crowson():
    """Its Wasserstein term by the nuclear norm |A^1/2 B^1/2|, which is the trace of its root of a product."""
    network, now, content = make_network(), pictures(2), pictures(seed=1)
    styles = [pictures(seed=2), pictures(1, 10, 4, seed=3)]
    preset = Preset(content_weights=(0.015,), style_weights=(0.8, 0.2), statistic=Wasserstein(1e-4), tv_weight=2.0,
                    tv="nine-point", pooling="average", rescaled=True, padding="replicate")  # fmt: skip
    found = score(now, content, styles, network=network, preset=preset, layers=LAYERS, style_weights=(1.0, 2.0))

    def seen(picture: Tensor) -> tuple[Tensor, Tensor]:
        return maps(network, picture, padding="replicate", pool=lambda y: 2 * functional.avg_pool2d(y, 2))

    def root(matrix: np.ndarray) -> np.ndarray:
        return scipy.linalg.sqrtm(matrix).real

    for i in range(2):
        here, there = seen(now[i]), seen(content[0])
        wanted = 0.015 * float((here[1] - there[1]).square().mean()) + 2 * variation_of(now[i].numpy(), "nine-point")
        for layer, weight in enumerate((0.8, 0.2)):
            flat = here[layer].flatten(1).numpy()
            targets = [seen(style[0])[layer].flatten(1).numpy() for style in styles]
            mean = targets[0].mean(1) / 3 + 2 * targets[1].mean(1) / 3
            second = targets[0] @ targets[0].T / targets[0].shape[1] / 3
            second = second + 2 * targets[1] @ targets[1].T / targets[1].shape[1] / 3
            b = second - np.outer(mean, mean) + 1e-4 * np.eye(len(mean))
            a = np.cov(flat, bias=True) + 1e-4 * np.eye(len(mean))
            nuclear = np.linalg.svd(root(a) @ root(b), compute_uv=False).sum()
            apart = np.mean((flat.mean(1) - mean) ** 2) + (np.trace(a) + np.trace(b) - 2 * nuclear) / len(mean)
            wanted += weight * apart
        np.testing.assert_allclose(found.total[i], wanted, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pictures": pictures()[0]}, "n, 3, height, width"),
        ({"content": pictures(1, 6, 9)}, "Resize the content"),
        ({"content": pictures(3)}, "one content of their size"),
        ({"styles": [pictures()[0]]}, "n, 3, height, width"),
        ({"styles": [pictures(2)]}, "pictures in the styles"),
        ({"styles": []}, "style weights are"),
        ({"style_weights": (1.0, 2.0)}, "style weights, expected 1"),
        ({"style_weights": (0.0,)}, "above 0"),
        ({"style_weights": (-1.0,)}, "above 0"),
        ({"masks": [torch.ones(1, 6, 8)]}, "masks at the style layers"),
        ({"masks": [torch.ones(2, 6, 8)] * 2}, "masks at the style layers"),
        ({"masks": [torch.zeros(1, 6, 8)] * 2}, "empty"),
        ({"style_masks": [torch.ones(2, 6, 8)] * 2}, "style masks at the style layers"),
        ({"layers": Layers((), ("1", "3"))}, "weights of content layers"),
        ({"layers": Layers(("9",), ("1", "3"))}, "no layer '9'"),
        ({"preset": replace(PLAIN, statistic=Statistic())}, "score does not know"),
    ],
)
def test_what_does_not_fit_is_said(change, words):
    given = {"pictures": pictures(2), "content": pictures(), "styles": [pictures()], "network": make_network(),
             "preset": PLAIN, "layers": LAYERS} | change  # fmt: skip
    with pytest.raises(SaccadeError, match=words):
        score(given.pop("pictures"), given.pop("content"), given.pop("styles"), **given)


def test_it_shares_no_step_with_the_optimiser():
    """Of the room it may know what a preset is, and the statistics' fields; nothing that computes."""
    allowed = {
        "saccade.style.preset": {"Layers", "Preset"},
        "saccade.style.presets": {"find_preset"},
        "saccade.style.backbones": {"layers_of"},
        "saccade.style.statistics": {"Gram", "GramMeanStd", "MeanStd", "Sliced", "Statistic", "Wasserstein"},
        "saccade.networks.network": {"Network"},
        "saccade.networks.targets": {"check_input"},
        "saccade.engine.seeding": {"generator"},
        "saccade.errors": {"SaccadeError"},
    }
    tree = ast.parse(Path(sys.modules["saccade.style.score"].__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module.startswith("saccade"):
            assert {alias.name for alias in node.names} <= allowed[node.module]
    called = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    assert not called & {"measure", "distance", "mix"}


def test_a_preset_may_be_named():
    network, picture, content, style = (
        make_network(),
        pictures(1, 16, 16),
        pictures(1, 16, 16, 1),
        pictures(1, 16, 16, 2),
    )
    layers = Layers(("3",), ("1",) * len(PRESETS["tutorial"].style_weights))
    named, given = (
        score(picture, content, [style], network=network, preset=one, layers=layers)
        for one in ("tutorial", PRESETS["tutorial"])
    )
    assert torch.equal(named.total, given.total)
    with pytest.raises(SaccadeError, match="no style preset 'tutoral'"):
        score(picture, content, [style], network=network, preset="tutoral", layers=layers)
