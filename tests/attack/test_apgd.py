"""Auto-PGD against closed forms, and against the papers' algorithms written plainly, picture by picture."""

import math
from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear, sizes
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack import linear_attack
from saccade.attack.apgd import _Halved, _Sparse, apgd, climb
from saccade.attack.engine import searching
from saccade.attack.losses import cross_entropy, dlr, toward
from saccade.errors import SaccadeError

X = draw(12, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)
INNER = 0.3 + 0.4 * draw(4, 3, 8, 8, seed=3)  # far from black and white, so that the box plays no part


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("linf", 0.06), ("l2", 0.3), ("l1", 1.0), ("l1", 2.0)])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_on_linear_networks_it_is_exact(norm: str, eps: float, classes: int) -> None:
    network, x = linear(classes), draw(30, 3, 4, 4)
    labels = labels_of(network, x)
    exact = linear_attack(network, x, labels, norm=norm, eps=eps)
    clear = exact.loss.abs() > 1e-3
    assert 0 < exact.success.sum() < 30
    toward_each = apgd(network, x, labels, norm=norm, eps=eps, steps=40, loss="dlr", classes=9)
    away = apgd(network, x, labels, norm=norm, eps=eps, steps=40)
    assert torch.equal(toward_each.success[clear], exact.success[clear])
    assert not (away.success & ~exact.success)[clear].any()
    assert away.success.sum() >= exact.success.sum() - int(classes > 2)
    for found in (toward_each, away):
        assert (sizes(found.adversarial - x, norm) <= eps * (1 + 1e-9)).all()
        assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)


def loss_and_slope(network: nn.Module, z: Tensor, label: int, loss: Any) -> tuple[float, Tensor]:
    z = z.clone().requires_grad_()
    value = loss(network(z[None]))[0]
    (slope,) = torch.autograd.grad(value, z)
    return value.item(), slope


def plainly(
    network: nn.Module, x: Tensor, start: Tensor, label: int, norm: str, eps: float, steps: int, loss: Any
) -> tuple[Tensor, list[float]]:
    """Algorithm 1 of arXiv:2003.01690 for one picture that is far from the border of the box; and its step sizes."""

    def project(z: Tensor) -> Tensor:
        change = z - x
        if norm == "linf":
            return x + change.clamp(-eps, eps)
        return x + change * min(1, eps / change.norm().item())

    def ascent(z: Tensor, slope: Tensor, eta: float) -> Tensor:
        return project(z + eta * (slope.sign() if norm == "linf" else slope / slope.norm()))

    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    checks = [math.ceil(share * steps / 100) for share in shares]
    eta, etas, f, points = 2 * eps, [2 * eps], [], [start]
    value, slope = loss_and_slope(network, start, label, loss)
    f.append(value)
    points.append(ascent(start, slope, eta))
    value, slope = loss_and_slope(network, points[1], label, loss)
    f.append(value)
    top = points[1] if f[1] > f[0] else points[0]
    top_at = {0: max(f[:1]), 1: max(f)}
    halved_at, last = {0}, 0  # the first check looks at the first condition alone
    for k in range(1, steps):
        step = ascent(points[k], slope, eta)
        points.append(project(points[k] + 0.75 * (step - points[k]) + 0.25 * (points[k] - points[k - 1])))
        value, slope = loss_and_slope(network, points[k + 1], label, loss)
        if value > max(f):
            top = points[k + 1]
        f.append(value)
        top_at[k + 1] = max(f)
        if k + 1 in checks:
            rises = sum(f[i + 1] > f[i] for i in range(last, k + 1))
            still = last not in halved_at and top_at[last] == top_at[k + 1]
            if rises < 0.75 * (k + 1 - last) or still:
                eta /= 2
                halved_at.add(k + 1)
                points[k + 1] = top
                f[k + 1] = value  # rises are counted along the losses that were seen
                slope = loss_and_slope(network, top, label, loss)[1]
            last = k + 1
            etas.append(eta)
    return top, etas


