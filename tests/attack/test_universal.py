"""The universal perturbation, the patch, the worst of several attacks, and noise."""

from functools import partial
from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear, sizes
from torch import Tensor, nn

from saccade.attack import Result, find_attack
from saccade.attack.noise import gaussian_noise, no_attack
from saccade.attack.patch import adversarial_patch, pasted, patched, places
from saccade.attack.universal import universal
from saccade.attack.worst_of import worst_of
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

NETWORK = conv_net()
X = draw(24, 3, 8, 8)
LABELS = labels_of(NETWORK, X)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.04), ("l2", 0.3)])
def test_the_universal_change_of_pictures_of_one_class_is_that_of_the_weights(norm: str, eps: float) -> None:
    """A linear network of two classes, far from the borders of the box: all pictures want the same change."""
    network, x = linear(2), 0.2 + 0.6 * draw(60, 3, 4, 4)
    x = x[labels_of(network, x) == 0]
    slope = (network.weight[1] - network.weight[0]).detach()
    best = eps * slope.sign() if norm == "linf" else eps * slope / slope.norm()
    labels = torch.zeros(len(x), dtype=torch.long)
    half = len(x) // 2
    found = universal(
        network, x[:half], labels[:half], unseen=(x[half:], labels[half:]), norm=norm, eps=eps, ceiling=100.0, epochs=12
    )
    torch.testing.assert_close(found.change, best, rtol=1e-5, atol=1e-7)
    assert found.unseen is not None
    for result, part in ((found.seen, x[:half]), (found.unseen, x[half:])):
        assert torch.equal(result.success, labels_of(network, (part + best).clamp(0, 1)) == 1)
        torch.testing.assert_close(result.adversarial[result.success], (part + found.change)[result.success])
        assert torch.equal(result.adversarial[~result.success], part[~result.success])
    assert 0 < found.unseen.success.sum() < len(found.unseen.success)


@pytest.mark.parametrize("target", [None, 2])
def test_a_universal_change_keeps_its_budget_and_beats_noise(target: int | None) -> None:
    settings: dict[str, Any] = {"eps": 0.08, "target": target, "at_once": 8}
    found = universal(NETWORK, X[:16], LABELS[:16], unseen=(X[16:], LABELS[16:]), epochs=6, **settings)
    none = universal(NETWORK, X[:16], LABELS[:16], epochs=0, **settings)
    assert none.unseen is None
    assert not none.change.any()
    assert sizes(found.change[None], "linf") <= 0.08 * (1 + 1e-6)
    assert found.seen.success.sum() >= none.seen.success.sum() + 6
    said = labels_of(NETWORK, found.seen.adversarial)
    assert torch.equal(said != LABELS[:16] if target is None else said == target, found.seen.success)
    assert torch.equal(universal(NETWORK, X[:16], LABELS[:16], epochs=6, **settings).change, found.change)
    assert found.seen.adversarial.min() >= 0
    assert found.seen.adversarial.max() <= 1


def test_a_patch_lies_where_its_place_says() -> None:
    """Straight and as large as the picture, it is the circle of the patch; elsewhere its circle is wholly inside."""
    x, patch = draw(2, 3, 8, 8), draw(3, 8, 8, seed=4)
    theta = places(2, x.shape, (1.0, 1.0), 0.0, generator(0))
    row, column = torch.meshgrid(torch.arange(8.0) - 3.5, torch.arange(8.0) - 3.5, indexing="ij")
    inside = row.square() + column.square() <= 16
    torch.testing.assert_close(pasted(x, patch, theta), torch.where(inside, patch, x))

    white = torch.zeros(300, 1, 30, 50, dtype=torch.float64)
    theta = places(300, white.shape, (0.3, 0.6), 45.0, generator(1))
    lying = pasted(white, torch.ones(1, 5, 5, dtype=torch.float64), theta)
    area = lying.sum((1, 2, 3))
    radius = theta[:, 0].mul(torch.tensor([2 / 50, 2 / 30, 0.0])).norm(dim=1).reciprocal()
    assert (radius >= 0.15 * 30 - 1e-9).all()
    assert (radius <= 0.3 * 30 + 1e-9).all()
    torch.testing.assert_close(area, torch.pi * radius.square(), rtol=0.1, atol=0)  # nothing of it is cut off
    assert lying[..., 0, :].any()
    assert lying[..., -1].any()
    turn = torch.atan2(theta[:, 1, 0] * 2 / 50, theta[:, 0, 0] * 2 / 50).rad2deg()
    assert turn.abs().max() <= 45
    assert turn.min() < -40 < 40 < turn.max()


def test_the_patch_is_the_best_of_a_linear_network() -> None:
    weight = draw(2, 3, 8, 8, seed=5) - 0.5
    network, x = Linear(weight, scale=0.02), draw(6, 3, 8, 8)  # never so sure that the slope vanishes
    found = adversarial_patch(
        network, x, labels_of(network, x), target=1, scales=(1.0, 1.0), degrees=0.0, epochs=40, at_once=6
    )
    row, column = torch.meshgrid(torch.arange(8.0) - 3.5, torch.arange(8.0) - 3.5, indexing="ij")
    inside = (row.square() + column.square() <= 16).expand(3, 8, 8)
    best = (weight[1] > weight[0]).double()
    assert ((found.patch - best).abs() < 0.05)[inside].double().mean() > 0.95
    assert (found.patch[~inside] == 0.5).all()
    assert found.seen.success.all()


