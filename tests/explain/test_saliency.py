"""Saliency against closed forms, finite differences and the promises of the house."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain import saliency
from saccade.networks import Network, build


def linear(weight: torch.Tensor) -> nn.Module:
    """Scores are weight (classes, 3, h, w) times picture."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=True).to(weight.dtype)
    layer.weight.data = weight.flatten(1).clone()
    return nn.Sequential(nn.Flatten(), layer)


def smooth_net() -> nn.Module:
    """Small, with batch norm and dropout, and smooth, so that finite differences are exact."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 9, 5)
    ).double()
    with torch.no_grad():
        net(torch.rand(8, 3, 5, 5, dtype=torch.float64))  # running statistics other than 0 and 1
    return net


def pictures(n: int, h: int = 5, w: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(n, 3, h, w, dtype=dtype, generator=torch.Generator().manual_seed(n))


def test_of_a_linear_network_it_is_the_weight() -> None:
    weight = torch.randn(4, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([2, 0, 3])
    found = saliency(linear(weight), pictures(3, 6, 7), target)
    torch.testing.assert_close(found, weight[target].abs().amax(1), rtol=0, atol=0)


def test_of_a_normalised_network_it_is_in_pixel_units() -> None:
    weight = torch.randn(4, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    std = (0.2, 0.5, 0.25)
    network = Network(linear(weight), mean=(0.1, 0.2, 0.3), std=std)
    found = saliency(network, pictures(2, 6, 7, torch.float32), 1)
    expected = (weight[1] / torch.tensor(std)[:, None, None]).abs().amax(0)
    torch.testing.assert_close(found, expected.expand(2, 6, 7))


def test_agrees_with_finite_differences() -> None:
    network, x, target = smooth_net().eval(), pictures(1), 3
    found = saliency(network, x, target)[0]
    slopes = torch.zeros(3, 5, 5, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        for place in range(x.numel()):
            change = torch.zeros(x.numel(), dtype=torch.float64)
            change[place] = step
            change = change.view_as(x)
            rise = network(x + change)[0, target] - network(x - change)[0, target]
            slopes.view(-1)[place] = rise / (2 * step)
    torch.testing.assert_close(found, slopes.abs().amax(0), rtol=1e-7, atol=1e-9)
    assert found.max() > 0


def test_does_not_depend_on_the_rest_of_the_batch() -> None:
    network, x = smooth_net(), pictures(4)
    together = saliency(network, x, [0, 1, 2, 3])
    for i in range(4):
        torch.testing.assert_close(saliency(network, x[i : i + 1], i)[0], together[i], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(training: bool) -> None:
    network, x = smooth_net().train(training), pictures(2).requires_grad_()
    network[0].weight.requires_grad_(False)
    network[5].weight.grad = torch.ones_like(network[5].weight)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    saliency(network, x, 1)
    assert torch.equal(torch.get_rng_state(), random)
    assert x.grad is None
    assert [layer.training for layer in network.modules()] == [training] * 7
    flags = {name: p.requires_grad for name, p in network.named_parameters()}
    assert flags.pop("0.weight") is False
    assert all(flags.values())
    assert network[5].bias.grad is None
    assert torch.equal(network[5].weight.grad, torch.ones_like(network[5].weight))
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_leaves_no_trace_after_an_error() -> None:
    network = smooth_net().train()
    with pytest.raises(SaccadeError, match="no class 5: the network has 5"):
        saliency(network, pictures(2), 5)
    assert all(layer.training for layer in network.modules())
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context: type[torch.no_grad]) -> None:
    network, x = smooth_net(), pictures(2)
    expected = saliency(network, x, 1)
    with context():
        found = saliency(network, x.clone(), 1)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_understands_names_numbers_and_one_for_each() -> None:
    torch.manual_seed(0)
    network = Network(build("tinynet", num_classes=3, widths=(4, 4), units=(1, 1)), classes=("cat", "dog", "owl"))
    x = pictures(2, 16, 24, torch.float32)
    each = saliency(network, x, ["dog", "owl"])
    assert each.shape == (2, 16, 24)
    assert torch.equal(each, saliency(network, x, [1, 2]))
    assert torch.equal(each, saliency(network, x, torch.tensor([1, 2])))
    assert torch.equal(saliency(network, x, "dog"), saliency(network, x, 1))
    assert not torch.equal(each, saliency(network, x, 1))


@pytest.mark.parametrize(
    ("given", "target", "message"),
    [
        (torch.rand(3, 5, 5), 0, r"picture\[None\]"),
        (torch.zeros(1, 3, 5, 5, dtype=torch.uint8), 0, "255"),
        (torch.rand(1, 3, 5, 5).double(), "cat", "knows no names"),
        (torch.rand(1, 3, 5, 5).double(), [0, 1], "2 targets were given for 1 pictures"),
        (torch.rand(1, 3, 5, 5).double(), torch.rand(1, 5), "argmax"),
        (torch.rand(1, 3, 5, 5).double(), -1, "no class -1"),
    ],
)
def test_says_what_is_wrong(given: torch.Tensor, target: object, message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        saliency(smooth_net(), given, target)  # type: ignore[arg-type]


def test_refuses_a_network_that_gives_maps() -> None:
    with pytest.raises(SaccadeError, match="expected scores"):
        saliency(nn.Conv2d(3, 4, 3), torch.rand(1, 3, 5, 5), 0)
