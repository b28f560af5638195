"""Top patches against an exhaustive search."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from saccade.data import ImageSet
from saccade.errors import SaccadeError
from saccade.imagine.histogram import BINS, Histogram
from saccade.imagine.top_patches import patch_gradients, patches, top_patches
from saccade.networks import Network


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 4 * 2, 6),
    )
    return net.double().eval()


def photographs(n: int = 23, h: int = 12, w: int = 8) -> torch.Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(maps: torch.Tensor, top: int) -> list[list[tuple[float, int, int, int]]]:
    """For each channel (value, picture, row, column), by looking at every one of them."""
    channels = []
    for c in range(maps.shape[1]):
        best = []
        for i, map in enumerate(maps[:, c].tolist()):
            value, row, column = max((v, -r, -k) for r, line in enumerate(map) for k, v in enumerate(line))
            best.append((value, i, -row, -column))
        best.sort(key=lambda entry: (-entry[0], entry[1]))
        channels.append(best[:top])
    return channels


@pytest.mark.parametrize("batch_size", [1, 4, 23, None])
@pytest.mark.parametrize("top", [1, 3, 40])
def test_equals_an_exhaustive_search(batch_size: int | None, top: int) -> None:
    net, x = small_net(), photographs()
    with torch.no_grad():
        expected = {"1": net[:2](x), "4": net[:5](x), "6": net(x)[:, :, None, None]}
    found = top_patches(net, x, ["1", "4", "6"], top=top, batch_size=batch_size)
    assert list(found) == ["1", "4", "6"]
    for layer, maps in expected.items():
        patches = found[layer]
        assert patches.layer == layer
        assert patches.values.shape == (maps.shape[1], min(top, 23))
        for c, best in enumerate(by_hand(maps, top)):
            assert patches.pictures[c].tolist() == [i for _, i, _, _ in best]
            assert patches.places[c].tolist() == [[r, k] for _, _, r, k in best]
            torch.testing.assert_close(patches.values[c], torch.tensor([v for v, *_ in best], dtype=torch.float64))
        peaks = maps.flatten(2).amax(2)
        for c in range(maps.shape[1]):
            reach = float(patches.reach[c])
            edges = torch.linspace(-reach, reach, BINS + 1, dtype=torch.float64)
            counts = [int(((peaks[:, c] >= a) & (peaks[:, c] < b)).sum()) for a, b in pairwise(edges)]
            assert patches.counts[c].tolist() == counts
            largest = float(peaks[:, c].abs().max())
            assert largest < reach
            assert reach <= max(2 * largest, 2**-20)


def test_boxes_are_what_the_neuron_sees() -> None:
    found = top_patches(small_net(), photographs(), ["4"], top=5)["4"]
    # 3x3, pooled: 4 in steps of 2, from one pixel before the edge; 3x3 over that: 8
    for place, box in zip(found.places.flatten(0, 1).tolist(), found.boxes.flatten(0, 1).tolist(), strict=True):
        top, left = 2 * place[0] - 1, 2 * place[1] - 1
        assert box == [max(0, top), max(0, left), min(12, top + 8), min(8, left + 8)]
    assert found.side == (8, 7)  # no neuron sees 8 columns: the first lacks one on the left, the second on the right
    assert top_patches(small_net(), photographs(), ["6"], top=1)["6"].side == (12, 8)


def test_equal_values_keep_the_order_of_the_pictures() -> None:
    x = torch.full((7, 3, 4, 4), 0.5)
    x[4] = 1.0
    net = nn.Sequential(nn.Conv2d(3, 1, 1))
    nn.init.ones_(net[0].weight)
    found = top_patches(net, x, ["0"], top=4, batch_size=2)["0"]
    assert found.pictures.tolist() == [[4, 0, 1, 2]]
    assert found.places.tolist() == [[[0, 0]] * 4]


def test_an_image_set_is_read_as_its_pictures() -> None:
    levels = torch.randint(0, 256, (9, 12, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    data = ImageSet("some", levels, torch.zeros(9, dtype=torch.int64), ("thing",)).subset([8, 1, 5, 2, 0])
    floats = levels[[8, 1, 5, 2, 0]].permute(0, 3, 1, 2).double() / 255
    net = small_net()
    found, expected = top_patches(net, data, ["4"])["4"], top_patches(net, floats, ["4"])["4"]
    assert torch.equal(found.pictures, expected.pictures)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-6, atol=1e-7)  # 8 bits become float32 first
    for cut in (patches(data, found, 0), patches(floats, expected, 0)):
        for i, number in enumerate(found.pictures[0].tolist()):
            top, left, bottom, right = found.boxes[0, i].tolist()
            y = 8 - bottom if top == 0 else 0
            shown = cut[i, :, y : y + bottom - top, : right - left]
            torch.testing.assert_close(shown.double(), floats[number, :, top:bottom, left:right], rtol=0, atol=1e-7)


def test_patches_are_cut_where_they_are_and_filled_beyond_the_edge() -> None:
    """A 7 x 7 around the brightest pixel: its box is cut at the edges, and the pixel stays in the middle."""
    net = nn.Sequential(nn.Conv2d(3, 1, 7, padding=3, bias=False))
    nn.init.zeros_(net[0].weight)
    net[0].weight.data[:, :, 3, 3] = 1
    x = 0.1 * torch.rand(5, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    spots = [(0, 0), (11, 8), (5, 4), (1, 7), (10, 2)]
    for i, (row, column) in enumerate(spots):
        x[i, :, row, column] = 1 - 0.1 * i
    found = top_patches(net, x, ["0"])["0"]
    cut = patches(x, found, 0, fill=-1.0)
    assert found.pictures.tolist() == [[0, 1, 2, 3, 4]]
    assert found.side == (7, 7)
    padded = nn.functional.pad(x, (3, 3, 3, 3), value=-1.0)
    for i, (row, column) in enumerate(spots):
        assert torch.equal(cut[i], padded[i, :, row : row + 7, column : column + 7])


def positive(rule: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The gradient that a ReLU sends back, by its input and by the gradient that it got."""
    return {"guided": lambda x, g: g.clamp(min=0) * (x > 0), "deconvnet": lambda x, g: g.clamp(min=0)}[rule]


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("channel", [0, 2])
def test_gradients_of_patches_by_hand(rule: str, channel: int) -> None:
    net, x = small_net(), photographs()
    found = top_patches(net, x, ["3"], top=3)["3"]
    given = x[found.pictures[channel]]
    driven = patch_gradients(net, x, found, channel, rule=rule)  # type: ignore[arg-type]
    assert driven.shape == (3, 3, *found.side)
    for i, (row, column) in enumerate(found.places[channel].tolist()):
        with torch.no_grad():
            before = net[0](given[i : i + 1])
            kept, where = nn.functional.max_pool2d(before.relu(), 2, return_indices=True)
        above = torch.zeros_like(kept)
        above[0, :, row : row + 3, column : column + 3] = net[3].weight[channel].detach()
        above = nn.functional.max_unpool2d(above, where, 2, output_size=before.shape[2:])
        above = positive(rule)(before, above)
        below = nn.functional.conv_transpose2d(above, net[0].weight.detach(), padding=1)
        top, left, bottom, right = found.boxes[channel, i].tolist()
        inside = torch.zeros_like(below)
        inside[0, :, top:bottom, left:right] = below[0, :, top:bottom, left:right]
        assert torch.equal(inside, below)  # nothing beyond what it sees
        padded = nn.functional.pad(below[0], (0, 0, 1, 1))  # the box is 8 high, from a row above the edge
        expected = padded[:, 2 * row : 2 * row + 8, left:right]
        torch.testing.assert_close(driven[i], expected, rtol=1e-10, atol=1e-12)
    assert (driven != 0).any()


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [20, 30]])
def test_a_histogram_counts_the_same_in_any_batches(sizes: list[int]) -> None:
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values *= torch.tensor([1e-9, 1.0, 300.0])[:, None]
    values[1, :5] = torch.tensor([0.0, 1.0, -1.0, 2.0, -4.0])  # on the edges of bins
    histogram = Histogram(3)
    for part in values.split(sizes, 1):
        histogram.add(part)
    assert histogram.reach.tolist() == [2**-20, 8.0, 1024.0]
    for c in range(3):
        edges = torch.linspace(-1, 1, BINS + 1, dtype=torch.float64) * histogram.reach[c]
        counts = [int(((values[c] >= a) & (values[c] < b)).sum()) for a, b in pairwise(edges)]
        assert histogram.counts[c].tolist() == counts
        assert sum(counts) == 50


