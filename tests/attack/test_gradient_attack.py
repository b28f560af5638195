"""What holds of every attack of the table, and what the loop promises."""

from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack import ATTACKS, PGD, Attack, find_attack, linear_attack, pgd
from saccade.attack.balls import Norm
from saccade.attack.gradient_attack import EPS, STARTS, gradient_attack
from saccade.attack.views import Repeats
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

FAMILY = {name: attack for name, attack in ATTACKS.items() if attack.function is gradient_attack}
BUDGETED = {**FAMILY, "linear": ATTACKS["linear"]}
EVERY = [(name, attack.norms[0]) for name, attack in BUDGETED.items()]
EVERY += [("pgd", "l2"), ("pgd", "l1"), ("vni-fgsm", "l2"), ("linear", "l2"), ("linear", "l1")]
ORDER = {"linf": float("inf"), "l2": 2, "l1": 1}
X = draw(12, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)


def size(change: Tensor, norm: Norm) -> Tensor:
    return torch.linalg.vector_norm(change.double().flatten(1), ORDER[norm], dim=1)


def near_labels(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the network says first and second."""
    with torch.no_grad():
        first, second = network(x).topk(2, dim=1).indices.T
    return first, second


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_keeps_its_promises(name: str, norm: Norm) -> None:
    attack = ATTACKS[name]
    network = linear(5, (3, 8, 8)) if name == "linear" else NETWORK
    x = X.clone()
    x[:4] = (x[:4] > 0.5).double()  # black and white: no pixel is out of reach
    labels = labels_of(network, x)
    labels[5] = (labels[5] + 1) % 5
    x = x.float()
    network = (linear(5, (3, 8, 8)) if name == "linear" else conv_net()).float()
    eps = torch.linspace(0.02, 0.3, 12) * {"linf": 1, "l2": 6, "l1": 60}[norm]

    def run(rows: Tensor, **settings: Any) -> Any:
        return attack(network, x[rows], labels[rows], norm=norm, **{"eps": eps[rows], **settings})

    everyone = torch.arange(12)
    found = run(everyone)
    assert found.adversarial.shape == x.shape
    assert found.adversarial.dtype == torch.float32
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    distances = size(found.adversarial.double() - x.double(), norm)
    assert (distances <= eps.double() * (1 + 1e-6)).all()
    torch.testing.assert_close(found.norm, distances.float(), rtol=1e-5, atol=1e-9)
    said = labels_of(network, found.adversarial)
    assert torch.equal(said != labels, found.success)
    assert torch.equal(found.adversarial[~found.success], x[~found.success])
    assert found.norm[5] == 0
    assert found.success[5]
    assert found.success.sum() > 3
    again = run(everyone, batch_size=5)
    order = torch.randperm(12, generator=generator(1))
    shuffled = run(order)
    alone = run(everyone[7:8])
    for other, rows in (
        (again, everyone),
        (shuffled, order),
        (alone, everyone[7:8]),
    ):  # nothing depends on who else is there
        assert torch.equal(other.success, found.success[rows])
        assert torch.equal(other.forwards, found.forwards[rows])
        off = (other.adversarial - found.adversarial[rows]).abs().flatten(1)
        assert (off > 1e-3).double().mean() < 0.01  # rounding may turn the sign of a slope that is nearly zero
    nothing = run(everyone, eps=0.0)
    assert torch.equal(nothing.success, labels_of(network, x) != labels)
    assert torch.equal(nothing.adversarial, x)
    mask = torch.zeros(8, 8)
    mask[2:6, 3:8] = 1
    region = run(everyone, mask=mask, eps=2 * eps)
    assert not ((region.adversarial != x) & (mask == 0)).any()
    assert region.success.sum() > 1


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norm in EVERY if ATTACKS[name].targeted])
def test_hits_its_targets(name: str, norm: Norm) -> None:
    """torchattacks' SPSA pushes to the label, its FAB to the targets of other rows where some were wrong before."""
    coarse = F.interpolate(
        draw(5, 3, 3, 3) - 0.5, size=(8, 8), mode="bilinear"
    )  # survives the smoothing of some attacks
    network = Linear(coarse, -coarse.flatten(1).sum(1) / 2)
    labels, targets = near_labels(network, X)
    labels[:3] = (targets[:3] + 1) % 5  # wrong before, but not the target
    eps = {"linf": 0.5, "l2": 5.0, "l1": 60.0}[norm]
    found = ATTACKS[name](network, X, labels, targets=targets, norm=norm, eps=eps)
    assert torch.equal(labels_of(network, found.adversarial) == targets, found.success)
    assert found.success.sum() >= 9
    one = ATTACKS[name](network, X[:2], labels[:2], targets=3, norm=norm, eps=eps)
    assert torch.equal(labels_of(network, one.adversarial) == 3, one.success)


@pytest.mark.parametrize("name", list(FAMILY))
def test_the_seed_decides(name: str) -> None:
    settings = FAMILY[name].settings
    drawn = settings.get("start", "random") != "picture" or settings.get("neighbours") or "di" in name.split("-")[:2]
    drawn = bool(drawn or name in ("pgd-rs", "ti-dim"))
    runs = [FAMILY[name](NETWORK, X, LABELS, eps=0.2, seed=seed).adversarial for seed in (0, 0, 1, 2)]
    if FAMILY[name].norms != ("linf",) and settings.get("norm"):
        runs = [FAMILY[name](NETWORK, X, LABELS, eps=5.0, seed=seed).adversarial for seed in (0, 0, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert (torch.equal(runs[0], runs[2]) and torch.equal(runs[0], runs[3])) != drawn


def test_more_budget_more_steps_and_more_starts_never_lose_a_success() -> None:
    before = torch.zeros(12, dtype=torch.bool)
    for steps in (1, 2, 5, 20):
        now = pgd(NETWORK, X, LABELS, eps=0.02, alpha=0.002, steps=steps).success
        assert not (before & ~now).any()
        before = now
    assert 0 < before.sum() < 12
    for restarts in (2, 5):
        now = pgd(NETWORK, X, LABELS, eps=0.02, alpha=0.002, steps=20, restarts=restarts).success
        assert not (before & ~now).any()
        before = now
    network, exact = linear(2), torch.zeros(40, dtype=torch.bool)
    x = draw(40, 3, 4, 4)
    for eps in (0.0, 0.01, 0.02, 0.05, 0.5):
        now = pgd(network, x, labels_of(network, x), eps=eps).success
        assert not (exact & ~now).any()
        exact = now
    assert exact.all()


def test_restarts_are_for_those_that_are_left() -> None:
    found = pgd(NETWORK, X, LABELS, eps=0.015, steps=4, restarts=3)
    alone = pgd(NETWORK, X, LABELS, eps=0.015, steps=4)
    early = alone.success
    assert early.any()
    assert (found.forwards[early] == alone.forwards[early]).all()
    left = ~found.success
    assert left.any()
    assert (found.forwards[left] == 1 + 3 * 5).all()


def test_leaving_early_changes_no_outcome_and_saves_passes() -> None:
    early = pgd(NETWORK, X, LABELS, eps=0.1)
    whole = pgd(NETWORK, X, LABELS, eps=0.1, stop=False)
    assert not (whole.success & ~early.success).any()
    assert early.success.any()
    assert (early.forwards[early.success] < 12).any()
    assert (whole.forwards == 12).all()
    assert (whole.loss[whole.success] >= early.loss[whole.success]).all()
    for name in ("ni-fgsm", "si-ni-fgsm", "vmi-fgsm"):  # asks at the point itself too
        stopped = ATTACKS[name](NETWORK, X, LABELS, eps=0.1, stop=True)
        assert torch.equal(labels_of(NETWORK, stopped.adversarial) != LABELS, stopped.success)
        assert stopped.norm[stopped.success].max() <= 0.1 * (1 + 1e-6)
        assert stopped.success.sum() >= early.success.sum() - 1


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", ["ti-mi-fgsm", "pi-fgsm", "di-fgsm", "pgd-l2"])
def test_takes_any_number_of_channels(name: str, channels: int) -> None:
    """TIFGSM and PIFGSM of torchattacks take three alone."""
    network = conv_net(channels=channels)
    x = draw(4, channels, 8, 8)
    found = ATTACKS[name](network, x, labels_of(network, x), eps=0.3 if name != "pgd-l2" else 3.0)
    assert found.success.any()


def test_the_expectation_over_a_network_of_chance() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = NETWORK
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            return NETWORK(x + 0.05 * torch.randn_like(x))

    found = ATTACKS["eot-pgd"](Noisy(), X, LABELS, eps=0.3, views=(Repeats(8),))  # and it does not warn
    assert found.success.all()
    assert (found.backwards % 8 == 0).all()


def test_by_name_and_with_settings_of_ones_own() -> None:
    assert find_attack(" MI_FGSM ") is ATTACKS["mi-fgsm"]
    with pytest.raises(SaccadeError, match="no attack 'gan'; there are fgsm, r-fgsm"):
        find_attack("gan")
    mine = PGD(eps=0.1, steps=3)
    assert isinstance(mine, Attack)
    found = mine(NETWORK, X, LABELS)
    expected = pgd(NETWORK, X, LABELS, eps=0.1, steps=3)
    assert torch.equal(found.adversarial, expected.adversarial)
    assert torch.equal(mine(NETWORK, X, LABELS, steps=3, seed=0).adversarial, expected.adversarial)
    assert "eps" not in pgd.settings
    with pytest.raises(SaccadeError, match="PGD has no setting 'epsilon'; it has targets, norm, eps"):
        PGD(epsilon=0.1)
    with pytest.raises(SaccadeError, match="TPGD has no setting 'targets'"):
        ATTACKS["tpgd"](NETWORK, X, LABELS, targets=0)
    with pytest.raises(SaccadeError, match="patchwise is for linf"):
        ATTACKS["pi-fgsm"](NETWORK, X, LABELS, norm="l2")
    with pytest.raises(SaccadeError, match="Could not attack with MI-FGSM: momentum is -1"):
        ATTACKS["mi-fgsm"](NETWORK, X, LABELS, momentum=-1.0)


@pytest.mark.parametrize("attack", BUDGETED.values(), ids=list(BUDGETED))
def test_the_table(attack: Attack) -> None:
    assert ATTACKS[attack.name] is attack
    assert attack.name == attack.name.lower().replace("_", "-").strip()
    assert attack.paper.startswith("arXiv:") or attack.function is linear_attack
    assert attack.norms
    assert set(attack.norms) <= set(EPS)
    assert attack.settings.get("start", "random") in STARTS
    assert attack.set().settings == attack.settings  # all of them are settings of its function
