"""Mistakes that attack libraries are known for, each by a name. Those of a single method are tested with it:

one-hot times logits as a margin: `test_cw_is_unmoved_by_a_shift_of_all_logits`; pixels stuck at 0 and 1:
`test_cw_changes_pictures_of_zeros_and_ones`; early stops by the sum over a batch:
`test_cw_of_a_picture_does_not_depend_on_the_batch`; an AutoAttack of other attacks:
`test_autoattack_is_made_of_the_published_attacks`; views of strided gradients:
`test_fab_takes_gradients_that_do_not_lie_in_the_usual_order`, and of AutoAttack; targets of other rows:
`test_fab_toward_targets_keeps_to_each_pictures_own_target`; targets fled from:
`test_targets_are_reached_not_fled_from`; a picture changed in place:
`test_ead_leaves_the_pictures_alone_and_takes_any_number_of_steps`; failures that are black pictures:
`test_cw_returns_the_original_where_it_fails`; a ball that nothing is projected onto:
`test_l2_points_are_projected_onto_their_ball`; too few classes: `test_autoattack_takes_fewer_than_ten_classes`;
tracing turned off: `test_autoattack_leaves_tracing_alone`; three channels or ten classes alone:
`test_takes_any_number_of_channels`, `test_jsma_takes_any_number_of_classes_and_channels`.
"""

import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear, sizes
from torch import Tensor, nn

from saccade.attack import ATTACKS, find_attack, linear_attack, pgd
from saccade.attack.evaluate import evaluate, parts
from saccade.attack.evaluate.export8 import to_8bit
from saccade.engine.checkpoint import save_checkpoint
from saccade.errors import SaccadeError
from saccade.networks import Network

SMALL = {"steps": 3, "searches": 2, "queries": 10, "samples": 4, "population": 6, "restarts": 1, "tries": 2}
SMALL |= {"angles": 2, "inner": 3}
EVERY = [name for name in ATTACKS if name != "linear"]  # which is for linear networks
X = draw(4, 3, 8, 8)


def small(name: str) -> dict[str, Any]:
    known = inspect.signature(ATTACKS[name].function).parameters
    return {key: value for key, value in SMALL.items() if key in known}


class Stop(Exception):
    pass


class Failing(nn.Module):
    """A network that raises at a pass, and has layers whose state an attack must not touch."""

    def __init__(self, fails: int) -> None:
        super().__init__()
        self.inner, self.fails, self.count = conv_net(), fails, 0
        self.inner[0].weight.requires_grad_(False)
        self.inner[-1].bias.grad = torch.ones_like(self.inner[-1].bias)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        if self.count == self.fails:
            raise Stop
        scores: Tensor = self.inner(x)
        return scores

    def state(self) -> list[Any]:
        found: list[Any] = [layer.training for layer in self.modules()]
        for value in self.parameters():
            found += [value.requires_grad, None if value.grad is None else value.grad.tolist(), value.tolist()]
        return found + [value.tolist() for value in self.buffers()]


@pytest.mark.parametrize("name", EVERY)
def test_no_attack_touches_modes_statistics_gradients_or_the_random_state_even_when_it_fails(name: str) -> None:
    """torchattacks puts the whole network in train mode afterwards, so that batch norm drifts, and nothing is put back
    after an error; several attacks add to the gradients of the weights, reseed everything, or need gradients on."""
    labels, before = labels_of(conv_net(), X), Failing(0).state()
    for fails in (0, 4):
        network, random = Failing(fails), torch.get_rng_state()
        with torch.no_grad(), suppress(Stop):
            ATTACKS[name](network, X, labels, **small(name))
            assert not fails or network.count < fails  # it was done before
        assert network.state() == before
        assert torch.equal(torch.get_rng_state(), random)
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", EVERY)
def test_every_attack_takes_targets_or_says_that_it_has_none(name: str) -> None:
    """torchattacks: NotImplementedError of LGV for targets by label, UnboundLocalError for a kind of noise."""
    network = conv_net()
    labels = labels_of(network, X)
    targets = (labels + 1) % 5
    if not ATTACKS[name].targeted:
        with pytest.raises(SaccadeError, match="has no setting 'targets'"):
            ATTACKS[name](network, X, labels, targets=targets)
        return
    found = ATTACKS[name](network, X, labels, targets=targets, **small(name))
    assert torch.equal(labels_of(network, found.adversarial) == targets, found.success)
    assert torch.equal(found.adversarial[~found.success], X[~found.success])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_distances_are_of_pixels_and_not_of_what_the_network_makes_of_them(norm: str) -> None:
    """torchattacks reports the L2 distance of normalised pictures, four to five times too long."""
    network = Network(conv_net().float(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)).eval()
    x = X.float()
    found = pgd(network, x, labels_of(network, x), norm=norm, eps={"linf": 0.2, "l2": 2.0, "l1": 30.0}[norm])
    assert found.success.any()
    torch.testing.assert_close(found.norm.double(), sizes(found.adversarial.double() - x.double(), norm))
    judged = evaluate(network, x, labels_of(network, x), suite=["pgd"], norm=norm, eps=2.0, curve=False, checked=0)
    change = judged.adversarial.double() - x.double()
    torch.testing.assert_close(judged.norm.double(), sizes(change, norm), rtol=1e-5, atol=1e-9)