@pytest.mark.parametrize(
    ("norm", "eps", "steps"), [("linf", 0.02, 25), ("linf", 0.2, 40), ("l2", 0.3, 40), ("l2", 0.8, 25)]
)
@pytest.mark.parametrize("name", ["ce", "dlr-t"])
def test_it_is_the_algorithm_of_the_paper(norm: str, eps: float, steps: int, name: str) -> None:
    labels = labels_of(NETWORK, INNER)
    goal = (labels + 1) % 5
    loss = cross_entropy if name == "ce" else dlr
    with searching(NETWORK, INNER, labels, operation="attack", norm=norm) as search:
        rows, radius = search.every_row, INNER.new_full((4, 1, 1, 1), eps)
        start = search.ball(rows, radius).random(5)
        found = climb(search, rows, radius, loss, steps, 0, None if name == "ce" else goal, start=start, judged=False)
    halvings = set()
    for i in range(4):

        def value(scores: Tensor, i: int = i) -> Tensor:
            if name == "ce":
                return F.cross_entropy(scores, labels[i : i + 1], reduction="none")
            ordered = scores.sort(dim=1).values
            apart = ordered[:, -1] - (ordered[:, -3] + ordered[:, -4]) / 2
            return (scores[:, goal[i]] - scores[:, labels[i]]) / apart

        expected, etas = plainly(NETWORK, INNER[i], start[i], int(labels[i]), norm, eps, steps, value)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-6 * eps)
        halvings.add(etas[-1])
    assert min(halvings) < 2 * eps / 4  # several checks were failed


def test_the_schedules_of_the_papers() -> None:
    assert _Halved.checks(100)[:8] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert _Halved.checks(10)[:4] == [3, 5, 6, 7]
    assert list(_Sparse.checks(30))[:4] == [1, 2, 3, 4]
    assert list(_Sparse.checks(100))[:3] == [4, 8, 12]


def test_sparse_steps_change_the_share_of_values_that_the_best_point_needs() -> None:
    """arXiv:2103.01208: 20 % at first, then two thirds of what the best point has changed; steps of eps, or shorter."""
    eps, slope = 2.0, draw(2, 3, 8, 8, seed=9) - 0.5
    with searching(NETWORK, INNER[:2], labels_of(NETWORK, INNER[:2]), operation="attack", norm="l1") as search:
        where = search.ball(search.every_row, INNER.new_full((2, 1, 1, 1), eps))
        pace = _Sparse.first(where, where.x, drawn=True)
        new = pace.step(where, where.x, None, slope)
        for i in range(2):
            moved = (new[i] != INNER[i]).flatten()
            assert moved.sum() == 192 - int(0.8 * 192)
            assert slope[i].abs().flatten()[moved].min() > slope[i].abs().flatten()[~moved].max()
            assert torch.equal((new[i] - INNER[i]).sign().flatten()[moved], slope[i].sign().flatten()[moved])
        torch.testing.assert_close(sizes(new - INNER[:2], "l1"), torch.full((2,), eps, dtype=torch.float64))
        best = torch.stack([new[0], INNER[1] + 0.001])  # 39 values changed, and all of them
        after, back = pace.checked(1, torch.zeros(2), best, where)
        assert back.tolist() == [True, False]
        torch.testing.assert_close(after.share, torch.tensor([39 / 192 / 1.5, 1 / 1.5], dtype=torch.float64))
        torch.testing.assert_close(after.length.flatten(), torch.tensor([eps, eps / 1.5], dtype=torch.float64))
        for _ in range(9):
            after, _ = after.checked(1, torch.zeros(2), best, where)
        torch.testing.assert_close(after.length.flatten(), torch.full((2,), eps / 10, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "forwards", "backwards"),
    [
        ({}, 1 + 101, 100),
        ({"restarts": 3}, 1 + 3 * 101, 300),
        ({"loss": "dlr", "classes": 9, "steps": 20}, 1 + 4 * 21, 80),
        ({"norm": "l1", "wide": True, "steps": 50}, 1 + 16 + 16 + 21, 16 + 16 + 20),
    ],
)
def test_passes_of_a_picture_that_withstands(settings: dict[str, Any], forwards: int, backwards: int) -> None:
    found = apgd(NETWORK, X[:2], LABELS[:2], eps=1e-4, **settings)
    assert not found.success.any()
    assert torch.equal(found.adversarial, X[:2])
    assert found.forwards.tolist() == [forwards] * 2
    assert found.backwards.tolist() == [backwards] * 2


