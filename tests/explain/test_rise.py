"""RISE against plain loops, and against the expectation over all masks there are."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.rise import Masks, rise


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def curved(h: int, w: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * (h - 1) * (w - 1), 5)).double()


def mask_of(grid: Tensor, shift: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Enlarge a grid by whole cells, one more than the picture needs, and crop."""
    enlarged = [(side + 1) * -(-whole // side) for side, whole in zip(grid.shape, size, strict=True)]
    large = F.interpolate(grid[None, None], size=enlarged, mode="bilinear", align_corners=False)[0, 0]
    return large[shift[0] : shift[0] + size[0], shift[1] : shift[1] + size[1]]


def test_masks_are_grids_enlarged_and_cropped() -> None:
    size = (10, 17)
    masks = Masks(50, 4, 0.3, size, 5, like=random(1))
    tops, lefts = (shift[:, 0].tolist() for shift in masks.shifts)
    assert set(tops) == set(range(3))  # cells of 3 x 5 pixels
    assert set(lefts) == set(range(5))
    for k, mask in enumerate(masks[0:50]):
        torch.testing.assert_close(mask, mask_of(masks.grids[k], (tops[k], lefts[k]), size), rtol=1e-12, atol=1e-14)
    assert set(masks.grids.flatten().tolist()) == {0.0, 1.0}
    assert 0.25 < masks.grids.mean() < 0.35
    torch.testing.assert_close(masks[3:7], masks[0:50][3:7], rtol=0, atol=0)


@pytest.mark.parametrize("probabilities", [True, False])
def test_equals_a_plain_loop(probabilities: bool) -> None:
    net, x, target = curved(6, 9), random(2, 3, 6, 9), [3, 1]
    fill = random(2, 3, 6, 9, seed=1)
    found = rise(
        net, x, target, samples=37, cells=3, keep=0.4, fill=fill, probabilities=probabilities, seed=2, batch_size=5
    )
    masks = Masks(37, 3, 0.4, (6, 9), 2, like=x)
    expected = torch.zeros(2, 6, 9, dtype=torch.float64)
    with torch.no_grad():
        for i in range(2):
            for k in range(37):
                mask = masks[k : k + 1][0]
                scores = net((mask * x[i] + (1 - mask) * fill[i])[None])[0]
                said = scores.softmax(0) if probabilities else scores
                expected[i] += said[target[i]] * mask / (37 * 0.4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("additive", [True, False])
def test_is_unbiased(additive: bool) -> None:
    size, keep, samples = (3, 4), 0.3, 20000
    weight = random(2, 3, *size) - 0.3
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double() if additive else curved(*size)
    if additive:
        net[1].weight.data = weight.flatten(1).clone()
    x = random(1, 3, *size, seed=1)
    mean, square = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    total = 0.0
    with torch.no_grad():
        for bits in product((0.0, 1.0), repeat=4):
            grid = torch.tensor(bits, dtype=torch.float64).view(2, 2)
            chance = keep ** sum(bits) * (1 - keep) ** (4 - sum(bits)) / 4
            for shift in product(range(2), range(2)):  # cells of 2 x 2 pixels
                mask = mask_of(grid, shift, size)
                value = net(mask * x + (1 - mask) * 0.5)[0, 1] * mask / keep
                mean += chance * value
                square += chance * value**2
                total += chance
    assert total == pytest.approx(1)
    error = ((square - mean**2) / samples).sqrt()
    found = rise(net, x, 1, samples=samples, cells=2, keep=keep, probabilities=False, batch_size=1000)[0]
    assert ((found - mean).abs() / error).max() < 4.5
    assert error.max() < 0.02 * mean.abs().max()


@pytest.mark.parametrize("settings", [{"samples": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.0}])
def test_refuses_what_makes_no_masks(settings: dict[str, float]) -> None:
    with pytest.raises(SaccadeError, match="0 < keep < 1"):
        rise(curved(6, 9), random(1, 3, 6, 9), 0, **settings)  # type: ignore[arg-type]
