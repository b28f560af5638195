"""AdaIN: the statistics it gives are those it was asked for; alpha, weights and masks do what they say."""

import pytest
import torch
from style.fast.nets import eye, pictures
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.style.fast.adain import AdaptiveStyle, Decoder, adain, statistics


def features(seed, h=7, w=9):
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 5, h, w, generator=draw, dtype=torch.float64) + seed


def test_the_statistics_become_those_of_the_style():
    mean, deviation = statistics(features(2, 4, 11))
    found_mean, found_deviation = statistics(adain(features(1), mean, deviation))
    assert_close(found_mean, mean)
    assert_close(found_deviation, deviation)


def test_its_own_statistics_change_nothing_and_a_flat_channel_takes_the_mean():
    x = features(1)
    assert_close(adain(x, *statistics(x)), x)
    flat = torch.full((1, 2, 4, 4), 3.0)
    assert_close(
        adain(flat, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2)),
        torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4),
    )


def test_gradients_are_exact():
    mean, deviation = statistics(features(2))
    x = features(1, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: adain(x, mean, deviation), x)


@pytest.fixture(scope="module")
def adaptive():
    return AdaptiveStyle(eye(), "stage1.unit1", seed=3)


@pytest.mark.parametrize("size", [(1, 1), (13, 22), (32, 40)])
def test_pictures_of_any_size(adaptive, size):
    made = adaptive.restyle(pictures(2, *size), [pictures(1, 30, 20)[0]])
    assert made.shape == (2, 3, *size)
    assert made.min() >= 0
    assert made.max() <= 1


def test_alpha_weights_and_masks(adaptive):
    x, a, b = pictures(1, 32, 32), pictures(1, 24, 40, 1)[0] * 0.3, pictures(1, 32, 24, 2)[0] ** 0.2
    plain = adaptive.decoder(adaptive.encode(x))
    alone = adaptive.restyle(x, [a])
    assert_close(adaptive.restyle(x, [a], alpha=0), plain)
    assert_close(adaptive.restyle(x, [a, b], weights=[2, 0]), alone)
    assert_close(adaptive.restyle(x, [b, a], masks=torch.stack([torch.zeros(32, 32), torch.ones(32, 32)])), alone)
    assert_close(adaptive.restyle(x, [a], masks=torch.zeros(1, 32, 32)), plain)
    assert not torch.allclose(alone, plain, atol=1e-4)
    halves = torch.zeros(2, 32, 32)
    halves[0, :, :16], halves[1, :, 16:] = 1, 1
    both = adaptive.restyle(x, [a, b], masks=halves)
    assert_close(both[..., :8], alone[..., :8])
    assert_close(both[..., 24:], adaptive.restyle(x, [b])[..., 24:])


def test_the_encoder_is_left_as_it_was_and_is_no_part():
    network = eye().train()
    adaptive = AdaptiveStyle(network, "stage1.unit1")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    adaptive.restyle(pictures(1, 16, 16), [pictures(1, 16, 16, 1)[0]])
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(name.startswith("decoder") for name, _ in adaptive.named_parameters())


WRONG = {
    "no style": {"styles": []},
    "alpha above 1": {"alpha": 1.5},
    "two weights": {"weights": [1, 2]},
    "masks of another size": {"masks": torch.ones(1, 4, 4)},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused(adaptive, case):
    settings = {"styles": [pictures(1, 8, 8)[0]], **WRONG[case]}
    with pytest.raises(SaccadeError, match="Could not restyle pictures"):
        adaptive.restyle(pictures(1, 8, 8), **settings)


def test_a_decoder_of_no_power_of_two_is_refused():
    with pytest.raises(SaccadeError, match="power of 2"):
        Decoder(4, 3)
