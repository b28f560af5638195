"""Occlusion against closed forms, plain loops and captum."""

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain import MapWarning
from saccade.explain.occlusion import occlusion


def linear(weight: Tensor) -> nn.Module:
    """Scores are weight (classes, 3, h, w) times picture, plus a bias."""
    layer = nn.Linear(weight[0].numel(), len(weight)).to(weight.dtype)
    layer.weight.data = weight.flatten(1).clone()
    return nn.Sequential(nn.Flatten(), layer)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def curved(h: int, w: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * (h - 2) * (w - 2), 5)).double()


def by_loops(value: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The mean, over the windows on a pixel, of the sum of `value` (h, w) in a window."""
    h, w = value.shape
    total, count = torch.zeros_like(value), torch.zeros_like(value)
    top = 0
    while True:
        left = 0
        while True:
            box = (slice(top, top + window[0]), slice(left, left + window[1]))
            total[box] += value[box].sum()
            count[box] += 1
            if left + window[1] >= w:
                break
            left += stride[1]
        if top + window[0] >= h:
            break
        top += stride[0]
    assert count.min() > 0
    return total / count


@pytest.mark.parametrize(
    ("window", "stride"),
    [(1, 1), (2, 1), (3, 2), (3, 3), (4, 3), ((2, 5), (2, 3)), ((6, 8), (1, 1)), ((5, 4), (4, 1))],
)
@pytest.mark.parametrize("fill", [0.3, 0, "mean", "own"])
def test_of_a_linear_network_a_window_counts_weight_times_change(
    window: int | tuple[int, int], stride: int | tuple[int, int], fill: object
) -> None:
    weight, x, target = random(4, 3, 6, 9) - 0.5, random(2, 3, 6, 9, seed=1), [3, 1]
    instead = {"mean": x.mean((2, 3), keepdim=True), "own": random(2, 3, 6, 9, seed=2)}.get(str(fill), fill)
    found = occlusion(
        linear(weight),
        x,
        target,
        window=window,
        stride=stride,
        fill=instead if fill == "own" else fill,  # type: ignore[arg-type]
    )
    value = (weight[target] * (x - instead)).sum(1)  # type: ignore[operator]
    both = [(v, v) if isinstance(v, int) else v for v in (window, stride)]
    expected = torch.stack([by_loops(one, *both) for one in value])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_one_window_over_all_says_nothing() -> None:
    with pytest.warns(MapWarning, match="picture 0 is constant"):
        occlusion(curved(6, 9), random(1, 3, 6, 9), 0, window=(6, 9))


def test_by_hand() -> None:
    weight = torch.zeros(1, 3, 1, 3, dtype=torch.float64)
    weight[0, 0, 0] = torch.tensor([1.0, 10.0, 100.0])
    found = occlusion(linear(weight), torch.ones(1, 3, 1, 3, dtype=torch.float64), 0, window=(1, 2), stride=1, fill=0)
    # windows 1 + 10 and 10 + 100; the pixel in the middle is in both
    torch.testing.assert_close(found, torch.tensor([[[11.0, 60.5, 110.0]]], dtype=torch.float64))


def test_windows_are_a_seventh_of_the_shorter_side_and_overlap_by_half() -> None:
    net, x = curved(29, 36), random(1, 3, 29, 36)
    assert torch.equal(occlusion(net, x, 1), occlusion(net, x, 1, window=(4, 4), stride=(2, 2)))
    net, x = curved(5, 4), random(1, 3, 5, 4)
    assert torch.equal(occlusion(net, x, 1), occlusion(net, x, 1, window=1, stride=1))


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (7, 1), ((6, 10), 1), (3, 4), (3, 0), ((2, 3, 4), 1)])
def test_refuses_windows_that_do_not_fit(window: int | tuple[int, ...], stride: int) -> None:
    with pytest.raises(SaccadeError, match=r"window|expected a whole number"):
        occlusion(curved(6, 9), random(1, 3, 6, 9), 0, window=window, stride=stride)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("window", "stride"), [((3, 3), (2, 2)), ((4, 2), (3, 1)), ((5, 7), (2, 5))])
def test_agrees_with_captum(window: tuple[int, int], stride: tuple[int, int]) -> None:
    attr = pytest.importorskip("captum.attr")
    net, x, target = curved(8, 11), random(3, 3, 8, 11), torch.tensor([0, 4, 2])
    expected = attr.Occlusion(net).attribute(
        x, (3, *window), strides=(3, *stride), baselines=0.5, target=target, perturbations_per_eval=4
    )
    found = occlusion(net, x, target, window=window, stride=stride)
    # it sums up in float32
    torch.testing.assert_close(found, expected[:, 0].double(), rtol=1e-5, atol=1e-6)
