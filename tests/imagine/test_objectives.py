"""Objectives by hand, their algebra, and how the network is run for them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from saccade.errors import SaccadeError
from saccade.imagine import (
    Alignment,
    Channel,
    Class,
    Direction,
    Diversity,
    FeatureMatch,
    Interpolation,
    Layer,
    Neuron,
    Objective,
)
from saccade.networks import Network, winograd
from saccade.networks.activations import activations

LAYER = "stage2.unit1"
PARTS = {
    "class": Class(["dog", "owl", "cat", "dog"]),
    "channel": Channel(LAYER, [1, 0, 2, 1]),
    "neuron": Neuron("stage1", 2, (1, 3)),
    "direction": Direction(LAYER, torch.tensor([1.0, -2, 0, 3, 0, 0.5])),
    "layer": Layer("stem"),
    "match": FeatureMatch("stage1", torch.ones(1, 4, 8, 10)),
    "diversity": Diversity("stage2.unit2"),
    "alignment": Alignment(LAYER),
    "interpolation": Interpolation(Class(0), Channel(LAYER, 1)),
}


def four() -> Tensor:
    return torch.rand(4, 3, 16, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def outputs(network: Network) -> dict[str, Tensor]:
    network.eval().requires_grad_(False)
    return activations(network, four(), ["stem", "stage1", LAYER, "stage2.unit2", ""])


def test_classes_channels_and_neurons_by_hand(network, outputs):
    x, rows = four(), torch.arange(4)
    torch.testing.assert_close(Class("owl").of(network)(x), network(x)[:, 2])
    torch.testing.assert_close(PARTS["class"].of(network)(x), network(x)[rows, [1, 2, 0, 1]])
    torch.testing.assert_close(Channel("stem", 1).of(network)(x), outputs["stem"][:, 1].mean((1, 2)))
    torch.testing.assert_close(PARTS["channel"].of(network)(x), outputs[LAYER][rows, [1, 0, 2, 1]].mean((1, 2)))
    torch.testing.assert_close(PARTS["neuron"].of(network)(x), outputs["stage1"][:, 2, 1, 3])
    torch.testing.assert_close(Neuron("stage1", 2).of(network)(x), outputs["stage1"][:, 2, 4, 5])  # of 8 x 10
    torch.testing.assert_close(Channel("classifier", 1).of(network)(x), network(x)[:, 1])
    torch.testing.assert_close(Neuron("classifier", 1).of(network)(x), network(x)[:, 1])


def test_directions_layers_and_features_by_hand(network, outputs):
    x = four()
    along = (outputs[LAYER] * torch.tensor([1.0, -2, 0, 3, 0, 0.5])[:, None, None]).sum(1).mean((1, 2))
    torch.testing.assert_close(PARTS["direction"].of(network)(x), along)
    each = torch.eye(6)[[1, 0, 2, 1]]
    torch.testing.assert_close(Direction(LAYER, each).of(network)(x), PARTS["channel"].of(network)(x))
    torch.testing.assert_close(PARTS["layer"].of(network)(x), (outputs["stem"] ** 2).mean((1, 2, 3)))
    expected = -((outputs["stage1"] - 1) ** 2).sum((1, 2, 3)) / (4 * 80)
    torch.testing.assert_close(PARTS["match"].of(network)(x), expected)
    own = FeatureMatch("stage1", outputs["stage1"]).of(network)(x)
    torch.testing.assert_close(own, torch.zeros(4, dtype=torch.float64))


def test_objectives_that_couple_pictures_by_hand(network, outputs):
    x = four()
    deep = outputs["stage2.unit2"].flatten(2)
    grams = torch.stack([(d @ d.T).flatten() for d in deep])
    for i, found in enumerate(Diversity("stage2.unit2").of(network)(x)):
        others = [cosine_similarity(grams[i], grams[j], dim=0) for j in range(4) if j != i]
        torch.testing.assert_close(found, 1 - sum(others) / 3)
    same = x[:1].expand(4, -1, -1, -1)
    assert Diversity("stage2.unit2").of(network)(same).abs().max() < 1e-12
    assert Diversity("stage2.unit2").of(network)(x[:1]).item() == 1
    flat = outputs[LAYER].flatten(1)
    for i, found in enumerate(Alignment(LAYER, reach=2).of(network)(x)):
        near = [(abs(i - j), ((flat[i] - flat[j]) ** 2).mean()) for j in range(4) if 0 < abs(i - j) <= 2]
        torch.testing.assert_close(found, -sum(distance / 2**away for away, distance in near))
    first, last = Class(0).of(network)(x), Channel(LAYER, 1).of(network)(x)
    part = torch.tensor([0, 1 / 3, 2 / 3, 1], dtype=torch.float64)
    torch.testing.assert_close(PARTS["interpolation"].of(network)(x), (1 - part) * first + part * last)


def test_sums_differences_and_multiples_are_those_of_the_parts(network):
    x = four()
    values = {name: part.of(network)(x) for name, part in PARTS.items()}
    whole = Class("cat") * 0
    expected = torch.zeros(4, dtype=torch.float64)
    for k, (name, part) in enumerate(PARTS.items()):
        whole = whole + (k + 1) * part if k % 2 else whole - part * (k + 1)
        expected = expected + (k + 1) * values[name] * (1 if k % 2 else -1)
    torch.testing.assert_close(whole.of(network)(x), expected)
    torch.testing.assert_close((-(PARTS["layer"] - PARTS["class"])).of(network)(x), values["class"] - values["layer"])
    dark = lambda p: p.flatten(1).mean(1)  # noqa: E731
    for some in (PARTS["class"] - dark, PARTS["class"] + (-1 * (dark + 0 * PARTS["layer"]))):
        torch.testing.assert_close(some.of(network)(x), values["class"] - dark(x))
    torch.testing.assert_close((dark - PARTS["class"]).of(network)(x), dark(x) - values["class"])
    assert whole.coupled
    assert not (PARTS["class"] + PARTS["layer"]).coupled


@pytest.mark.parametrize("name", list(PARTS))
@pytest.mark.parametrize(("size", "runs"), [(None, 1), (1, 1), (3, 1), (None, 100), (3, 100)])
def test_gradients_are_those_of_a_plain_call_also_in_parts(network, name, size, runs, monkeypatch):
    """Also where the network is learnt for many runs, and all its convolutions are wide enough for Winograd's."""
    monkeypatch.setattr(winograd, "WIDE", {False: 2, True: 2})
    monkeypatch.setattr(winograd, "onednn_is_far_faster", lambda: False)
    network.eval().requires_grad_(False)
    part = 0.5 * PARTS[name] + Layer("stage1")
    x = four().requires_grad_()
    score = part.of(network, rows_at_once=size, runs=runs)(x)
    (found,) = torch.autograd.grad((torch.arange(1.0, 5.0) * score).sum(), x)
    plain = four().requires_grad_()
    outputs = activations(network, plain, sorted(part.layers))
    from saccade.imagine.objectives import Seen

    expected = part.read(Seen(network, plain, outputs, torch.arange(4), 4))
    torch.testing.assert_close(score, expected)
    (slope,) = torch.autograd.grad((torch.arange(1.0, 5.0) * expected).sum(), plain)
    torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-12)
    assert slope.abs().max() > 1e-4