def test_leaves_no_trace_and_says_how_far_it_is() -> None:
    net, x = small_net().train(), photographs()
    net[0].weight.requires_grad_(False)
    seen = []
    with torch.inference_mode():
        found = top_patches(net, x, ["4"], batch_size=10, callback=lambda done, total: seen.append((done, total)))["4"]
        driven = patch_gradients(net, x, found, 0)
    assert seen == [(10, 23), (20, 23), (23, 23)]
    assert not driven.requires_grad
    assert all(layer.training and not layer._forward_hooks for layer in net.modules())
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(SaccadeError, match="no layer 'nine'"):
        top_patches(net, x, ["nine"])
    assert all(layer.training and not layer._forward_hooks for layer in net.modules())


def test_says_what_is_wrong() -> None:
    net = small_net()
    with pytest.raises(SaccadeError, match="0 best"):
        top_patches(net, photographs(), ["4"], top=0)
    with pytest.raises(SaccadeError, match="of 0 pictures"):
        top_patches(net, photographs(0), ["4"])
    with pytest.raises(SaccadeError, match="expected"):
        top_patches(net, torch.rand(4, 1, 12, 8).double(), ["4"])
    broken = Network(small_net())
    broken.module[3].bias.data[0] = torch.inf
    with pytest.raises(SaccadeError, match="not finite"):
        top_patches(broken, photographs(), ["4"])
