"""The fast CIFAR network: whitening, identity start, frozen parts, and a second implementation."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.fast import ACTIVATIONS, FastNet, whitening_weights
from saccade.networks.registry import build


def natural(n: int, side: int = 12, seed: int = 0) -> Tensor:
    """Noise with correlated neighbours and channels, like pictures."""
    generator = torch.Generator().manual_seed(seed)
    x = F.avg_pool2d(torch.randn(n, 3, side + 2, side + 2, generator=generator), 3, 1) * 3
    return x + x.mean(1, keepdim=True)


@given(kernel=st.integers(1, 3), eps=st.sampled_from([0.0, 5e-4, 0.1]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_responses_are_uncorrelated_with_the_promised_power(kernel: int, eps: float, seed: int) -> None:
    pictures = natural(300, seed=seed)
    weights = whitening_weights(pictures, kernel=kernel, eps=eps).double()
    half = 3 * kernel**2
    assert weights.shape == (2 * half, 3, kernel, kernel)
    assert torch.equal(weights[:half], -weights[half:])
    # The truth, from patches cut out one by one.
    places = range(12 - kernel + 1)
    cut = [pictures[:, :, i : i + kernel, j : j + kernel].reshape(300, -1) for i in places for j in places]
    patches = torch.cat(cut).double()
    power = torch.linalg.eigvalsh(patches.T @ patches / len(patches)).flip(0)
    responses = F.conv2d(pictures.double(), weights[:half]).transpose(0, 1).flatten(1)
    moment = responses @ responses.T / responses.shape[1]
    torch.testing.assert_close(moment, torch.diag(power / (power + eps)), atol=2e-3, rtol=0)


def test_whitening_does_not_depend_on_the_order_of_the_pictures() -> None:
    pictures = natural(600)
    assert torch.allclose(whitening_weights(pictures), whitening_weights(pictures.flip(0)), atol=1e-3)


def reference(state: dict[str, Tensor], x: Tensor, blocks: int, convs: int, training: bool) -> Tensor:
    """The network from its state dict, with GELU; at 32x32, where the last map is 3x3."""

    def norm(x: Tensor, at: str) -> Tensor:
        dims = (0, 2, 3)
        mean = x.mean(dims) if training else state[at + "running_mean"]
        var = x.var(dims, unbiased=False) if training else state[at + "running_var"]
        y = (x - mean[:, None, None]) / (var[:, None, None] + 1e-12).sqrt()
        return y * state[at + "weight"][:, None, None] + state[at + "bias"][:, None, None]

    x = F.gelu(F.conv2d(x, state["whitening.weight"], state["whitening.bias"]))
    for i in range(blocks):
        at = f"blocks.{i}."
        x = F.max_pool2d(F.conv2d(x, state[at + "conv1.weight"], padding="same"), 2)
        x = F.gelu(norm(x, at + "norm1."))
        y = F.gelu(norm(F.conv2d(x, state[at + "conv2.weight"], padding="same"), at + "norm2."))
        if convs == 3:
            y = norm(F.conv2d(y, state[at + "conv3.weight"], padding="same"), at + "norm3.")
            y = F.gelu(x + y)
        x = y
    return F.max_pool2d(x, 3).flatten(1) @ state["linear.weight"].T / 9


@pytest.mark.parametrize("convs", [2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_forward_equals_a_second_implementation(convs: int, training: bool) -> None:
    torch.manual_seed(0)
    network = FastNet(widths=(32, 40, 48), convs=convs, num_classes=5)
    network.whiten(natural(100, 32))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name and name.endswith("bias"):
                parameter.normal_(std=0.3)
    network(natural(32, 32))  # moves the running statistics
    network.train(training)
    x = natural(4, 32, seed=1)
    expected = reference(network.state_dict(), x, 3, convs, training)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


def test_running_averages_keep_six_tenths() -> None:
    network = FastNet()
    norm = network.get_submodule("blocks.0.norm1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm(torch.full((2, 64, 2, 2), 10.0))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.full((64,), 4.0))


@pytest.mark.parametrize(("name", "parameters"), [("fast94", 1_972_792), ("fast95", 4_606_520), ("fast96", 9_918_776)])
def test_sizes_are_those_of_the_published_networks(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build(name).parameters()) == parameters


def test_filters_and_scales_are_frozen_and_the_rest_learns() -> None:
    network = FastNet(widths=(24, 24, 24))
    network(natural(8, 32)).logsumexp(1).sum().backward()
    for name, parameter in network.named_parameters():
        frozen = name == "whitening.weight" or ("norm" in name and name.endswith("weight"))
        assert parameter.requires_grad is not frozen
        assert (parameter.grad is None) is frozen


def test_convolutions_start_as_the_identity() -> None:
    network = FastNet()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and name != "whitening":
            x = torch.randn(2, layer.in_channels, 5, 5)
            assert torch.equal(layer(x)[:, : layer.in_channels], x)
            assert layer.bias is None


@pytest.mark.parametrize("side", [9, 32, 50])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_size_and_activation(side: int, activation: str) -> None:
    network = FastNet(widths=(24, 24, 24), activation=activation, num_classes=4).eval()
    out = network(natural(2, side))
    assert out.shape == (2, 4)
    assert out.isfinite().all()


@pytest.mark.parametrize(("keywords", "word"), [({"activation": "step"}, "step"), ({"convs": 4}, "2 or 3")])
def test_impossible_settings_are_one_sentence(keywords: dict[str, object], word: str) -> None:
    with pytest.raises(SaccadeError, match=word):
        build("fast", **keywords)
