"""One network at three levels: the same scores, the course's figures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.networks import three_level as levels


def convolve(x: Tensor, weight: Tensor, bias: Tensor, pad: int) -> Tensor:
    """A convolution as a sum of shifted pictures."""
    k = weight.shape[-1]
    x = F.pad(x, (pad,) * 4)
    h, w = x.shape[2] - k + 1, x.shape[3] - k + 1
    shifts = [
        torch.einsum("nchw,oc->nohw", x[:, :, i : i + h, j : j + w], weight[:, :, i, j])
        for i in range(k)
        for j in range(k)
    ]
    return torch.stack(shifts).sum(0) + bias[None, :, None, None]


def test_convnet_is_the_sum_it_says() -> None:
    torch.manual_seed(0)
    params = [torch.randn(s).double() for s in [(4, 2, 5, 5), (4,), (3, 4, 3, 3), (3,), (5, 3 * 6 * 7), (5,)]]
    x = torch.randn(2, 2, 6, 7).double()
    y = convolve(x, params[0], params[1], 2).clamp(min=0)
    y = convolve(y, params[2], params[3], 1).clamp(min=0)
    expected = y.reshape(2, -1) @ params[4].T + params[5]
    torch.testing.assert_close(levels.three_layer_convnet(x, params), expected)


def test_two_layer_net_is_the_formula() -> None:
    torch.manual_seed(0)
    w1, b1, w2, b2 = (torch.randn(s) for s in [(7, 12), (7,), (5, 7), (5,)])
    x = torch.randn(4, 3, 2, 2)
    expected = (x.reshape(4, 12) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    torch.testing.assert_close(levels.two_layer_net(x, [w1, b1, w2, b2]), expected)


@pytest.mark.parametrize("kind", ["two", "three"])
def test_functions_modules_and_containers_agree(kind: str) -> None:
    function, module, container = {
        "two": (levels.two_layer_net, levels.TwoLayerNet(), levels.initialize_two_layer_part4()[0]),
        "three": (
            levels.three_layer_convnet,
            levels.ThreeLayerConvNet(),
            levels.initialize_three_layer_conv_part4()[0],
        ),
    }[kind]
    container.load_state_dict(module.state_dict())
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(module(x), function(x, list(module.parameters())))
    assert torch.equal(module(x), container(x))


def test_parameter_counts() -> None:
    assert sum(p.numel() for p in levels.ThreeLayerConvNet(3, 32, 16, 10).parameters()) == 170_906
    assert sum(p.numel() for p in levels.TwoLayerNet().parameters()) == 12_332_010
    assert sum(p.numel() for p in levels.initialize_three_layer_conv_part2()) == 170_906


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (lambda: levels.initialize_three_layer_conv_part2(), [0.1633, 0.0833, 0.01105]),
        (lambda: list(levels.initialize_three_layer_conv_part3()[0].parameters()), [0.1633, 0.0833, 0.01105]),
        (lambda: levels.initialize_two_layer_part2(), [0.02552, 0.02236]),
        (lambda: list(levels.initialize_two_layer_part3()[0].parameters()), [0.02552, 0.02236]),
    ],
)
def test_kaiming_normal_with_the_standard_deviations_of_the_course(weights, expected) -> None:  # type: ignore
    torch.manual_seed(0)
    params = weights()
    for weight, bias, std in zip(params[::2], params[1::2], expected, strict=True):
        count = weight.numel()
        assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * count))  # five standard errors
        assert weight.abs().max() > 2.5 * std  # no uniform distribution
        assert not bias.any()


def test_part4_keeps_the_default_uniform_initialisation() -> None:
    model = levels.initialize_three_layer_conv_part4()[0]
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in layer.parameters():
                assert 0.5 * bound < parameter.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_part2_tensors_follow_dtype_and_generator_and_are_tracked() -> None:
    draws = [
        levels.initialize_three_layer_conv_part2(torch.float64, generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    ]
    assert all(p.dtype == torch.float64 and p.requires_grad and p.is_leaf for p in draws[0])
    assert torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][0], draws[2][0])


@pytest.mark.parametrize(
    ("make", "lr", "momentum"),
    [
        (levels.initialize_two_layer_part3, 1e-2, 0.0),
        (levels.initialize_three_layer_conv_part3, 3e-3, 0.0),
        (levels.initialize_two_layer_part4, 1e-2, 0.5),
        (levels.initialize_three_layer_conv_part4, 1e-2, 0.5),
    ],
)
def test_optimisers_are_those_of_the_course(make, lr: float, momentum: float) -> None:  # type: ignore
    model, optimiser = make()
    (group,) = optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (lr, momentum, 1e-4)
    assert group["nesterov"] == (momentum > 0)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
