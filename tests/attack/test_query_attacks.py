"""What holds of every attack that only asks the network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, sizes
from torch import Tensor, nn

from saccade.attack import Result
from saccade.attack.boundary import boundary
from saccade.attack.hop_skip_jump import hop_skip_jump
from saccade.attack.noise import gaussian_noise
from saccade.attack.one_pixel import one_pixel
from saccade.attack.pixle import pixle
from saccade.attack.simba import simba
from saccade.attack.spatial import spatial
from saccade.attack.spsa import nes, spsa
from saccade.errors import SaccadeError

X = draw(8, 3, 8, 8)
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)
LABELS[5] = (LABELS[5] + 1) % 5  # wrong before
RUNNERS_UP = NETWORK(X).topk(2, dim=1).indices[:, 1]
RUNNERS_UP[5] = LABELS[5]

ATTACKS: dict[str, tuple[Callable[..., Result], str, dict[str, Any], dict[str, Any]]] = {
    "spsa": (spsa, "linf", {"eps": 0.04, "steps": 6, "samples": 12}, {"eps": 1e-4}),
    "spsa-l2": (spsa, "l2", {"norm": "l2", "eps": 0.5, "steps": 6, "samples": 12}, {"eps": 1e-4}),
    "nes": (nes, "linf", {"eps": 0.08, "steps": 8, "samples": 12, "stride": 0.3}, {"eps": 1e-4}),
    "one-pixel": (one_pixel, "l0", {"pixels": 2, "steps": 3, "population": 15}, {}),
    "simba": (simba, "l2", {"steps": 40}, {"stride": 1e-6}),
    "simba-dct": (simba, "l2", {"steps": 40, "basis": "dct", "frequencies": 0.6}, {"stride": 1e-6}),
    "spatial": (spatial, "l2", {"angles": 5, "shifts": 3}, {"degrees": 1e-5, "shift": 0.0}),
    "spatial-random": (spatial, "l2", {"tries": 12}, {"degrees": 1e-5, "shift": 0.0}),
    "hop-skip-jump": (hop_skip_jump, "l2", {"steps": 3, "samples": 20}, {"noises": 0}),
    "hop-skip-jump-linf": (hop_skip_jump, "linf", {"steps": 3, "samples": 20, "norm": "linf"}, {"noises": 0}),
    "boundary": (boundary, "l2", {"steps": 30}, {"noises": 0}),
    "pixle": (pixle, "l0", {"restarts": 4, "tries": 5, "sides": (2, 4)}, {"restarts": 0}),
    "noise": (gaussian_noise, "l2", {"std": 0.4}, {"std": 1e-6}),
}
WEAK = {name for name, (*_, weak) in ATTACKS.items() if weak}


def run(name: str, rows: Tensor | slice = slice(None), on: nn.Module = NETWORK, **settings: Any) -> Result:
    attack, _, own, _ = ATTACKS[name]
    return attack(on, X[rows], LABELS[rows], **{**own, **settings})


class Counted(nn.Module):
    """Counts the pictures it is given, and the largest batch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.largest = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.count, self.largest = self.count + len(x), max(self.largest, len(x))
        said: Tensor = NETWORK(x)
        return said


