"""Statistics of style, against closed forms and second implementations."""

import gc
import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import SaccadeError
from saccade.style.statistics import (
    STATISTICS,
    Gram,
    GramMeanStd,
    MeanStd,
    Moments,
    Sliced,
    Wasserstein,
    mix,
    moments,
    normalise_gradient,
)
from saccade.style.statistics.sliced import unit_directions
from saccade.style.statistics.wasserstein import _ROOTS, _common_basis

every = pytest.mark.parametrize("name", sorted(STATISTICS))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def slope(distance: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(distance.sum(), by)[0]


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "forward", "back"), [
    (torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 1e-5), (torch.bfloat16, 1e-5, 2e-2),
])  # fmt: skip
@pytest.mark.parametrize("masked", [False, True])
def test_sums_and_their_gradients_keep_layout_and_accuracy(layout, dtype, forward, back, masked):
    """16 bits are multiplied exactly, so sums are as good as in 32; gradients have the bits of the features."""
    before = torch.get_float32_matmul_precision()
    features = drawn(2, 40, 30, 31).relu().to(dtype).contiguous(memory_format=layout).requires_grad_()
    mask = drawn(1, 30, 31, seed=1).abs() if masked else None
    wide = features.detach().double().requires_grad_()
    weight = 1 if mask is None else mask.square()
    truth = torch.einsum("nchw,ndhw->ncd", wide * weight, wide), (wide * weight).sum((2, 3))
    by = drawn(2, 40, 40, seed=2), drawn(2, 40, seed=3)
    found = moments(features, mask)
    for one, other in zip((found.gram, found.total), truth, strict=True):
        assert (one - other).norm() <= forward * other.norm()
    (expected,) = torch.autograd.grad(truth, wide, by)
    (gradient,) = torch.autograd.grad((found.gram, found.total), features, tuple(g.to(found.gram) for g in by))
    assert (gradient - expected).norm() <= back * expected.norm()
    assert gradient.dtype == dtype
    assert gradient.is_contiguous(memory_format=layout)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rough_sums_of_16_bits_are_right_to_a_thousandth_with_the_same_gradient(layout):
    for size, tolerance in (((64, 61), 1e-3), ((20, 20), 1e-6)):  # of few places they are exact
        features = drawn(2, 40, *size).relu().bfloat16().contiguous(memory_format=layout).requires_grad_()
        exact, found = moments(features), moments(features, rough=True)
        assert found.gram.dtype == torch.float32
        assert (found.gram - exact.gram).norm() <= tolerance * exact.gram.norm()
        torch.testing.assert_close(found.total, exact.total)
        by = drawn(2, 40, 40, seed=2).float()
        slopes = [torch.autograd.grad(each.gram, features, by)[0] for each in (exact, found)]
        assert torch.equal(*slopes)
        assert torch.equal(moments(features.float(), rough=True).gram, moments(features.float()).gram)


@every
def test_zero_at_equality_positive_elsewhere(name):
    statistic = STATISTICS[name]
    features = drawn(2, 4, 5, 6).relu()
    now, other = statistic.measure(features), statistic.measure(drawn(2, 4, 5, 6, seed=1).relu())
    assert statistic.distance(now, now).abs().max() < 1e-12
    assert (statistic.distance(now, other) > 1e-4).all()
    shuffled = features.flatten(2)[:, :, torch.randperm(30, generator=torch.Generator().manual_seed(2))]
    assert statistic.distance(statistic.measure(shuffled.view(2, 4, 6, 5)), now).abs().max() < 1e-12


@every
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(name, masked):
    statistic = STATISTICS[name]
    mask = drawn(1, 16, 16, seed=2).sigmoid() if masked else None
    target = statistic.measure(drawn(1, 3, 7, 9, seed=1) + 0.5)

    def distance(features: torch.Tensor) -> torch.Tensor:
        return statistic.distance(statistic.measure(features, mask), target)

    assert torch.autograd.gradcheck(distance, drawn(2, 3, 16, 16).requires_grad_(), fast_mode=True)


