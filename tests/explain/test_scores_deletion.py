"""Deletion and insertion against closed forms, a plain loop and all orders there are."""

from itertools import permutations

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.question import Unit
from saccade.explain.scores import deletion, insertion
from saccade.explain.scores.common import ranks


def linear(weight: torch.Tensor) -> nn.Module:
    """Scores are weight (classes, 3, h, w) times picture."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=True).to(weight.dtype)
    layer.weight.data = weight.flatten(1).clone()
    return nn.Sequential(nn.Flatten(), layer)


def smooth_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 5)).double()


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


WEIGHT = random(3, 3, 4, 5) - 0.5
X = random(2, 3, 4, 5)
TARGET = torch.tensor([2, 0])
SHARE = WEIGHT[TARGET] * X  # what each value adds to the score, black being nothing


def test_of_a_linear_network_the_curves_are_sums_of_contributions() -> None:
    network = linear(WEIGHT)
    share = SHARE.sum(1).flatten(1).sort(dim=1, descending=True).values
    rising = torch.cat([torch.zeros(2, 1, dtype=torch.float64), share.cumsum(1)], 1)
    bias = network[1].bias[TARGET, None]
    out = deletion(network, X, TARGET, SHARE, fill=0.0, steps=20, score="logit")
    torch.testing.assert_close(out.scores, bias + rising[:, -1:] - rising)
    back = insertion(network, X, TARGET, SHARE, fill=0.0, steps=20, score="logit")
    torch.testing.assert_close(back.scores, bias + rising)
    torch.testing.assert_close(back.shares, torch.arange(21, dtype=torch.float64) / 20)
    by_hand = (rising[:, 1:] + rising[:, :-1]).sum(1) / 40
    torch.testing.assert_close(back.area, bias[:, 0] + by_hand)


@pytest.mark.parametrize("fill", ["mean", "blur", 0.0])
@pytest.mark.parametrize("order", ["most", "least"])
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_equals_a_plain_loop(fill: str | float, order: str, score: str) -> None:
    network, maps = smooth_net().eval(), random(2, 3, 6, 5)[:, 0] - 0.5
    x, steps = random(2, 3, 6, 5), 7
    found = [
        f(network, x, [1, 4], maps, fill=fill, order=order, steps=steps, score=score) for f in (deletion, insertion)
    ]
    for i, target in enumerate([1, 4]):
        if fill == "mean":
            empty = x[i].mean((1, 2))[:, None, None].expand(3, 6, 5)
        elif fill == "blur":
            empty = torch.stack([blurred(colour, 0.5) for colour in x[i]])
        else:
            empty = torch.zeros(3, 6, 5, dtype=torch.float64)
        pixels = sorted(range(30), key=lambda p: float(maps[i].flatten()[p]), reverse=order == "most")
        for k in range(steps + 1):
            count = int(k * 30 / steps + 0.5)
            out, back = x[i].clone(), empty.clone()
            for p in pixels[:count]:
                out[:, p // 5, p % 5] = empty[:, p // 5, p % 5]
                back[:, p // 5, p % 5] = x[i][:, p // 5, p % 5]
            for curve, picture in zip(found, (out, back), strict=True):
                logits = network(picture[None])[0].detach()
                said = logits.softmax(0)[target] if score == "probability" else logits[target]
                torch.testing.assert_close(curve.scores[i, k], said)
                assert float(curve.shares[k]) == pytest.approx(count / 30)


def blurred(colour: torch.Tensor, sigma: float) -> torch.Tensor:
    """A Gaussian of the pixels that there are, by a loop over all pairs."""
    h, w = colour.shape
    out = torch.zeros_like(colour)
    for i in range(h):
        for j in range(w):
            y, x = torch.arange(h)[:, None] - i, torch.arange(w) - j
            weight = torch.exp(-(y**2 + x**2).double() / (2 * sigma**2))
            out[i, j] = (weight * colour).sum() / weight.sum()
    return out


def test_of_all_orders_that_by_contribution_is_best() -> None:
    network, x = linear(WEIGHT[:, :, :2, :2]), X[:1, :, :2, :2]
    best = (WEIGHT[1, :, :2, :2] * x).sum(1)

    def area(map: torch.Tensor, curve: object) -> float:
        return float(curve(network, x, 1, map, fill=0.0, steps=4, score="logit").area)  # type: ignore[operator]

    maps = [torch.tensor(order, dtype=torch.float64).view(1, 2, 2) for order in permutations(range(4))]
    out, back = [area(map, deletion) for map in maps], [area(map, insertion) for map in maps]
    assert area(best, deletion) == pytest.approx(min(out))
    assert area(best, insertion) == pytest.approx(max(back))
    assert area(-best, deletion) == pytest.approx(max(out))
    assert max(out) > min(out) + 0.1


def test_a_perfect_map_beats_its_reverse() -> None:
    network = linear(WEIGHT)
    for fill, empty in (("mean", X.mean((2, 3), keepdim=True)), (0.5, 0.5)):
        maps = WEIGHT[TARGET] * (X - empty)
        good, bad = (deletion(network, X, TARGET, m, fill=fill, score="logit").area for m in (maps, -maps))
        assert (good < bad - 0.1).all()
        good, bad = (insertion(network, X, TARGET, m, fill=fill, score="logit").area for m in (maps, -maps))
        assert (good > bad + 0.1).all()


def test_insertion_is_deletion_of_the_least_relevant_read_backwards() -> None:
    maps = (random(2, 4, 5) * 3).round()  # with many ties
    out = deletion(smooth_net_45(), X, TARGET, maps, order="least", steps=10)
    back = insertion(smooth_net_45(), X, TARGET, maps, order="most", steps=10)
    torch.testing.assert_close(back.scores, out.scores.flip(1), rtol=0, atol=1e-15)


def smooth_net_45() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(24, 3)).double()


def test_ties_are_broken_at_random_and_by_the_seed() -> None:
    flat = torch.zeros(2, 30, 40)
    one, again, other = ranks(flat, "most", 0), ranks(flat, "most", 0), ranks(flat, "most", 1)
    assert torch.equal(one, again)
    assert torch.equal(one[0], one[1])
    assert not torch.equal(one, other)
    assert torch.equal(one[0].flatten().sort().values, torch.arange(1200))
    assert abs(float(one[0, :15].double().mean()) - 599.5) < 60  # reading order would give 299.5
    assert torch.equal(ranks(flat, "least", 0), 1199 - one)
    hot = flat.clone()
    hot[0, 3, 4] = 1
    assert ranks(hot, "most", 0)[0, 3, 4] == 0
    assert ranks(hot, "least", 0)[0, 3, 4] == 1199


def test_neither_batches_nor_the_rest_of_the_pictures_matter() -> None:
    network, maps = smooth_net_45(), random(2, 4, 5)
    whole = deletion(network, X, TARGET, maps, steps=5)
    torch.testing.assert_close(deletion(network, X, TARGET, maps, steps=5, batch_size=1).scores, whole.scores)
    torch.testing.assert_close(deletion(network, X[1:], 0, maps[1:], steps=5).scores, whole.scores[1:])


def test_a_unit_is_followed_by_its_raw_value() -> None:
    network, maps = smooth_net_45(), random(2, 4, 5)
    curve = deletion(network, X, Unit("0", 2), maps, steps=4, score="logit")
    torch.testing.assert_close(curve.scores[:, 0], network[0](X)[:, 2].mean((1, 2)).detach())
    with pytest.raises(SaccadeError, match="only logit"):
        deletion(network, X, Unit("0", 2), maps, steps=4)


def test_leaves_no_trace() -> None:
    network, random_state = smooth_net().train(), torch.get_rng_state()
    deletion(network, random(2, 3, 6, 5), 1, random(2, 6, 5), steps=3)
    assert all(layer.training for layer in network.modules())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("maps", "settings", "message"),
    [
        (random(2, 4, 4), {}, r"expected \(2, 4, 5\)"),
        (random(2, 2, 4, 5), {}, "its shape is"),
        (torch.full((2, 4, 5), torch.nan), {}, "not finite"),
        (random(2, 4, 5), {"steps": 0}, "steps is 0"),
        (random(2, 4, 5), {"fill": "pink"}, "fill is 'pink'"),
    ],
)
def test_says_what_is_wrong(maps: torch.Tensor, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        deletion(smooth_net_45(), X, TARGET, maps, **settings)  # type: ignore[arg-type]