def test_files_hold_the_nearest_levels() -> None:
    """Cut off instead of rounded, most values of a picture become a level darker."""
    x = torch.full((1, 3, 1, 2), 100 / 255)
    z = x + torch.tensor([0.6, -0.6]).view(1, 1, 1, 2) / 255
    levels = (to_8bit(x, z, norm="linf", eps=8 / 255) * 255).round()
    assert levels[0, 0, 0].tolist() == [101, 99]


def test_what_an_evaluation_keeps_is_written_once_and_not_again_with_every_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchattacks writes the whole growing file for each batch: quadratic in the pictures."""
    written: list[int] = []

    def note(path: Path, state: Any) -> None:
        save_checkpoint(path, state)
        written.append(path.stat().st_size)

    monkeypatch.setattr(parts, "save_checkpoint", note)
    monkeypatch.setattr(sys.modules["saccade.attack.evaluate.evaluate"], "PART", 4)
    network, sums = conv_net(), []
    for count in (8, 32):
        x = draw(count, 3, 8, 8)
        written.clear()
        evaluate(
            network, x, labels_of(network, x), suite=["fgsm"], curve=False, checked=0, folder=tmp_path / str(count)
        )
        sums.append(sum(written))
    assert sums[1] == pytest.approx(4 * sums[0], rel=0.1)


@pytest.mark.parametrize("name", ["pgd", "bim", "mi-fgsm", "ni-fgsm", "vmi-fgsm", "apgd-ce"])
def test_a_network_that_is_very_certain_is_fooled_as_often_as_it_can_be(name: str) -> None:
    """Cross entropy in float32 has no slope there: PGD of torchattacks succeeds with 17 % instead of 77 %, APGD with
    8 %, and momentum divides 0 by 0 and stays where it is."""
    plain, x = linear(10), draw(40, 3, 4, 4).float()
    network = Linear(plain.weight.detach(), plain.bias.detach(), scale=1000.0).float()
    labels = labels_of(network, x)
    attack, eps = find_attack(name), 0.02
    sure = linear_attack(network, x, labels, eps=eps * 0.98).success
    never = ~linear_attack(network, x, labels, eps=eps * 1.0001).success
    assert 10 < sure.sum() < 37
    found = attack(network, x, labels, eps=eps, steps=20)
    assert not (found.success & never).any()
    assert (sure & ~found.success).sum() <= 1
    assert network(x).softmax(1).amax(1).median() == 1  # to the last bit


@pytest.mark.parametrize("attack", [pgd, find_attack("apgd-t").set(steps=20)])
def test_success_is_what_the_given_network_says_of_what_is_given_back(attack: Any) -> None:
    """The AutoAttack of ART asks another estimator than the one it was told to verify with."""

    class Grey(nn.Module):
        """What stands around a network belongs to it."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = conv_net()
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.inner(x.mean(1, keepdim=True).expand(-1, 3, -1, -1))
            return scores

    network, x = Grey(), draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    found = attack(network, x, labels, eps=0.02)
    assert 0 < found.success.sum() < 6
    assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
    assert not torch.equal(labels_of(network.inner, found.adversarial) != labels, found.success)


def test_no_pass_is_made_for_a_success_rate() -> None:
    """ART asks about all pictures once more, only to log it; here nobody is asked about who was fooled already."""
    network, x = conv_net(), draw(12, 3, 8, 8)
    labels = labels_of(network, x)
    passes = 0

    def count(layer: nn.Module, given: Any, output: Tensor) -> None:
        nonlocal passes
        passes += len(output)

    network.register_forward_hook(count)
    found = pgd(network, x, labels, eps=0.02, steps=5)
    assert 0 < found.success.sum() < 12
    assert passes == found.forwards.sum() + 4  # two pictures twice, whether the network is deterministic
    assert (found.forwards[~found.success] == 1 + 5 + 1).all()