@every
def test_a_picture_does_not_depend_on_its_batch_and_one_target_serves_all(name):
    statistic = STATISTICS[name]
    features, masks = drawn(3, 4, 5, 6), drawn(3, 5, 6, seed=1).sigmoid()
    target = statistic.measure(drawn(1, 4, 3, 3, seed=2))
    each = statistic.measure(drawn(1, 4, 3, 3, seed=2).expand(3, -1, -1, -1))
    for mask in (None, masks):
        together = statistic.distance(statistic.measure(features, mask), target)
        assert together.shape == (3,)
        torch.testing.assert_close(statistic.distance(statistic.measure(features, mask), each), together)
        for i in range(3):
            part = None if mask is None else mask[i : i + 1]
            alone = statistic.distance(statistic.measure(features[i : i + 1], part), target)
            torch.testing.assert_close(alone, together[i : i + 1])


@every
def test_dtypes(name):
    statistic = STATISTICS[name]
    target = statistic.measure(drawn(1, 4, 5, 5, seed=1).float())
    exact = statistic.distance(statistic.measure(drawn(2, 4, 8, 8)), statistic.measure(drawn(1, 4, 5, 5, seed=1)))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
        features = drawn(2, 4, 8, 8).to(dtype).requires_grad_()
        distance = statistic.distance(statistic.measure(features), target)
        assert distance.dtype == torch.float32
        assert slope(distance, features).dtype == dtype
        torch.testing.assert_close(distance.double(), exact, rtol=tolerance, atol=0)


