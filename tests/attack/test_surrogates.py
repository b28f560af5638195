"""Several networks in the place of one."""

import copy

import pytest
import torch
from torch import nn

from saccade.attack import Ensemble, InTurn, find_attack, pgd, vicinity
from saccade.data.images import ImageSet
from saccade.errors import SaccadeError
from saccade.networks import Network, build

NAMES = ("a", "b", "c")


def affine(seed, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, classes)).eval()


def noise(n, seed=0):
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def coloured(count=48):
    """Pictures whose brightest channel is their class."""
    labels = torch.arange(count) % 3
    raw = torch.randint(0, 120, (count, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    raw[torch.arange(count), :, :, labels] += 100
    return ImageSet("coloured", raw, labels, NAMES)


def network(seed=0):
    torch.manual_seed(seed)
    settings = {"num_classes": 3, "widths": (8,), "units": (1,)}
    module = build("tinynet", **settings)
    return Network(module, classes=NAMES, input_size=16, architecture=("tinynet", settings)).eval()


def two_classes():
    return ImageSet("two", coloured(6).take(torch.arange(6))[0], torch.arange(6) % 2, ("a", "b"))


def test_an_ensemble_gives_the_mean_of_the_scores():
    members = [affine(seed) for seed in range(3)]
    x = noise(5)
    torch.testing.assert_close(Ensemble(members)(x), sum(one(x) for one in members) / 3)


def test_fooling_the_mean_of_linear_networks_is_fooling_one_linear_network():
    members, x = [affine(seed) for seed in range(4)], noise(8)
    one = affine(9)
    with torch.no_grad():
        for name in ("weight", "bias"):
            mean = torch.stack([getattr(member[1], name) for member in members]).mean(0)
            getattr(one[1], name).copy_(mean)
    labels = one(x).argmax(1)
    ours, theirs = (pgd(net, x, labels, eps=0.1, steps=5, alpha=0.02) for net in (Ensemble(members), one))
    torch.testing.assert_close(ours.adversarial, theirs.adversarial)
    assert ours.success.any()


def test_in_turn_each_look_with_a_gradient_asks_the_next():
    members, x = [affine(seed) for seed in range(3)], noise(2)
    turns = InTurn(members)
    for look in range(7):
        assert torch.equal(turns(x.requires_grad_()), members[look % 3](x))
        with torch.no_grad():
            torch.testing.assert_close(turns(x), Ensemble(members)(x))


def test_an_attack_on_networks_in_turn_follows_the_gradient_of_each_once():
    """Of linear networks the steps' signs are known: each looks like one FGSM step of its own network."""
    members, x = [affine(seed, classes=2) for seed in range(4)], 0.45 + 0.1 * noise(3)
    with torch.no_grad():
        for member in members:
            member[1].bias -= member(torch.full((1, 3, 4, 4), 0.5))[0]  # undecided on grey
    labels = Ensemble(members)(x).argmax(1)
    way = sum((member[1].weight[1] - member[1].weight[0]).sign() for member in members).view(3, 4, 4)
    way = torch.where(labels.view(3, 1, 1, 1) == 0, way, -way)
    attack = find_attack("bim").set(steps=4, alpha=0.07, eps=0.3, stop=False, loss="margin")
    found = attack(InTurn(members), x, labels)
    assert found.success.all()
    torch.testing.assert_close(found.adversarial, x + 0.07 * way, rtol=0, atol=1e-6)


def test_a_walk_leaves_the_network_alone_and_gives_others_that_still_know_their_classes():
    images, source = coloured(), network()
    before = copy.deepcopy(source.state_dict())
    found = vicinity(source, images, epochs=2, per_epoch=3, lr=0.05, batch_size=8)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert not source.training
    assert len(found) == 6
    assert not any(one.training for one in found)
    weights = [one.module.classifier.weight.detach() for one in found]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    raw, labels = images.take(torch.arange(len(images)))
    right = (found[-1](raw.permute(0, 3, 1, 2).float() / 255).argmax(1) == labels).double().mean()
    assert right > 0.8  # of the untrained source: a third
    again = vicinity(source, images, epochs=2, per_epoch=3, lr=0.05, batch_size=8)
    assert all(torch.equal(a.module.classifier.weight, b) for a, b in zip(again, weights, strict=True))


def test_the_members_of_an_epoch_are_evenly_spaced():
    steps = []
    found = vicinity(network(), coloured(40), epochs=2, per_epoch=2, batch_size=8, callback=lambda row: steps.append(1))
    assert len(steps) == 10
    assert len(found) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ensemble([]), "none was given"),
        (lambda: Ensemble([affine(0), affine(1, classes=4)])(noise(1)), "3, 4 classes, expected as many"),
        (lambda: vicinity(network(), coloured(), epochs=0), "epochs=0"),
        (lambda: vicinity(network(), coloured(), lr=float("nan")), "lr=nan"),
        (lambda: vicinity(network(), coloured(4)), "fewer than one batch of 256"),
        (lambda: vicinity(network(), two_classes()), "two has 2 classes, the network 3"),
    ],
)
def test_bad_arguments_get_one_sentence(call, message):
    with pytest.raises(SaccadeError, match=message):
        call()
