"""LIME against closed forms, and against weighted ridge regression in numpy on the same samples."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.lime import _samples, lime


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CUTS = torch.stack(  # of six and of five pieces, of unequal sizes
    [
        torch.tensor([[0, 0, 1, 1, 1], [2, 0, 1, 3, 3], [2, 4, 4, 3, 5], [2, 4, 4, 5, 5]]),
        torch.tensor([[4, 4, 1, 1, 1], [4, 0, 1, 3, 3], [2, 0, 1, 3, 3], [2, 2, 2, 2, 2]]),
    ]
)


def curved() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 3 * 4, 5)).double()


def sums(map: Tensor, cut: Tensor) -> np.ndarray:
    """Of a map's values in each piece; within a piece they must be equal."""
    found = []
    for piece in range(int(cut.max()) + 1):
        inside = map[cut == piece]
        torch.testing.assert_close(inside, inside[:1].expand_as(inside), rtol=0, atol=0)
        found.append(float(inside.sum()))
    return np.array(found)


@pytest.mark.parametrize(("distance", "kernel"), [("cosine", 0.25), ("l2", 0.6)])
def test_of_a_linear_network_without_ridge_it_is_weight_times_change(distance: str, kernel: float) -> None:
    weight, x = random(5, 3, 4, 5) - 0.5, random(2, 3, 4, 5, seed=1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 5)).double()
    net[1].weight.data = weight.flatten(1).clone()
    target = [4, 2]
    found = lime(net, x, target, pieces=CUTS, samples=40, ridge=0, distance=distance, kernel=kernel)
    value = (weight[target] * (x - 0.5)).sum(1)
    for i, cut in enumerate(CUTS):
        expected = [float(value[i][cut == piece].sum()) for piece in range(int(cut.max()) + 1)]
        np.testing.assert_allclose(sums(found[i], cut), expected, rtol=1e-9)


@pytest.mark.parametrize(("distance", "kernel", "ridge"), [("cosine", 0.25, 1.0), ("l2", 0.6, 0.03)])
def test_is_the_weighted_ridge_regression_of_the_scores(distance: str, kernel: float, ridge: float) -> None:
    net, x, target = curved(), random(2, 3, 4, 5), [3, 1]
    fill = random(3, 1, 1, seed=1)
    found = lime(
        net, x, target, pieces=CUTS, samples=50, distance=distance, kernel=kernel, ridge=ridge, fill=fill, seed=7
    )
    for i, cut in enumerate(CUTS):
        pieces = int(cut.max()) + 1
        z = _samples(50, pieces, 7).numpy()
        ones, y, importance = np.ones(pieces), np.zeros(50), np.zeros(50)
        for k in range(50):
            picture = x[i].clone()
            for piece in range(pieces):
                if z[k, piece] == 0:
                    picture[:, cut == piece] = fill[:, 0]
            y[k] = net(picture[None])[0, target[i]].item()
            norm = np.linalg.norm(z[k]) * np.linalg.norm(ones)
            cosine = 1 - (z[k] @ ones / norm if norm else 0)
            apart = cosine if distance == "cosine" else np.linalg.norm(z[k] - ones) / np.sqrt(pieces)
            importance[k] = np.exp(-(apart**2) / kernel**2)
        design = np.hstack([z, np.ones((50, 1))])
        penalty = np.diag([ridge] * pieces + [0.0])
        left = design.T @ (importance[:, None] * design) + penalty
        expected = np.linalg.solve(left, design.T @ (importance * y))[:-1]
        np.testing.assert_allclose(sums(found[i], cut), expected, rtol=1e-8, atol=1e-12)


def test_samples_are_the_picture_and_fair_coins() -> None:
    shown = _samples(4000, 8, 0)
    assert (shown[0] == 1).all()
    assert set(shown.flatten().tolist()) == {0.0, 1.0}
    assert (shown[1:].mean(0) - 0.5).abs().max() < 5 * 0.5 / 4000**0.5
    assert len(torch.unique(shown, dim=0)) == 2**8


@pytest.mark.parametrize("settings", [{"kernel": 0.0}, {"ridge": -1.0}, {"distance": "l1"}])
def test_refuses_what_fits_no_model(settings: dict[str, object]) -> None:
    with pytest.raises(SaccadeError, match="Could not fit LIME"):
        lime(curved(), random(1, 3, 4, 5), 0, **settings)  # type: ignore[arg-type]
