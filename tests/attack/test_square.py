"""Square Attack: its schedule, its squares, and its search against a plain one."""

import inspect
import math

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear, sizes
from torch import Tensor, nn

from saccade.attack import linear_attack
from saccade.attack import square as module
from saccade.attack.balls import ball
from saccade.attack.square import PROPOSALS, _bump, _exchange, _pair, _share, square
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

X = draw(8, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)
EPS = {"linf": 0.03, "l2": 0.5, "l1": 4.0}


def balls(norm: str, x: Tensor, eps: float):  # type: ignore[no-untyped-def]
    return ball(norm, x, x.new_full((len(x), 1, 1, 1), eps), x.new_zeros(1, 1, 1, 1), x.new_ones(1, 1, 1, 1), "test")


def test_the_squares_shrink_as_in_the_paper() -> None:
    halvings = {0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 500: 3, 501: 4, 1001: 5, 2001: 6, 4001: 7, 4999: 7}
    for query, times in halvings.items():
        assert _share(0.8, query, 10_000) == 0.8 / 2**times
    assert _share(0.8, 6, 5000) == 0.4  # query 6 of 5,000 is as far as 12 of 10,000
    assert _share(0.8, 4999, 5000) == 0.8 / 2**9


def plainly(network: nn.Module, x: Tensor, label: int, eps: float, queries: int, seed: int) -> tuple[list[float], int]:
    """Algorithm 1 of arXiv:1912.00049 for linf, with the margins of every accepted point; and how many were asked."""
    drawn = generator(seed, 0)
    channels, height, width = x.shape

    def margin(z: Tensor) -> float:
        with torch.no_grad():
            scores = network(z[None])[0]
        others = torch.cat([scores[:label], scores[label + 1 :]])
        return (others.max() - scores[label]).item()

    stripes = torch.randint(0, 2, (channels, 1, width), generator=drawn).double() * 2 - 1
    z = (x + eps * stripes).clamp(0, 1)
    margins = [margin(z)]
    for query in range(queries):
        area = 0.8 / 2 ** sum(query > after for after in (10, 50, 200, 500))
        side = min(max(round(math.sqrt(area * height * width)), 1), height, width)
        top = int(torch.randint(0, height - side + 1, (), generator=drawn))
        left = int(torch.randint(0, width - side + 1, (), generator=drawn))
        signs = torch.randint(0, 2, (channels, 1, 1), generator=drawn).double() * 2 - 1
        new = z.clone()
        new[:, top : top + side, left : left + side] += 2 * eps * signs
        new = torch.minimum(torch.maximum(new, x - eps), x + eps).clamp(0, 1)
        value = margin(new)
        if value > margins[-1]:
            z = new
            margins.append(value)
        if margins[-1] > 0:
            break
    return margins, query + 1


def test_it_is_the_search_of_the_paper_and_never_asks_in_vain() -> None:
    found = square(NETWORK, X, LABELS, eps=0.02, queries=60, seed=4)
    stopped = 0
    for i in range(8):
        margins, asked = plainly(NETWORK, X[i], int(LABELS[i]), 0.02, 60, 4)
        assert found.loss[i].item() == pytest.approx(margins[-1], rel=1e-9)
        assert bool(found.success[i]) == (margins[-1] > 0)
        assert found.forwards[i] <= 2 + asked
        stopped += int(found.forwards[i] < 2 + asked)
    assert stopped > 0  # some squares would have changed nothing
    assert not found.backwards.any()
    assert 0 < found.success.sum() < 8


@pytest.mark.parametrize("norm", list(EPS))
def test_what_it_finds_is_within_the_budget_and_grows_with_the_queries(norm: str) -> None:
    network, x = linear(3), draw(20, 3, 8, 8)
    network = linear(3, (3, 8, 8))
    labels = labels_of(network, x)
    exact = linear_attack(network, x, labels, norm=norm, eps=EPS[norm])
    loss, before = torch.full((20,), -torch.inf, dtype=torch.float64), torch.zeros(20, dtype=torch.bool)
    for queries in (0, 5, 40, 120):
        found = square(network, x, labels, norm=norm, eps=EPS[norm], queries=queries)
        assert (sizes(found.adversarial - x, norm) <= EPS[norm] * (1 + 1e-6)).all()
        assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
        assert not (before & ~found.success).any()
        assert not (found.success & ~exact.success).any()
        assert (found.loss >= loss).all()
        assert (found.loss <= exact.loss + 1e-9)[~exact.success].all()
        loss, before = found.loss, found.success
    assert found.success.sum() >= exact.success.sum() / 3
    assert found.success.any()


@pytest.mark.parametrize("norm", list(EPS))
def test_nothing_depends_on_who_else_is_there(norm: str) -> None:
    found = square(NETWORK, X, LABELS, norm=norm, eps=EPS[norm], queries=25)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    for rows, batch in ((order, None), (order[:1], None), (torch.arange(8), 3)):
        other = square(NETWORK, X[rows], LABELS[rows], norm=norm, eps=EPS[norm], queries=25, batch_size=batch)
        assert torch.equal(other.success, found.success[rows])
        assert torch.equal(other.forwards, found.forwards[rows])
        torch.testing.assert_close(other.adversarial, found.adversarial[rows])
    assert torch.equal(square(NETWORK, X, LABELS, norm=norm, eps=EPS[norm], queries=25).loss, found.loss)
    assert not torch.equal(square(NETWORK, X, LABELS, norm=norm, eps=EPS[norm], queries=25, seed=1).loss, found.loss)