@every
def test_sums_are_not_taken_in_low_precision(name):
    statistic = STATISTICS[name]
    features = drawn(1, 4, 8, 8).bfloat16()
    target = statistic.measure(drawn(1, 4, 5, 5, seed=1).float())
    exact = statistic.distance(statistic.measure(features.float()), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = statistic.distance(statistic.measure(features), target)
    torch.testing.assert_close(found, exact)


@every
def test_a_map_may_lie_in_memory_in_any_order(name):
    statistic = STATISTICS[name]
    features = drawn(2, 4, 5, 6)
    now = statistic.measure(features.contiguous(memory_format=torch.channels_last))
    assert statistic.distance(now, statistic.measure(features)).abs().max() < 1e-12


@every
def test_the_places_of_a_mask_alone_count(name):
    """A Gram matrix is divided by all places, so masked it is that of features set to 0 outside the mask."""
    statistic = STATISTICS[name]
    masks = (drawn(2, 5, 6, seed=1) > 0.3).double()
    features = drawn(2, 4, 5, 6).requires_grad_()
    target = statistic.measure(drawn(1, 4, 4, 4, seed=2))
    distance = statistic.distance(statistic.measure(features, masks), target)
    assert (slope(distance, features).abs().sum(1)[masks == 0] == 0).all()
    for i, mask in enumerate(masks):
        if "gram" in name:
            continue
        chosen = features[i : i + 1, :, mask > 0][..., None]
        torch.testing.assert_close(statistic.distance(statistic.measure(chosen), target)[0], distance[i])
    if name == "gram":
        zeroed = statistic.measure(features * masks[:, None])
        torch.testing.assert_close(statistic.distance(zeroed, target), distance)
    everywhere = statistic.measure(features, torch.ones(1, 5, 6))
    torch.testing.assert_close(
        statistic.distance(everywhere, target), statistic.distance(statistic.measure(features), target)
    )


@every
def test_a_region_without_a_place_has_finite_distance_and_no_slope(name):
    statistic = STATISTICS[name]
    features = drawn(1, 4, 5, 6).requires_grad_()
    target = statistic.measure(drawn(1, 4, 4, 4, seed=2))
    distance = statistic.distance(statistic.measure(features, torch.zeros(1, 5, 6)), target)
    assert torch.isfinite(distance).all()
    assert (slope(distance, features) == 0).all()


@every
def test_mixing(name):
    statistic = STATISTICS[name]
    a, b = (statistic.measure(drawn(1, 4, size, 5, seed=size)) for size in (4, 6))
    now = statistic.measure(drawn(2, 4, 5, 6))
    torch.testing.assert_close(statistic.distance(now, statistic.mix([a, b], [0, 3])), statistic.distance(now, b))
    half, same = statistic.mix([a, b], [1, 1]), statistic.mix([a, b], [0.5, 0.5])
    torch.testing.assert_close(statistic.distance(now, half), statistic.distance(now, same))
    assert statistic.distance(a, half) < statistic.distance(a, b)
    assert statistic.distance(b, half) < statistic.distance(b, a)
    for weights in ([1], [1, -1], [0, 0]):
        with pytest.raises(SaccadeError, match="2 styles have the weights"):
            statistic.mix([a, b], weights)


@every
def test_tiles_add_up_to_the_picture(name):
    statistic = STATISTICS[name]
    assert statistic.additive == (name != "sliced")
    if not statistic.additive:
        return
    features, mask = drawn(2, 4, 5, 6), drawn(2, 5, 6, seed=1).sigmoid()
    target = statistic.measure(drawn(1, 4, 4, 4, seed=2))
    whole = statistic.measure(features, mask)
    tiles = statistic.measure(features[..., :2], mask[..., :2]) + statistic.measure(features[..., 2:], mask[..., 2:])
    torch.testing.assert_close(statistic.distance(tiles, target), statistic.distance(whole, target))


@every
def test_errors(name):
    statistic = STATISTICS[name]
    now = statistic.measure(drawn(2, 4, 5, 6))
    with pytest.raises(SaccadeError, match="the mask is"):
        statistic.measure(drawn(2, 4, 5, 6), torch.ones(2, 6, 5))
    with pytest.raises(SaccadeError, match="the mask is"):
        statistic.measure(drawn(3, 4, 5, 6), torch.ones(2, 5, 6))
    for wrong in (drawn(1, 5, 5, 6), drawn(3, 4, 5, 6)):
        with pytest.raises(SaccadeError, match="expected as many"):
            statistic.distance(now, statistic.measure(wrong))
    other = STATISTICS["gram" if name == "sliced" else "sliced"]
    with pytest.raises(SaccadeError, match="as it measures"):
        statistic.distance(now, other.measure(drawn(2, 4, 5, 6)))


@every
def test_targets_measured_in_inference_mode_serve(name):
    statistic = STATISTICS[name]
    for size in (3, 17):  # of which nothing is known yet
        with torch.inference_mode():
            target = statistic.measure(drawn(1, 11, size, size))
        features = drawn(1, 11, size, size, seed=1).requires_grad_()
        assert slope(statistic.distance(statistic.measure(features), target), features).abs().sum() > 0


@pytest.mark.parametrize("name", sorted(name for name in STATISTICS if STATISTICS[name].additive))
def test_gradients_of_tiles_by_the_slopes_of_the_sum(name):
    """What exact tiling does: the slope by the sums first, then that of each tile's sums by its features."""
    statistic = STATISTICS[name]
    features, target = drawn(1, 4, 5, 6).requires_grad_(), statistic.measure(drawn(1, 4, 4, 4, seed=2))
    whole = slope(statistic.distance(statistic.measure(features), target), features)
    tiles = [features[..., :2], features[..., 2:]]
    with torch.no_grad():
        total = statistic.measure(tiles[0]) + statistic.measure(tiles[1])
    leaves = total.gram.requires_grad_(), total.total.requires_grad_()
    by_sums = torch.autograd.grad(statistic.distance(total, target).sum(), leaves, materialize_grads=True)
    parts = []
    for tile in tiles:
        measured = statistic.measure(tile)
        parts += torch.autograd.grad((measured.gram, measured.total), features, by_sums)
    torch.testing.assert_close(sum(parts), whole)


# --- moments -----------------------------------------------------------------------------------------------------


def test_moments_are_sums_over_places():
    features, mask = drawn(2, 3, 2, 4), drawn(1, 2, 4, seed=1).sigmoid()
    found = moments(features, mask)
    gram, total, area = torch.zeros(2, 3, 3).double(), torch.zeros(2, 3).double(), torch.zeros(2).double()
    for n, y, x in itertools.product(range(2), range(2), range(4)):
        f, w = features[n, :, y, x], mask[0, y, x] ** 2
        gram[n] += w * torch.outer(f, f)
        total[n] += w * f
        area[n] += w
    for ours, theirs in ((found.gram, gram), (found.total, total), (found.area, area)):
        torch.testing.assert_close(ours, theirs)
    assert found.places == 8.0
    points, weights = features[0].flatten(1).numpy(), mask.flatten().square().numpy()
    covariance = np.cov(points, ddof=0, aweights=weights)
    np.testing.assert_allclose(found.covariance[0], covariance)
    np.testing.assert_allclose(found.variance[0], covariance.diagonal())
    np.testing.assert_allclose(found.mean[0], np.average(points, axis=1, weights=weights))


def test_moments_have_second_derivatives():
    mask = drawn(1, 3, 3, seed=1).sigmoid()
    features = drawn(1, 2, 3, 3).requires_grad_()
    for given_mask in (None, mask):
        assert torch.autograd.gradgradcheck(lambda x, m=given_mask: moments(x, m).gram.square().sum(), features)


def test_a_blend_of_moments_is_that_of_the_places_of_all():
    a, b = drawn(1, 3, 4, 5), drawn(1, 3, 4, 5, seed=1)
    blend, pooled = mix([moments(a), moments(b)], [1, 1]), moments(torch.cat([a, b], dim=2))
    torch.testing.assert_close(blend.mean, pooled.mean)
    torch.testing.assert_close(blend.covariance, pooled.covariance)
    torch.testing.assert_close(blend.gram / blend.places, pooled.gram / pooled.places)
    uneven = mix([moments(a), moments(drawn(1, 3, 7, 9, seed=1))], [3, 1])
    torch.testing.assert_close(uneven.mean, 0.75 * a.mean((2, 3)) + 0.25 * drawn(1, 3, 7, 9, seed=1).mean((2, 3)))


# --- Gram, means and deviations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("divide", ["chw", "hw"])
def test_gram(divide, reduce):
    a, b = drawn(1, 3, 2, 4), drawn(1, 3, 5, 2, seed=1)
    grams = []
    for features in (a, b):
        flat = features[0].reshape(3, -1).numpy()
        grams.append(flat @ flat.T / (flat.size if divide == "chw" else flat.shape[1]))
    squares = (grams[0] - grams[1]) ** 2
    expected = squares.mean() if reduce == "mean" else squares.sum()
    statistic = Gram(divide, reduce)
    found = statistic.distance(statistic.measure(a), statistic.measure(b))
    assert found.item() == pytest.approx(expected)
    relative = replace(statistic, relative=True)
    of_target = (grams[1] ** 2).mean() if reduce == "mean" else (grams[1] ** 2).sum()
    assert relative.distance(moments(a), moments(b)).item() == pytest.approx(expected / of_target)
    assert relative.distance(moments(7 * a), moments(7 * b)).item() == pytest.approx(expected / of_target)


def test_gram_by_a_mask_is_that_of_the_features_times_it_over_all_places():
    features, mask = drawn(1, 3, 4, 5), drawn(1, 4, 5, seed=1).sigmoid()
    found = Gram("chw", "sum").distance(moments(features, mask), moments(torch.zeros(1, 3, 4, 5).double()))
    flat = (features * mask).view(3, 20)
    assert found.item() == pytest.approx((flat @ flat.T / 60).square().sum().item())


def test_mean_std():
    a, b = drawn(2, 3, 4, 5), drawn(2, 3, 6, 2, seed=1) * 2 + 1
    numbers = [(x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-5).sqrt()) for x in (a, b)]
    expected = sum((p - q).square().mean(1) for p, q in zip(*numbers, strict=True))
    torch.testing.assert_close(MeanStd().distance(moments(a), moments(b)), expected)
    relative = expected / sum(q.square().mean(1) for q in numbers[1])
    torch.testing.assert_close(MeanStd(relative=True).distance(moments(a), moments(b)), relative)
    both = GramMeanStd(weight=3.0).distance(moments(a), moments(b))
    torch.testing.assert_close(both, Gram(relative=True).distance(moments(a), moments(b)) + 3 * relative)