def test_who_is_fooled_leaves_at_once_and_more_starts_lose_nobody() -> None:
    once = apgd(NETWORK, X, LABELS, eps=0.012, steps=20)
    assert 0 < once.success.sum() < 12
    assert once.forwards[once.success].max() <= 22
    assert (once.forwards[once.success] < 22).any()
    more = apgd(NETWORK, X, LABELS, eps=0.012, steps=20, restarts=3)
    assert torch.equal(more.forwards[once.success], once.forwards[once.success])
    assert not (once.success & ~more.success).any()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.5), ("l1", 5.0)])
def test_toward_given_targets(norm: str, eps: float) -> None:
    with torch.no_grad():
        first, second = NETWORK(X).topk(2, dim=1).indices.T
    labels = first.clone()
    labels[:3] = (second[:3] + 1) % 5  # wrong before, but not the target
    for loss in ("ce", "dlr"):
        found = apgd(NETWORK, X, labels, targets=second, norm=norm, eps=eps, loss=loss, steps=30)
        assert torch.equal(labels_of(NETWORK, found.adversarial) == second, found.success)
        assert found.success.sum() >= 9


def test_its_losses_do_not_saturate() -> None:
    """CE-based APGD of others succeeds with 8 % where DLR succeeds with 77 %, on scores times 1000."""
    plain = linear(3)
    network = Linear(plain.weight.detach(), plain.bias.detach(), scale=1000.0, shift=-100.0).float()
    x = draw(30, 3, 4, 4).float()
    labels = labels_of(network, x)
    exact = linear_attack(network, x, labels, eps=0.04).success
    for loss in ("ce", "dlr"):
        found = apgd(network, x, labels, eps=0.04, loss=loss, steps=30).success
        assert found.sum() >= exact.sum() - 1


def test_random_networks_must_be_fooled_twice() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.passes = 0
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            lucky = self.passes % 7 == 0  # one pass in seven says something else, whatever is shown
            scores: Tensor = NETWORK(x)
            return scores.roll(1, 1) if lucky else scores

    labels = labels_of(NETWORK, X[:1])
    found = apgd(Noisy(), X[:1], labels, eps=1e-6, steps=12, eot=2, batch_size=4)
    assert not found.success.any()
    assert 12 < found.backwards.item() <= 24
    believed = apgd(Noisy(), X[:1], labels, eps=1e-6, steps=12)
    assert believed.success.all()


def test_targeted_forms_are_those_of_the_aim() -> None:
    scores = draw(6, 5, seed=2)
    with searching(NETWORK, X[:6], LABELS[:6], operation="attack") as search:
        aim = search.aim(search.every_row)
    goal = torch.tensor([1, 2, 3, 4, 0, 1])
    expected = [
        (s[g] - s[y]) / (s.sort().values[-1] - s.sort().values[[-3, -4]].mean())
        for s, g, y in zip(scores, goal, LABELS[:6], strict=True)
    ]
    torch.testing.assert_close(toward(dlr, goal)(scores, aim), torch.stack(expected))


def test_what_it_refuses() -> None:
    for settings, message in (
        ({"steps": 0}, "Could not attack with APGD: steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"classes": -1}, "classes is -1"),
        ({"classes": 9, "targets": 0}, "both targets and classes"),
        ({"norm": "l0"}, "norm is 'l0', expected one of linf, l2, l1"),
        ({"loss": "nll"}, "no loss 'nll'"),
        ({"eps": -1.0}, "eps is -1"),
    ):
        with pytest.raises(SaccadeError, match=message):
            apgd(NETWORK, X, LABELS, **settings)