@pytest.mark.parametrize("norm", list(EPS))
def test_masks_targets_and_starts(norm: str) -> None:
    mask = torch.zeros(8, 8)
    mask[2:7, 1:6] = 1
    found = square(NETWORK, X, LABELS, norm=norm, eps=4 * EPS[norm], queries=30, mask=mask)
    assert found.success.any()
    assert not ((found.adversarial != X) & (mask == 0)).any()
    with torch.no_grad():
        targets = NETWORK(X).topk(2, dim=1).indices[:, 1]
    aimed = square(NETWORK, X, LABELS, norm=norm, targets=targets, eps=2 * EPS[norm], queries=40, restarts=2)
    assert torch.equal(labels_of(NETWORK, aimed.adversarial) == targets, aimed.success)
    assert aimed.success.sum() >= 3
    once = square(NETWORK, X, LABELS, norm=norm, eps=EPS[norm] / 2, queries=10)
    more = square(NETWORK, X, LABELS, norm=norm, eps=EPS[norm] / 2, queries=10, restarts=3)
    assert not (once.success & ~more.success).any()
    assert (more.forwards[~more.success] > once.forwards[~more.success]).all()


def test_pairs_of_bumps() -> None:
    bump = _bump(5, 5, 2)
    height = torch.tensor([1 / 9, 1 / 9 + 1 / 4, 1 / 9 + 1 / 4 + 1])  # steps of 1 / n^2 from the border in
    torch.testing.assert_close(bump[2, :3] / bump[2, 2], height / height[2])
    torch.testing.assert_close(bump, bump.T)
    for power in (1, 2):
        for side in (1, 3, 4, 7):
            pair = _pair(side, power, generator(side))
            assert pair.shape == (side, side)
            assert pair.abs().pow(power).sum().item() == pytest.approx(1)
            if side % 2 == 0:
                assert pair.sum().item() == pytest.approx(0, abs=1e-6)
    drawn = [_pair(4, 2, generator(i)) for i in range(20)]
    assert any(torch.equal(one, drawn[0].T) for one in drawn)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_an_exchange_keeps_the_size_and_changes_two_squares(norm: str) -> None:
    x = 0.3 + 0.4 * draw(4, 3, 12, 12)
    where = balls(norm, x, EPS[norm])
    z = PROPOSALS[norm][0](where, generator(3))
    emptied = 0
    for i in range(6):
        new, differs, window = _exchange(where, z, 0.1, generator(i))
        assert differs is window is None
        assert (sizes(new - x, norm) <= EPS[norm] * (1 + 1e-6)).all()
        assert (sizes(new - x, norm) >= EPS[norm] * (1 - 1e-5)).all()
        if norm == "l2":  # outside the two squares of side 5 the change is scaled alone, if at all
            share = ((new - x) / (z - x)).nan_to_num(1.0)
            same = (share - share.flatten(1).median(1).values.view(-1, 1, 1, 1)).abs() < 1e-4
            assert (~same).flatten(1).sum(1).max() <= 3 * 2 * 25
            emptied += int(((new == x) & (z != x)).flatten(1).any(1).all())
        z = new
    assert emptied >= 3 or norm == "l1"  # where the other square had not been inside the first


def test_it_takes_networks_without_a_gradient_any_side_and_any_number_of_channels() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, :2].round().sum((1, 2)), x[:, -1, 3:].round().sum((1, 2)) + 0.5], 1)

    for norm in EPS:
        x = draw(6, 2, 5, 9, seed=1)
        network = Rounded().eval()
        found = square(network, x, labels_of(network, x), norm=norm, eps=20 * EPS[norm], queries=40)
        assert found.success.any()
    tiny = draw(4, 1, 2, 2)
    assert square(
        linear(2, (1, 2, 2)), tiny, labels_of(linear(2, (1, 2, 2)), tiny), norm="l2", eps=1.0, queries=9
    ).success.any()


def test_the_default_is_that_of_autoattack() -> None:
    """5,000 queries with the schedule of 10,000: others rescale it."""
    found = square(NETWORK, X[:1], LABELS[:1], eps=0.0, queries=3)
    assert found.forwards.item() <= 2  # nothing can change, so nothing is asked
    defaults = {name: one.default for name, one in inspect.signature(square).parameters.items()}
    assert (defaults["queries"], defaults["area"], defaults["scaled"]) == (5000, 0.8, False)
    assert module.HALVED[-1] == 8000


def test_what_it_refuses() -> None:
    for settings, message in (
        ({"queries": -1}, "Could not attack with Square: queries, restarts and area are -1, 1 and 0.8"),
        ({"area": 0.0}, "expected 0 or more, 1 or more, and a share"),
        ({"norm": "l0"}, "norm is 'l0'"),
    ):
        with pytest.raises(SaccadeError, match=message):
            square(NETWORK, X, LABELS, **settings)