def test_a_constant_channel_has_a_finite_slope():
    features = torch.full((1, 2, 4, 4), 1000.1, requires_grad=True)
    target = moments(drawn(1, 2, 4, 4).float())
    assert torch.isfinite(slope(MeanStd().distance(moments(features), target), features)).all()


# --- Wasserstein -------------------------------------------------------------------------------------------------


def nuclear_wasserstein(a: torch.Tensor, b: torch.Tensor, eps: float) -> torch.Tensor:
    """Of the maps (C, P): the trace of the mixed root is the sum of singular values of the product of any two roots."""
    means = [x.mean(1) for x in (a, b)]
    covariances = [torch.cov(x, correction=0) + eps * torch.eye(len(x), dtype=x.dtype) for x in (a, b)]
    left, right = (torch.linalg.cholesky(c) for c in covariances)
    mixed = torch.linalg.svdvals(left.mT @ right).sum()
    return ((means[0] - means[1]).square().sum() + sum(c.trace() for c in covariances) - 2 * mixed) / len(a)


@pytest.mark.parametrize("eps", [1e-4, 0.1])
def test_wasserstein_value_and_gradient(eps):
    a, b = drawn(1, 6, 5, 5).relu().requires_grad_(), drawn(1, 6, 4, 4, seed=1).relu()
    statistic = Wasserstein(eps)
    found = statistic.distance(statistic.measure(a), statistic.measure(b))
    expected = nuclear_wasserstein(a[0].flatten(1), b[0].flatten(1), eps)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(slope(found, a), slope(expected, a), rtol=1e-6, atol=1e-9)
    one, other = (np.cov(x[0].detach().flatten(1), ddof=0) + eps * np.eye(6) for x in (a, b))
    root = scipy.linalg.sqrtm(other)
    trace = np.trace(one + other - 2 * scipy.linalg.sqrtm(root @ one @ root).real)
    apart = (a.mean((2, 3)) - b.mean((2, 3))).square().sum().item()
    assert found.item() == pytest.approx((apart + trace) / 6, rel=1e-7)


