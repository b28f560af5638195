"""ROAD: the imputation against a dense solve and against what a harmonic picture must be."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.scores import road
from saccade.explain.scores.road import impute


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def dense(picture: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """One equation a removed pixel: it is the weighted mean of the neighbours it has."""
    h, w = removed.shape
    matrix, right = torch.eye(h * w, dtype=torch.float64), picture.flatten(1).T.clone()
    for i in range(h):
        for j in range(w):
            if not removed[i, j]:
                continue
            right[i * w + j] = 0
            near = [(i + a, j + b, 1 / 12 if a and b else 1 / 6) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            near = [(a, b, weight) for a, b, weight in near if 0 <= a < h and 0 <= b < w]
            for a, b, weight in near:
                matrix[i * w + j, a * w + b] -= weight / sum(each[2] for each in near)
    return torch.linalg.solve(matrix, right).T.view(3, h, w)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_imputation_equals_a_dense_solve(share: float) -> None:
    pictures, removed = random(3, 3, 6, 7), random(3, 6, 7) < share
    found = impute(pictures, removed)
    for i in range(3):
        torch.testing.assert_close(found[i], dense(pictures[i], removed[i]))
        assert torch.equal(found[i][:, ~removed[i]], pictures[i][:, ~removed[i]])


def test_one_pixel_that_stays_colours_the_picture() -> None:
    pictures, removed = random(1, 3, 5, 4), torch.ones(1, 5, 4, dtype=torch.bool)
    removed[0, 2, 1] = False
    torch.testing.assert_close(impute(pictures, removed)[0], pictures[0, :, 2, 1][:, None, None].expand(3, 5, 4))


def test_a_ramp_is_found_again_inside() -> None:
    ramp = (torch.arange(8.0)[:, None] + 2 * torch.arange(9.0)).double().expand(1, 3, 8, 9) / 30
    removed = torch.zeros(1, 8, 9, dtype=torch.bool)
    removed[0, 1:-1, 1:-1] = True
    torch.testing.assert_close(impute(ramp, removed), ramp)


class Mean(nn.Module):
    """The scores are mean red and mean green."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))[:, :2]


def test_curves_equal_a_plain_loop() -> None:
    x, maps = random(2, 3, 5, 6), random(2, 5, 6)
    for order in ("most", "least"):
        found = road(Mean(), x, [0, 1], maps, order=order, shares=(0.2, 0.5, 0.9), noise=0.0)
        torch.testing.assert_close(found.shares, torch.tensor([6, 15, 27], dtype=torch.float64) / 30)
        for i in range(2):
            pixels = maps[i].flatten().argsort(descending=order == "most")
            for k, count in enumerate((6, 15, 27)):
                removed = torch.zeros(30, dtype=torch.bool)
                removed[pixels[:count]] = True
                said = Mean()(dense(x[i], removed.view(5, 6))[None])[0].softmax(0)[i]
                torch.testing.assert_close(found.scores[i, k], said)


def test_noise_is_added_to_removed_pixels_alone_and_alike() -> None:
    x, maps, seen = random(2, 3, 20, 20), random(2, 20, 20), []
    network = Mean()
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    road(network, x, 0, maps, shares=(0.25, 0.5), noise=0.1, seed=3)
    noisy = torch.cat(seen)
    seen.clear()
    road(network, x, 0, maps, shares=(0.25, 0.5), noise=0.0)
    added = noisy - torch.cat(seen)
    assert [(each != 0).all(0).sum() for each in added] == [100, 200, 100, 200]
    assert float(added[1][added[1] != 0].std()) == pytest.approx(0.1, rel=0.1)
    both = (added[1] != 0) & (added[3] != 0)
    torch.testing.assert_close(added[1][both], added[3][both])


def test_a_perfect_map_beats_its_reverse_and_batches_do_not_matter() -> None:
    x = 0.1 * random(2, 3, 12, 12)
    x[:, 0, 4:8, 4:8] += 0.8  # the red square is the evidence
    maps = torch.zeros(2, 12, 12, dtype=torch.float64)
    maps[:, 4:8, 4:8] = 1
    good, bad = road(Mean(), x, 0, maps), road(Mean(), x, 0, -maps)
    assert (good.area < bad.area - 0.01).all()
    torch.testing.assert_close(road(Mean(), x[1:], 0, maps[1:], batch_size=1).scores, good.scores[1:])
    with pytest.raises(SaccadeError, match="shares is"):
        road(Mean(), x, 0, maps, shares=(0.5, 1.0))
