"""The pointing game on maps and masks made by hand; the controls and the cost of a method."""

import math

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain import gradient
from saccade.explain.controls import CONTROLS, centre_map, edge_map, random_map
from saccade.explain.scores import pointing
from saccade.explain.scores.cost import counting, peak_memory
from saccade.networks.activations import activations


def mask(*places: tuple[int, int], h: int = 3, w: int = 3) -> torch.Tensor:
    found = torch.zeros(1, h, w, dtype=torch.bool)
    for i, j in places:
        found[0, i, j] = True
    return found


def test_hits_and_mass_by_hand() -> None:
    map = torch.tensor([[[1.0, 4, 0], [-9, 2, 0], [0, 3, 0]]])
    found = pointing(map.repeat(3, 1, 1), torch.cat([mask((0, 1), (1, 0)), mask((2, 1), (1, 1)), mask((2, 2))]))
    assert found.hit.tolist() == [1, 0, 0]
    assert found.mass.tolist() == pytest.approx([0.4, 0.5, 0])
    assert found.area.tolist() == pytest.approx([2 / 9, 2 / 9, 1 / 9])
    assert found.centre_hit.tolist() == [0, 1, 0]
    corner = math.exp(-2 * (1 / 3) ** 2 / (2 * 0.25**2))
    beside = math.exp(-((1 / 3) ** 2) / (2 * 0.25**2))
    total = 1 + 4 * beside + 4 * corner
    assert found.centre_mass.tolist() == pytest.approx([2 * beside / total, (1 + beside) / total, corner / total])


def test_several_largest_values_count_by_share_and_nothing_is_uniform() -> None:
    tied = torch.tensor([[[5.0, 5, 0], [0, 5, 0], [0, 5, 0]]])
    assert pointing(tied, mask((0, 0), (0, 2))).hit.tolist() == [0.25]
    for value in (-1.0, 0.0, 2.0):
        found = pointing(torch.full((1, 3, 3), value), mask((0, 0), (0, 2)))
        assert found.hit.tolist() == found.mass.tolist() == pytest.approx([2 / 9])


def test_colours_are_reduced_as_told() -> None:
    colours = torch.zeros(1, 3, 3, 3)
    colours[0, :, 0, 0] = torch.tensor([5.0, -6, 0])
    colours[0, :, 1, 1] = torch.tensor([1.0, 0, 1])
    assert pointing(colours, mask((1, 1))).hit.tolist() == [1]
    found = pointing(colours, mask((0, 0)), how="abs")
    assert found.hit.tolist() == [1]
    assert found.mass.tolist() == pytest.approx([11 / 13])


def test_says_what_is_wrong() -> None:
    with pytest.raises(SaccadeError, match="expected bool"):
        pointing(torch.rand(1, 3, 3), torch.ones(1, 3, 3))
    with pytest.raises(SaccadeError, match="expected bool"):
        pointing(torch.rand(2, 3, 3), mask((0, 0)))
    with pytest.raises(SaccadeError, match="empty"):
        pointing(torch.rand(1, 3, 3), mask())
    with pytest.raises(SaccadeError, match="not finite"):
        pointing(torch.full((1, 3, 3), torch.nan), mask((0, 0)))


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_are_maps_like_any_other(name: str) -> None:
    x = torch.rand(4, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    found = CONTROLS[name](nn.Identity(), x, 0)
    assert found.shape == (4, 7, 9)
    assert found.dtype == torch.float64
    assert found.isfinite().all()
    assert (found.flatten(1).amax(1) > found.flatten(1).amin(1)).all()
    torch.testing.assert_close(CONTROLS[name](nn.Identity(), x[2:3], 0)[0], found[2])
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(SaccadeError, match="255"):
        CONTROLS[name](nn.Identity(), (x * 255).byte(), 0)


def test_controls_by_hand() -> None:
    x = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    x[:, 1, :, 3:] = 1.0  # green is 0.7152 of the luminance; a step is half as steep to each side
    expected = torch.tensor([0, 0, 0.7152 / 2, 0.7152 / 2, 0, 0], dtype=torch.float64).expand(1, 4, 6)
    torch.testing.assert_close(edge_map(nn.Identity(), x, 0), expected)
    ramp = (0.02 * torch.arange(5.0)[:, None] + 0.03 * torch.arange(6.0)).double().expand(1, 3, 5, 6)
    inside = edge_map(nn.Identity(), ramp, 0)[0, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full((3, 4), (0.02**2 + 0.03**2) ** 0.5, dtype=torch.float64))
    blob = centre_map(nn.Identity(), x, 0)[0]
    torch.testing.assert_close(blob, blob.flip(0))
    torch.testing.assert_close(blob, blob.flip(1))
    assert float(blob[1, 2]) == float(blob.max())
    noise = [random_map(nn.Identity(), x, 0, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert 0 <= float(noise[0].min()) < float(noise[0].max()) < 1


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_passes_are_counted_as_rows_of_pictures() -> None:
    network, x = net().train(), torch.rand(6, 3, 8, 8)
    with counting(network, x) as cost:
        gradient(network, x, 1)
    assert cost.forwards == pytest.approx(6)
    assert cost.backwards == pytest.approx(6)
    assert cost.seconds > 0
    with counting(network, x) as cost, torch.no_grad():
        network(x)
        network(x[:2])
    assert (cost.forwards, cost.backwards) == (pytest.approx(8), 0)
    # multiplications a picture: 64 * 4 * 27 in the first layer, 64 * 8 * 4 in the second, 5 * 8 in the last
    first, second, last = 64 * 4 * 27, 64 * 8 * 4, 5 * 8
    with counting(network, x) as cost, torch.no_grad():
        seen = activations(network, x, ["2"])["2"]
        network[3:](seen[:3])
    expected = (6 * first + 3 * (second + last)) / (first + second + last)
    assert cost.forwards == pytest.approx(expected)
    assert all(layer.training and not layer._forward_hooks for layer in network.modules())


def test_a_network_without_weights_counts_too_and_errors_leave_no_hooks() -> None:
    network = nn.Flatten()
    with counting(network, torch.rand(2, 3, 2, 2)) as cost:
        network(torch.rand(5, 3, 2, 2))
    assert cost.forwards == pytest.approx(5)
    with pytest.raises(ZeroDivisionError), counting(network, torch.rand(2, 3, 2, 2)):
        raise ZeroDivisionError
    assert not network._forward_hooks


def test_peak_memory_follows_tensors() -> None:
    x = torch.rand(1000)

    def work() -> None:
        for _ in range(3):
            one = x + 1
            two = one.view(10, 100) * 2
            del one
            two.add_(1)
            x.mul_(2)
            del two

    assert peak_memory(work, torch.device("cpu")) == (8000, "tensors followed")


def test_peak_memory_passes_over_tensors_in_an_order_of_onednn() -> None:
    """They have no storage to be followed; an attribution may bring weights into one."""
    x = torch.ones(4, 4)
    assert peak_memory(lambda: (x.to_mkldnn().to_dense() + 1).sum(), torch.device("cpu"))[0] > 0