@settings(max_examples=20, deadline=None)
@given(
    deviations=st.lists(st.floats(0, 5), min_size=4, max_size=4),
    means=st.lists(st.floats(-3, 3), min_size=4, max_size=4),
)
def test_wasserstein_of_commuting_covariances(deviations, means):
    """Of independent channels it is the distance of the means and of the deviations."""
    signs = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
    spreads = torch.tensor(deviations, dtype=torch.float64).view(2, 1, 2, 1)
    middles = torch.tensor(means, dtype=torch.float64).view(2, 1, 2, 1)
    now, target = spreads * signs.view(1, 2, 4) + middles
    turn = torch.linalg.qr(drawn(2, 2)).Q
    statistic = Wasserstein(1e-3)
    found = statistic.distance(*(statistic.measure((turn @ x)[..., None]) for x in (now, target)))
    by_spread = (deviation**2 + 1e-3 for deviation in deviations)
    roots = np.sqrt(list(by_spread)).reshape(2, 2)
    expected = ((roots[0] - roots[1]) ** 2).sum() + ((np.array(means[:2]) - np.array(means[2:])) ** 2).sum()
    assert found.item() == pytest.approx(expected / 2, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_wasserstein_of_few_places_is_that_of_the_covariances(masked):
    statistic = Wasserstein(1e-4)
    a, b = drawn(2, 16, 1, 4).requires_grad_(), drawn(1, 16, 2, 2, seed=1) + 0.5
    mask = drawn(2, 1, 4, seed=2).sigmoid() if masked else None
    now, target = statistic.measure(a, mask), statistic.measure(b)
    assert _common_basis(now, target) is not None
    found = statistic.distance(now, target)
    plain = statistic.distance(moments(a, mask), moments(b))
    torch.testing.assert_close(found, plain, rtol=1e-8, atol=0)
    slopes = slope(found, a), slope(plain, a)
    assert alike(*slopes) > 1 - 1e-9
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)
    now = statistic.measure(a, mask)
    assert statistic.distance(now, now).abs().max() < 1e-12
    if not masked:
        expected = [nuclear_wasserstein(one.flatten(1), b[0].flatten(1), 1e-4) for one in a]
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=0)
    assert torch.autograd.gradcheck(lambda x: statistic.distance(statistic.measure(x, mask), target), a, atol=1e-4)


