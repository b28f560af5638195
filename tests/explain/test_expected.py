"""Expected gradients against closed forms and an exhaustive sum."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.expected import expected_gradients
from saccade.explain.integrated import integrated_gradients


def pictures(n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 5)
    ).double()


def test_of_a_linear_network_it_is_weight_times_distance_from_the_mean_of_the_background() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).double()
    x, background = pictures(2), pictures(5, seed=1)
    found = expected_gradients(net, x, [3, 1], background=background, samples=15)  # each baseline three times
    expected = net[1].weight[[3, 1]].detach().view(2, 3, 4, 5) * (x - background.mean(0))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_of_a_function_of_two_pixels_by_exhaustive_sum() -> None:
    """f = y z: integrated gradients from (b, c) gives y the share (y - b) (z + c) / 2. Summed over all baselines."""

    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[:, 0] * x[:, 1]).flatten(1)

    x = torch.tensor([3.0, 5.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    background = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [-1.0, 4.0, 0.0]], dtype=torch.float64)[
        ..., None, None
    ]
    b, c = background[:, 0].flatten(), background[:, 1].flatten()
    expected = [float(((3 - b) * (5 + c)).mean() / 2), float(((5 - c) * (3 + b)).mean() / 2), 0.0]
    found = expected_gradients(Product(), x, 0, background=background, samples=6000, batch_size=6000)
    assert found.flatten().tolist() == pytest.approx(expected, abs=0.02)


def test_with_many_samples_it_is_the_mean_of_integrated_gradients() -> None:
    net, x, background = smooth_net(), pictures(2), pictures(3, seed=1)
    each = [integrated_gradients(net, x, 1, baseline=base) for base in background]
    expected = torch.stack(each).mean(0)
    found = expected_gradients(net, x, 1, background=background, samples=3000, batch_size=500)
    scatter = (torch.stack(each) - expected).abs().max()
    assert (found - expected).abs().max() < 0.01 * scatter


def test_complete_up_to_the_scatter() -> None:
    net, x, background = smooth_net().eval(), pictures(2), pictures(4, seed=1)
    found = expected_gradients(net, x, 1, background=background, samples=2000, batch_size=500)
    with torch.no_grad():
        difference = net(x)[:, 1] - net(background)[:, 1].mean()
    assert (found.sum((1, 2, 3)) - difference).abs().max() < 0.01 * difference.abs().max()


def test_one_baseline_of_one_place_by_hand() -> None:
    """f = sum of squares / 2: the gradient at base + a (x - base) is that point; `a` is the same for every pixel."""

    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).square().sum(1, keepdim=True) / 2

    x, base = pictures(3), pictures(1, seed=1)
    found = expected_gradients(Squares(), x, 0, background=base, samples=1, seed=3)
    places = (found / (x - base) - base) / (x - base)
    assert 0 <= float(places.min()) <= 1
    torch.testing.assert_close(places, places[0, 0, 0, 0].expand_as(places), rtol=1e-8, atol=1e-8)
    other = expected_gradients(Squares(), x, 0, background=base, samples=1, seed=4)
    assert not torch.allclose(found, other)


def test_the_noise_is_added_to_the_picture() -> None:
    """Of a linear network, the mean of weight * (x + noise - base) moves by the mean noise, a share of the range."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 1)).double()
    x = pictures(2) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
    calm = expected_gradients(net, x, 0, samples=30)
    noisy = expected_gradients(net, x, 0, samples=30, level=0.2)
    moved = (noisy - calm) / net[1].weight.detach().view(1, 3, 4, 5)
    span = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    torch.testing.assert_close(moved[1] / span[1], moved[0] / span[0], rtol=1e-8, atol=1e-10)
    assert float((moved[0] / span[0]).std()) == pytest.approx(0.2 / 30**0.5, rel=0.3)


def test_without_a_background_it_is_plain_colours() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(60, 1)).double(), pictures(1)
    found = expected_gradients(net, x, 0, samples=200)
    baseline = x - found / net[1].weight.detach().view(1, 3, 4, 5)
    torch.testing.assert_close(baseline, baseline[:, :, :1, :1].expand_as(x), rtol=1e-8, atol=1e-10)
    assert (baseline - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_of_any_batch_size_and_one_by_one(batch_size: int) -> None:
    net, x, target, background = smooth_net(), pictures(4), [0, 1, 2, 3], pictures(3, seed=1)
    settings = {"background": background, "samples": 7, "level": 0.1}
    whole = expected_gradients(net, x, target, **settings)  # type: ignore[arg-type]
    found = expected_gradients(net, x, target, **settings, batch_size=batch_size)  # type: ignore[arg-type]
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-13)
    alone = expected_gradients(net, x[2:3], 2, **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(alone[0], whole[2], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"level": -1.0}, "level=-1"),
        ({"background": torch.zeros(3, 4, 5)}, r"expected one or more pictures of the same size, \(m, 3, 4, 5\)"),
        ({"background": torch.zeros(2, 3, 4, 4)}, "of the same size"),
        ({"background": torch.zeros(0, 3, 4, 5)}, "one or more"),
    ],
)
def test_says_what_is_wrong(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        expected_gradients(smooth_net(), pictures(), 1, **settings)  # type: ignore[arg-type]