@pytest.mark.parametrize("name", list(ATTACKS))
def test_what_is_found_is_what_is_said_of_it_and_every_query_is_counted(name: str) -> None:
    given, state, counted = X.clone(), torch.random.get_rng_state(), Counted()
    found = run(name, on=counted)
    assert torch.equal(X, given)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.adversarial.dtype == X.dtype
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    assert torch.equal(labels_of(NETWORK, found.adversarial) != LABELS, found.success)
    torch.testing.assert_close(found.norm, sizes(found.adversarial - X, ATTACKS[name][1]))
    assert torch.equal(found.adversarial[~found.success], X[~found.success])
    assert found.success[5]
    assert torch.equal(found.adversarial[5], X[5])
    assert found.forwards[5] == 1
    assert not found.backwards.any()
    assert found.success.sum() >= 3
    assert counted.count == found.forwards.sum() + 4  # two pictures twice, whether the network is deterministic
    if "eps" in ATTACKS[name][2]:
        assert (found.norm <= ATTACKS[name][2]["eps"] * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", list(ATTACKS))
def test_nothing_depends_on_who_else_is_there(name: str) -> None:
    found = run(name)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    for rows, batch in ((order, None), (order[:1], None), (order[1:2], 1), (torch.arange(8), 3)):
        other = run(name, rows, batch_size=batch)
        assert torch.equal(other.success, found.success[rows])
        assert torch.equal(other.forwards, found.forwards[rows])
        torch.testing.assert_close(other.adversarial, found.adversarial[rows])
        torch.testing.assert_close(other.loss, found.loss[rows])
    again = run(name)
    assert torch.equal(again.adversarial, found.adversarial)
    if name != "spatial":
        assert not torch.equal(run(name, seed=1).loss, found.loss)
    counted = Counted()
    run(name, slice(1), on=counted, batch_size=4)
    assert counted.largest <= 4


@pytest.mark.parametrize("name", list(ATTACKS))
def test_targets(name: str) -> None:
    attack, _, own, _ = ATTACKS[name]
    settings = {**own, "eps": 3 * own["eps"]} if "eps" in own else own
    found = attack(NETWORK, X, LABELS, targets=RUNNERS_UP, **settings)
    assert torch.equal(labels_of(NETWORK, found.adversarial) == RUNNERS_UP, found.success)
    assert found.success.sum() >= (0 if name == "noise" else 2)
    assert torch.equal(found.adversarial[~found.success], X[~found.success])


@pytest.mark.parametrize("name", sorted(WEAK))
def test_what_fails_is_the_original(name: str) -> None:
    found = run(name, **ATTACKS[name][3])
    assert found.success.tolist() == [i == 5 for i in range(8)]
    assert torch.equal(found.adversarial, X)
    assert not found.norm.any()


@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.startswith("spatial")])
def test_masks(name: str) -> None:
    mask = torch.zeros(8, 8)
    mask[1:7, 2:8] = 1
    own = ATTACKS[name][2]
    found = run(name, mask=mask, **({"eps": 3 * own["eps"]} if "eps" in own else {}))
    assert not ((found.adversarial != X) & (mask == 0)).any()
    assert found.success.sum() >= 2


@pytest.mark.parametrize("name", list(ATTACKS))
def test_they_take_networks_without_a_gradient_and_pictures_of_any_shape(name: str) -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            halves = (30 * x).round().sum((1, 3))
            return torch.stack([halves[:, :2].sum(1), halves[:, 3:].sum(1) + 0.5], 1)

    network, x = Rounded().eval(), draw(6, 2, 5, 9, seed=1).float()
    attack, _, own, _ = ATTACKS[name]
    labels = labels_of(network, x)
    settings = {**own, "eps": 10 * own["eps"]} if "eps" in own else own
    found = attack(network, x, labels, **settings)
    assert found.adversarial.dtype == torch.float32
    assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
    assert attack(network, x[:1], 1 - labels[:1], **own).forwards.item() == 1  # nothing is left to attack


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spsa", {"samples": 0}, "Could not attack with SPSA: samples, delta and the size of a step are 0"),
        ("spsa", {"norm": "l3"}, "norm is 'l3'"),
        ("nes", {"delta": 0.0}, "Could not attack with NES"),
        ("one-pixel", {"population": 3}, "pixels and population are 2 and 3"),
        ("simba", {"basis": "wavelet"}, "expected 'pixel' or 'dct'"),
        ("spatial", {"shift": 1.0}, "shift is 1.0"),
        ("hop-skip-jump", {"norm": "l1"}, "expected 'l2' or 'linf'"),
        ("hop-skip-jump", {"starts": X[:3]}, "starts are"),
        ("boundary", {"closer": 1.0}, "shares between 0 and 1"),
        ("pixle", {"sides": (4, 2)}, "two rising numbers"),
        ("noise", {"std": -1.0}, "std is -1.0"),
    ],
)
def test_what_they_refuse(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        run(name, **settings)