def test_wasserstein_takes_covariances_where_places_are_many_or_summed():
    statistic = Wasserstein()
    few, many = statistic.measure(drawn(1, 16, 2, 2)), statistic.measure(drawn(1, 16, 3, 3))
    assert many.centred is None
    assert _common_basis(few, many) is None
    assert (few + few).centred is None
    assert _common_basis(few, statistic.measure(drawn(1, 16, 5, 1))) is None  # 9 places of 16 channels
    assert statistic.distance(few, many) == pytest.approx(
        nuclear_wasserstein(drawn(1, 16, 2, 2)[0].flatten(1), drawn(1, 16, 3, 3)[0].flatten(1), 1e-4).item()
    )


def test_wasserstein_in_single_precision_where_covariances_are_singular():
    a, b = 30 * drawn(1, 64, 4, 6).relu(), 30 * drawn(1, 64, 5, 5, seed=1).relu()
    statistic = Wasserstein()
    slopes, distances = [], []
    for dtype in (torch.float32, torch.float64):
        features = a.to(dtype).requires_grad_()
        distance = statistic.distance(statistic.measure(features), statistic.measure(b.to(dtype)))
        slopes.append(slope(distance, features).double())
        distances.append(distance.item())
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)
    assert alike(*slopes) > 0.9999


def test_wasserstein_takes_the_root_of_a_target_once_and_forgets_it_with_the_target(monkeypatch):
    calls = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(len(matrix)) or eigh(matrix))
    statistic = Wasserstein()
    target, now = statistic.measure(drawn(1, 3, 4, 4)), statistic.measure(drawn(2, 3, 4, 4))
    known = len(_ROOTS)
    for _ in range(3):
        statistic.distance(now, target)
    assert calls == [1, 2, 2, 2]
    Wasserstein(0.1).distance(now, target)
    assert calls[4:] == [1, 2]
    assert len(_ROOTS) == known + 1
    del target
    gc.collect()
    assert len(_ROOTS) == known


def test_wasserstein_needs_some_eps():
    with pytest.raises(SaccadeError, match=r"eps is 0\.0, expected more than 0"):
        Wasserstein(0.0)


# --- sliced Wasserstein ------------------------------------------------------------------------------------------


def test_sliced_is_the_best_matching_along_each_direction():
    a, b = drawn(1, 3, 1, 6), drawn(1, 3, 2, 3, seed=1)
    statistic = Sliced(directions=5, seed=3)
    directions = unit_directions(5, 3, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(5).double())
    costs = []
    for direction in directions:
        p, q = direction @ a[0].flatten(1), direction @ b[0].flatten(1)
        costs.append(min((p[list(order)] - q).square().mean().item() for order in itertools.permutations(range(6))))
    found = statistic.distance(statistic.measure(a), statistic.measure(b))
    assert found.item() == pytest.approx(np.mean(costs))