def test_one_forward_that_stops_at_the_deepest_layer(network):
    network.eval().requires_grad_(False)
    ran: list[str] = []
    for name in ("stem", "stage1", "stage2.unit1", "stage2.unit2", "classifier"):
        network.layer(name).register_forward_hook(lambda layer, given, out, name=name: ran.append(name))
    x = four().requires_grad_()
    (Channel("stem", 0) + Layer("stage1") - 2 * Neuron("stem", 1)).of(network)(x)
    assert ran == ["stem", "stage1"]
    ran.clear()
    (Channel("stem", 0) + Class("cat") - Class("dog")).of(network)(x)
    assert ran == ["stem", "stage1", "stage2.unit1", "stage2.unit2", "classifier"]
    ran.clear()
    (Channel("stem", 0) + Layer("stage1")).of(network, rows_at_once=2)(x)
    assert ran == ["stem", "stage1"] * 2


def test_a_unit_that_is_off_gets_a_gradient_if_wished():
    first = nn.Conv2d(3, 2, 1)
    first.weight.data = torch.tensor([[1.0, 2, 3], [1, -1, 0]]).view(2, 3, 1, 1)
    first.bias.data = torch.tensor([-100.0, 100.0])  # channel 0 is off everywhere, channel 1 on
    network = nn.Sequential(first, nn.ReLU())
    network.requires_grad_(False)
    x = torch.rand(2, 3, 2, 2).requires_grad_()
    off = Channel("1", [0, 1])
    (plain,) = torch.autograd.grad(off.of(network)(x).sum(), x)
    (woken,) = torch.autograd.grad(off.of(network, wake=True)(x).sum(), x)
    assert (plain[0] == 0).all()
    torch.testing.assert_close(woken[0], (torch.tensor([1.0, 2, 3]) / 4).view(3, 1, 1).expand(3, 2, 2))
    assert torch.equal(woken[1], plain[1])
    assert plain[1].any()


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Class("bird"), "no class named 'bird'"),
        (Class(3), "no class 3"),
        (Class([0, 1]), "2 targets were given for 4"),
        (Channel("stage9", 0), "no layer 'stage9'"),
        (Channel(LAYER, 6), "stage2.unit1 has no channel 6: it has 6"),
        (Channel(LAYER, [0, 1]), "2 channels were given for 4"),
        (Neuron(LAYER, 0, (4, 0)), "no place"),
        (Neuron("classifier", 0, (0, 0)), "have no place"),
        (Direction(LAYER, torch.ones(5)), "a number for each of 6"),
        (FeatureMatch(LAYER, torch.ones(1, 6, 3, 3)), "of the size of the photograph"),
    ],
)
def test_says_what_is_wrong(network: Network, objective: Objective, message: str):
    with pytest.raises(SaccadeError, match=message):
        objective.of(network.eval())(four())


def test_refuses_what_is_no_objective(network):
    with pytest.raises(SaccadeError, match="5 is no objective"):
        Class(0) + 5
    with pytest.raises(TypeError):
        Class(0) * Class(1)
    with pytest.raises(SaccadeError, match="expected scores"):
        Class(0).of(nn.Conv2d(3, 4, 3).double())(four())
