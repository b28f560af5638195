"""Feature pictures, dreams and inversion on small networks."""

import pytest
import torch

from saccade.errors import SaccadeError
from saccade.imagine import Class, Layer, Neuron, Recipe, dream, feature_picture, grow, invert
from saccade.networks.activations import activations
from saccade.pictures.optimise import Box, Moment, Normalised, Pixels, noise


def test_channels_rise_each_in_its_own_picture(network):
    layer, channels = "stage2.unit2", [0, 2, 5, 3]
    moments: list[Moment] = []
    found = feature_picture(network, layer, channels, size=24, steps=80, callback=moments.append)
    assert found.shape == (4, 3, 24, 24)
    seen = torch.stack([moment.score for moment in moments])
    assert (seen[-8:].mean(0) > seen[:8].mean(0) + 0.005).all()
    for i, channel in enumerate(channels):
        alone = feature_picture(network, layer, channel, size=24, steps=80)
        torch.testing.assert_close(alone[0], found[i], rtol=0, atol=1e-9)
    assert moments[-1].step == 80


def test_a_neuron_shapes_its_surroundings_only(network):
    plain = Recipe(3, Normalised(0.5), Pixels(0.5), projections=(Box(-0.5, 0.5),))
    made = noise(Pixels(0.5), (32, 32), spread=0.01, seed=0).double()
    middle = (feature_picture(network, "stage1.unit1", 1, middle=True, size=32, recipe=plain) - made).abs()[0]
    assert middle[:, 12:20, 12:20].max() > 0.05
    assert middle[:, :8].max() == middle[:, :, :8].max() == middle[:, 25:].max() == middle[:, :, 25:].max() == 0
    corner = (grow(network, Neuron("stage1.unit1", 1, (1, 2)), size=32, recipe=plain) - made).abs()[0]
    assert corner[:, :8, :10].max() > 0.05
    assert corner[:, 12:].max() == corner[:, :, 14:].max() == 0


def test_diversity_pushes_variants_apart(network):
    from saccade.imagine import Diversity

    settings = {"variants": 3, "size": 16, "steps": 30}
    measure = Diversity("stage2.unit1").of(network.eval())
    alike = measure(feature_picture(network, "stage2.unit1", 1, **settings)).mean()
    apart = measure(feature_picture(network, "stage2.unit1", 1, diversity=10.0, **settings)).mean()
    assert apart > alike


def test_a_dream_raises_its_layer_and_keeps_the_photograph(network, photographs):
    sizes: list[tuple[int, int]] = []
    network.module.stem.register_forward_hook(lambda layer, given, out: sizes.append(tuple(out.shape[2:])))
    found = dream(network, photographs, "stage2.unit1", steps=3, rate=0.02, octaves=2)
    assert sizes == [(12, 14)] * 3 + [(16, 20)] * 3
    measure = Layer("stage2.unit1").of(network.eval())
    assert (measure(found) > measure(photographs)).all()
    assert 0 < (found - photographs).abs().mean() < 6 * 0.02 * 1.5
    alone = dream(network, photographs[1:], "stage2.unit1", steps=3, rate=0.02, octaves=2)
    torch.testing.assert_close(alone[0], found[1], rtol=0, atol=1e-9)


def test_a_dream_of_the_last_layer_or_of_any_objective(network, photographs):
    last = dream(network, photographs, steps=1, octaves=1)
    assert torch.equal(last, dream(network, photographs, "stage2", steps=1, octaves=1))
    owls = dream(network, photographs, Class("owl"), steps=4, octaves=1)
    network.eval()
    assert (network(owls)[:, 2] > network(photographs)[:, 2]).all()


def test_one_step_of_a_dream_has_its_mean_length(network, photographs):
    inside = 0.4 + 0.2 * photographs
    found = dream(network, inside, "stage1", steps=1, rate=0.01, octaves=1)
    torch.testing.assert_close((found - inside).abs().mean((1, 2, 3)), torch.full((2,), 0.01, dtype=torch.float64))


def test_inversion_of_an_invertible_layer_gives_the_photograph(photographs):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 8, 1).double()  # eight mixtures of three colours: nothing is lost
    network = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(8 * 320, 2).double())
    found = invert(network, photographs, "0", alpha_weight=0.0, tv_weight=0.0, steps=250)
    torch.testing.assert_close(found, photographs, rtol=0, atol=2e-3)
    smooth = invert(network, photographs, "0", alpha_weight=0.0, tv_weight=10.0, steps=250)
    assert smooth.diff(dim=3).abs().mean() < 0.5 * photographs.diff(dim=3).abs().mean()
    assert smooth.diff(dim=2).abs().mean() < 0.5 * photographs.diff(dim=2).abs().mean()
    held = invert(network, photographs, "0", alpha_weight=100.0, tv_weight=0.0, steps=250)
    assert (held - 0.5).abs().max() < 0.4


def test_inverted_features_come_near_the_wanted_ones(network, photographs):
    layer = "stage2.unit1"
    found = invert(network, photographs, layer, steps=60)
    network.eval()
    wanted, got = (activations(network, x, [layer])[layer] for x in (photographs, found))
    grey = activations(network, torch.full_like(found, 0.5), [layer])[layer]
    assert ((got - wanted) ** 2).sum() < 0.2 * ((grey - wanted) ** 2).sum()
    alone = invert(network, photographs[1:], layer, steps=5)
    torch.testing.assert_close(alone[0], invert(network, photographs, layer, steps=5)[1], rtol=0, atol=1e-9)


def test_any_function_of_pictures_is_an_objective(network):
    found = grow(network, lambda p: p[:, 0].flatten(1).mean(1) - p[:, 2].flatten(1).mean(1), size=16, count=2)
    assert found[:, 0].mean() > found[:, 2].mean() + 0.1


def test_leaves_no_trace_and_says_what_is_wrong(network, photographs):
    for call in (
        lambda: feature_picture(network, "stage9", 0, size=16),
        lambda: feature_picture(network, "stem", 99, size=16),
        lambda: dream(network, photographs, "stage9"),
        lambda: invert(network, photographs, "stage9"),
    ):
        with pytest.raises(SaccadeError, match="has no"):
            call()
        assert network.training
        assert all(layer.training for layer in network.modules())
        assert all(p.requires_grad for p in network.parameters())
        assert not any(layer._forward_hooks for layer in network.modules())
    for call in (dream, invert):
        with pytest.raises(SaccadeError, match=r"picture\[None\]"):
            call(network, photographs[0], "stem")