def looped_quantiles(now: np.ndarray, target: np.ndarray, weights: np.ndarray, others: np.ndarray) -> float:
    """The squared distance of weighted points on a line to the quantiles of others at their levels."""
    sides = []
    for values, shares in ((now, weights), (target, others)):
        values, shares = values[shares > 0], shares[shares > 0] / shares.sum()
        order = np.argsort(values)
        values, shares = values[order], shares[order]
        sides.append((values, np.cumsum(shares) - shares / 2, shares))
    (values, levels, shares), (wanted, known, _) = sides
    return float((shares * (values - np.interp(levels, known, wanted)) ** 2).sum())


@settings(max_examples=30, deadline=None)
@given(data=st.data(), sizes=st.tuples(st.integers(1, 7), st.integers(1, 7)), masked=st.booleans())
def test_sliced_of_other_sizes_and_masks(data, sizes, masked):
    seed = data.draw(st.integers(0, 10**6))
    a, b = drawn(1, 2, 1, sizes[0], seed=seed), drawn(1, 2, 1, sizes[1], seed=seed + 1)
    masks = [torch.ones(1, 1, size).double() for size in sizes]
    if masked:
        parts = st.sampled_from([0.0, 0.0, 1.0, 0.3])
        for mask in masks:
            mask[0, 0] = torch.tensor(data.draw(st.lists(parts, min_size=mask.shape[2], max_size=mask.shape[2])))
            mask[0, 0, 0] = 1.0
    statistic = Sliced(directions=3)
    given_masks = masks if masked else [None, None]
    found = statistic.distance(*(statistic.measure(x, mask) for x, mask in zip((a, b), given_masks, strict=True)))
    weights = [mask.flatten().square().numpy() for mask in masks]
    projected = [(unit_directions(3, 2, 0) @ x[0, :, 0]).numpy() for x in (a, b)]
    expected = np.mean([looped_quantiles(p, q, *weights) for p, q in zip(*projected, strict=True)])
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_sliced_draws_its_directions_by_the_seed_alone():
    features, target = drawn(1, 4, 3, 3), drawn(1, 4, 3, 3, seed=1)
    state = torch.random.get_rng_state()
    first, again, other = (
        statistic.distance(statistic.measure(features), statistic.measure(target)).item()
        for statistic in (Sliced(2, seed=1), Sliced(2, seed=1), Sliced(2, seed=2))
    )
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    assert Sliced().measure(features).values.shape == (1, 4, 9)
    with pytest.raises(SaccadeError, match="0 directions"):
        Sliced(0)


def test_a_blend_of_distributions_pulls_as_its_parts_do_together():
    statistic = Sliced()
    a, b = (statistic.measure(drawn(1, 3, 4, 4, seed=seed)) for seed in (1, 2))
    features = drawn(1, 3, 4, 4).requires_grad_()
    now = statistic.measure(features)
    together = slope(statistic.distance(now, statistic.mix([a, b], [1, 3])), features)
    now = statistic.measure(features)
    apart = slope(0.25 * statistic.distance(now, a) + 0.75 * statistic.distance(now, b), features)
    torch.testing.assert_close(together, apart)


# --- gradients of a length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normalised_gradient(scale):
    features = drawn(3, 2, 4, 4).requires_grad_()
    weights = drawn(3, 2, 4, 4, seed=1)
    weights[1] = 0
    passed = normalise_gradient(features, 5.0)
    assert torch.equal(passed, features)
    gradient = slope(scale * passed * weights, features)
    assert gradient.abs().flatten(1).sum(1).tolist() == pytest.approx([5, 0, 5])
    expected = weights / weights.abs().sum((1, 2, 3), keepdim=True).clamp(min=1e-9)
    torch.testing.assert_close(gradient, 5 * expected)
    half = drawn(1, 2, 4, 4).bfloat16().requires_grad_()
    assert slope(normalise_gradient(half), half).dtype == torch.bfloat16


def test_moments_say_what_they_hold():
    assert {statistic.additive for statistic in STATISTICS.values()} == {True, False}
    assert all(isinstance(s.measure(drawn(1, 2, 3, 3)), Moments) == s.additive for s in STATISTICS.values())
