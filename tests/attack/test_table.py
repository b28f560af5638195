"""Every attack of the table by its name, as a user calls it."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from saccade.attack import ATTACKS, find_attack

SMALL = {
    "steps": 5,
    "searches": 2,
    "queries": 20,
    "samples": 5,
    "population": 8,
    "restarts": 1,
    "tries": 3,
    "angles": 3,
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 12)).double().eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_by_its_name(name: str, network: nn.Module, pictures: Tensor) -> None:
    attack = find_attack(name)
    known = inspect.signature(attack.function).parameters
    assert attack.settings.keys() <= known.keys()
    if attack.targeted:
        assert "targets" in known
    if len(attack.norms) > 1:
        assert "norm" in known
    if name == "linear":
        return  # for linear networks alone, tested with them
    settings = {key: value for key, value in SMALL.items() if key in known}
    labels = network(pictures).argmax(1).detach()
    wrong = labels.clone()
    wrong[3] = (labels[3] + 1) % 12
    found = attack(network, pictures, wrong, **settings)
    said = network(found.adversarial).argmax(1)
    assert torch.equal(found.success, said != wrong)
    assert found.success[3]
    assert torch.equal(found.adversarial[~found.success], pictures[~found.success])
    assert torch.equal(found.adversarial[3], pictures[3])  # it was wrong before
    assert (found.norm[~found.success] == 0).all()
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    assert (found.forwards >= 1).all()
