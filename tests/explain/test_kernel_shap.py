"""KernelSHAP against Shapley values by their definition, over all orders of the superpixels."""

from itertools import permutations, product
from math import comb

import pytest
import torch
from torch import Tensor, nn

from saccade.explain.kernel_shap import coalitions, kernel_shap


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CUTS = [
    torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
    torch.tensor([[0, 0, 1, 1, 1], [2, 0, 1, 1, 1], [2, 2, 2, 1, 0], [2, 2, 2, 0, 0]]),
    torch.tensor([[4, 4, 1, 1, 1], [4, 0, 1, 3, 3], [2, 0, 1, 3, 3], [2, 2, 2, 2, 2]]),
    torch.tensor([[0, 0, 1, 1, 1], [2, 0, 1, 3, 3], [2, 4, 4, 3, 5], [2, 4, 4, 5, 5]]),
]


def curved() -> nn.Module:
    """Far from additive."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 3 * 4, 6), nn.Tanh(), nn.Linear(6, 5)
    ).double()
    for parameter in net.parameters():
        parameter.data *= 3
    return net


def score(net: nn.Module, x: Tensor, cut: Tensor, shown: tuple[int, ...], fill: Tensor, target: int) -> float:
    picture = fill.expand_as(x).clone()
    for piece in shown:
        picture[:, cut == piece] = x[:, cut == piece]
    with torch.no_grad():
        return net(picture[None])[0, target].item()


def shapley(net: nn.Module, x: Tensor, cut: Tensor, fill: Tensor, target: int) -> list[float]:
    """What each piece adds when it comes, in the mean over all orders of coming."""
    count = int(cut.max()) + 1
    table = {
        bits: score(net, x, cut, tuple(i for i in range(count) if bits[i]), fill, target)
        for bits in product((0, 1), repeat=count)
    }
    values, orders = [0.0] * count, list(permutations(range(count)))
    for order in orders:
        bits = [0] * count
        for piece in order:
            before = table[tuple(bits)]
            bits[piece] = 1
            values[piece] += (table[tuple(bits)] - before) / len(orders)
    return values


def sums(map: Tensor, cut: Tensor) -> Tensor:
    found = []
    for piece in range(int(cut.max()) + 1):
        inside = map[cut == piece]
        torch.testing.assert_close(inside, inside[:1].expand_as(inside), rtol=0, atol=0)
        found.append(inside.sum())
    return torch.stack(found)


@pytest.mark.parametrize("cut", CUTS, ids=["2", "3", "5", "6"])
@pytest.mark.parametrize("fill", [0.5, "own"])
def test_with_all_coalitions_they_are_the_shapley_values(cut: Tensor, fill: object) -> None:
    net, x, target = curved(), random(1, 3, 4, 5), 3
    instead = random(3, 4, 5, seed=1) if fill == "own" else torch.tensor(0.5, dtype=torch.float64)
    pieces = int(cut.max()) + 1
    found = kernel_shap(net, x, target, pieces=cut, samples=max(4, 2**pieces), fill=instead)
    expected = torch.tensor(shapley(net, x[0], cut, instead, target), dtype=torch.float64)
    torch.testing.assert_close(sums(found[0], cut), expected, rtol=1e-9, atol=1e-12)
    additive = torch.tensor(
        [
            score(net, x[0], cut, (i,), instead, target) - score(net, x[0], cut, (), instead, target)
            for i in range(pieces)
        ]
    )
    assert (additive - expected).abs().max() > 0.03  # the network is one on which the question matters


@pytest.mark.parametrize("samples", [4, 5, 9, 23, 40, 64, 200])
def test_the_map_sums_to_the_difference_of_the_scores(samples: int) -> None:
    net, x, target = curved(), random(2, 3, 4, 5), [0, 2]
    found = kernel_shap(net, x, target, pieces=torch.stack(CUTS[2:]), samples=samples, fill="mean")
    with torch.no_grad():
        gap = net(x) - net(x.mean((2, 3), keepdim=True).expand_as(x))
    expected = torch.stack([gap[0, 0], gap[1, 2]])
    torch.testing.assert_close(found.sum((1, 2)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("samples", [30, 64])
def test_of_a_linear_network_they_are_weight_times_change(samples: int) -> None:
    weight, x = random(5, 3, 4, 5) - 0.5, random(1, 3, 4, 5, seed=1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 5)).double()
    net[1].weight.data = weight.flatten(1).clone()
    cut = torch.arange(20).view(4, 5) // 2  # ten pieces: 64 samples are far from all
    found = kernel_shap(net, x, 1, pieces=cut, samples=samples)
    value = (weight[1] * (x[0] - 0.5)).sum(0)
    expected = torch.stack([value[cut == piece].sum() for piece in range(10)])
    torch.testing.assert_close(sums(found[0], cut), expected, rtol=1e-8, atol=1e-11)


def test_more_samples_come_closer() -> None:
    net, x = curved(), random(1, 3, 4, 5)
    cut = torch.arange(20).view(4, 5) // 2
    exact = sums(kernel_shap(net, x, 3, pieces=cut, samples=2**10)[0], cut)

    def error(samples: int) -> float:
        found = torch.stack(
            [sums(kernel_shap(net, x, 3, pieces=cut, samples=samples, seed=s)[0], cut) for s in range(12)]
        )
        return float((found - exact).pow(2).mean().sqrt() / exact.std())

    few, many, most = error(60), error(240), error(600)
    assert many < 0.7 * few
    assert most < 0.7 * many
    assert most < 0.08


@pytest.mark.parametrize("players", range(1, 11))
def test_as_many_samples_as_coalitions_take_each_once_with_its_kernel(players: int) -> None:
    shown, weight = coalitions(players, 2**players - 2, seed=0)
    assert len(torch.unique(shown, dim=0)) == len(shown) == 2**players - 2
    for row, one in zip(shown, weight, strict=True):
        s = int(row.sum())
        assert one.item() == pytest.approx((players - 1) / (comb(players, s) * s * (players - s)), rel=1e-12)


@pytest.mark.parametrize(("players", "samples"), [(7, 50), (8, 100), (8, 40), (12, 300), (50, 998), (50, 60), (30, 2)])
def test_fewer_samples_keep_the_weight_of_the_sizes(players: int, samples: int) -> None:
    shown, weight = coalitions(players, samples, seed=1)
    assert samples - 1 <= len(shown) <= samples
    kernel = {s: (players - 1) / (s * (players - s)) for s in range(1, players)}
    assert weight.sum().item() == pytest.approx(sum(kernel.values()), rel=1e-12)
    sizes = shown.sum(1)
    assert sizes.min() >= 1
    assert sizes.max() <= players - 1
    torch.testing.assert_close(weight @ shown, (weight.sum() / 2).expand(players))  # with each its complement
    whole = [
        s
        for s in kernel
        if (sizes == s).sum() == comb(players, s) and len(torch.unique(shown[sizes == s], dim=0)) == comb(players, s)
    ]
    for s in whole:
        assert weight[sizes == s].sum().item() == pytest.approx(kernel[s], rel=1e-12) or samples < 50
    assert (1 in whole) == (samples >= 40 and samples != 60)


def test_drawn_sizes_follow_the_kernel() -> None:
    players, samples = 14, 4000
    shown, _ = coalitions(players, samples, seed=0)
    sizes = shown.sum(1)
    kernel = {s: 1 / (s * (players - s)) for s in range(1, players)}
    rest = [s for s in kernel if (sizes == s).sum() != comb(players, s)]
    assert 5 in rest
    assert 1 not in rest
    count = sum(int((sizes == s).sum()) for s in rest)
    for s in rest:
        share = kernel[s] / sum(kernel[t] for t in rest)
        spread = (share * (1 - share) / (count / 2)) ** 0.5
        assert abs(int((sizes == s).sum()) / count - share) < 4.5 * spread
    middle = shown[sizes == rest[0]].mean(0)
    assert (middle - rest[0] / players).abs().max() < 0.06  # no player is preferred


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    net, x, cut = curved(), random(2, 3, 4, 5), CUTS[2]
    # ShapleyValues enumerates all orders
    sampler = attr.ShapleyValues(net)
    expected = sampler.attribute(
        x, baselines=0.5, target=3, feature_mask=cut.expand(1, 3, 4, 5).contiguous(), perturbations_per_eval=4
    )
    found = kernel_shap(net, x, 3, pieces=cut, samples=32)
    for i in range(2):
        for piece in range(5):
            whole = expected[i, 0][cut == piece][0].double()  # it sums up in float32
            torch.testing.assert_close(found[i][cut == piece].sum(), whole, rtol=1e-5, atol=1e-6)