def test_a_patch_works_on_unseen_pictures_and_changes_nothing_else() -> None:
    settings: dict[str, Any] = {"target": 1, "scales": (0.6, 0.9), "at_once": 8, "seed": 3}
    found = adversarial_patch(NETWORK, X[:16], LABELS[:16], unseen=(X[16:], LABELS[16:]), epochs=12, **settings)
    grey = adversarial_patch(NETWORK, X[:16], LABELS[:16], unseen=(X[16:], LABELS[16:]), epochs=0, **settings)
    assert found.unseen is not None
    assert grey.unseen is not None
    assert (grey.patch == 0.5).all()
    both = [one.seen.success.sum() + one.unseen.success.sum() for one in (found, grey)]
    assert both[0] >= both[1] + 6
    assert found.unseen.success.any()
    assert found.patch.min() >= 0
    assert found.patch.max() <= 1
    assert torch.equal(labels_of(NETWORK, found.unseen.adversarial) == 1, found.unseen.success)
    assert found.unseen.norm.max() <= 3 * torch.pi * (0.45 * 8) ** 2 * 1.15
    again = patched(NETWORK, X[16:], LABELS[16:], patch=found.patch, target=1, scales=(0.6, 0.9), seed=5)
    assert torch.equal(again.adversarial, found.unseen.adversarial)


def test_the_worst_of_several_attacks() -> None:
    attacks = {"fgsm": find_attack("fgsm"), "noise": partial(without_eps, gaussian_noise), "pgd": find_attack("pgd")}
    x, labels, eps = X[:12], LABELS[:12].clone(), torch.full((12,), 0.01)
    labels[3] = (labels[3] + 1) % 5
    eps[:6] = 0.002
    each = {name: attack(NETWORK, x, labels, eps=eps) for name, attack in attacks.items()}
    found = worst_of(NETWORK, x, labels, attacks=attacks, eps=eps)
    assert torch.equal(found.success, torch.stack([one.success for one in each.values()]).any(0))
    for i in range(12):
        first = next((name for name, one in each.items() if one.success[i]), "")
        assert found.broken_by[i] == ("clean" if i == 3 else first)
        tried = list(attacks)[: list(attacks).index(first) + 1] if first and i != 3 else list(attacks)
        if i == 3:
            assert found.forwards[i] == 1
            continue
        asked = sum(int(each[name].forwards[i]) for name in tried)
        assert found.forwards[i] == 1 + asked + bool(first)  # at first, by the attacks, and to check what they claim
        assert found.backwards[i] == sum(int(each[name].backwards[i]) for name in tried)
        if first:
            assert torch.equal(found.adversarial[i], each[first].adversarial[i])
    assert torch.equal(found.adversarial[~found.success], x[~found.success])
    assert {"clean", "fgsm", ""} <= set(found.broken_by)
    assert found.accuracy_after["pgd"] == (~found.success).double().mean()
    aimed = worst_of(NETWORK, x, labels, attacks={"pgd": find_attack("pgd")}, targets=2, eps=0.1)
    assert torch.equal(labels_of(NETWORK, aimed.adversarial) == 2, aimed.success)


def without_eps(attack: Any, network: nn.Module, x: Tensor, labels: Tensor, *, eps: Tensor, **settings: Any) -> Result:
    found: Result = attack(network, x, labels, **settings)
    return found


def test_claims_are_checked() -> None:
    def boasts(network: nn.Module, x: Tensor, labels: Tensor, **settings: Any) -> Result:
        found = no_attack(network, x, labels, **settings)
        return Result(x, torch.ones(len(x), dtype=torch.bool), found.norm, found.forwards, found.backwards, found.loss)

    found = worst_of(NETWORK, X[:4], LABELS[:4], attacks={"boasts": boasts})
    assert not found.success.any()
    assert found.broken_by == ("",) * 4


def test_noise_and_nothing() -> None:
    noise = torch.randn(3, 8, 8, generator=generator(7), dtype=torch.float64)
    found = gaussian_noise(NETWORK, X, LABELS, std=0.5, seed=7)
    noisy = (X + 0.5 * noise).clamp(0, 1)
    assert torch.equal(found.success, labels_of(NETWORK, noisy) != LABELS)
    torch.testing.assert_close(found.adversarial[found.success], noisy[found.success])
    assert 0 < found.success.sum() < 24
    wrong = (LABELS + (torch.arange(24) % 3 == 0)) % 5
    nothing = no_attack(NETWORK, X, wrong)
    assert torch.equal(nothing.success, wrong != LABELS)
    assert torch.equal(nothing.adversarial, X)
    assert nothing.forwards.tolist() == [1] * 24
    assert torch.equal(no_attack(NETWORK, X, LABELS, targets=2).success, LABELS == 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(universal, norm="l0"), "Could not make a universal perturbation: norm is 'l0'"),
        (partial(universal, unseen=(X[:, :, :4], LABELS)), "Could not make a universal perturbation"),
        (partial(adversarial_patch, target=1, scales=(0.5, 0.2)), "rising shares"),
        (partial(adversarial_patch, target=9), "9"),
        (partial(worst_of, attacks={}), "expected at least one"),
        (partial(worst_of, attacks={"clean": no_attack}), "none called 'clean'"),
    ],
)
def test_what_they_refuse(call: Any, message: str) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5)).double().eval()
    with pytest.raises(SaccadeError, match=message):
        call(network, X, LABELS)
