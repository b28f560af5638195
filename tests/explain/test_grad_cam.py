"""The gradient CAMs against numbers worked out by hand, the closed form of CAM, and the paper's derivatives."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from saccade.explain.grad_cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam

A = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
G = torch.tensor([[[1.0, -1.0], [0.0, 2.0]], [[0.0, 2.0], [-4.0, 6.0]]], dtype=torch.float64)


def toy() -> tuple[nn.Module, torch.Tensor]:
    """A network whose layer "0" gives A for the picture, and whose score has the gradient G by it."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    conv.weight.data = torch.eye(2, 3)[:, :, None, None]
    linear = nn.Linear(8, 1)
    net = nn.Sequential(conv, nn.Flatten(), linear).double()
    linear.weight.data = G.reshape(1, 8).clone()
    return net, torch.cat([A, torch.zeros(1, 2, 2, dtype=torch.float64)])[None]


@pytest.mark.parametrize(
    ("cam", "expected"),
    [
        (grad_cam, 0.5 * A[0] + 1 * A[1]),
        (xgrad_cam, 0.7 * A[0] - 1 * A[1]),  # (1 - 2 + 8) / 10 and (2 - 4) / 2
        (hires_cam, torch.tensor([[1.0, 0.0], [-4.0, 8.0]])),
        (layer_cam, torch.tensor([[1.0, 2.0], [0.0, 8.0]])),
        (grad_cam_plus_plus, (1 / 12 + 2 / 22) * A[0] + (2 / 6 + 6 / 14) * A[1]),  # g / (2 + sum(A) g) where g > 0
    ],
)
def test_worked_out_by_hand(cam: Callable[..., torch.Tensor], expected: torch.Tensor) -> None:
    net, x = toy()
    signed = cam(net, x, 0, layer="0", relu=False)
    assert_close(signed[0], expected.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cam", [grad_cam, grad_cam_plus_plus, xgrad_cam, hires_cam, layer_cam])
def test_the_relu_keeps_what_is_positive(cam: Callable[..., torch.Tensor]) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 18, 2)).double()
    x = torch.rand(4, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    signed = cam(net, x, 0, layer="0", relu=False, enlarge=False)
    assert (signed < 0).any()
    assert (signed > 0).any()
    assert torch.equal(cam(net, x, 0, layer="0", relu=True, enlarge=False), signed.clamp_min(0))


def cam_net() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    return net.double()


@pytest.mark.parametrize("cam", [grad_cam, hires_cam, xgrad_cam])
def test_before_a_global_average_it_is_cam(cam: Callable[..., torch.Tensor]) -> None:
    net, target = cam_net(), torch.tensor([3, 0])
    x = torch.rand(2, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    a = net[:2](x).detach()
    expected = torch.stack([(net[4].weight[target[i], :, None, None] * a[i]).sum(0) for i in range(2)]) / (3 * 6)
    found = cam(net, x, target, layer="1", relu=False, enlarge=False)
    assert_close(found, expected.detach(), rtol=1e-12, atol=1e-14)
    scores = net(x).detach()
    assert_close(found.sum((1, 2)), scores[[0, 1], target] - net[4].bias[target].detach())  # a share of the score each


def test_xgrad_cam_conserves_what_the_gradient_gives_in_any_network() -> None:
    net = nn.Sequential(*cam_net()[:2], nn.Conv2d(6, 5, 2), nn.Tanh(), nn.Flatten(), nn.Linear(50, 4)).double()
    x = torch.rand(2, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    a = net[:2](x).detach().requires_grad_()
    (g,) = torch.autograd.grad(net[2:](a)[:, 1].sum(), a)
    found = xgrad_cam(net, x, 1, layer="1", relu=False, enlarge=False)
    assert_close(found.sum((1, 2)), (a * g).sum((1, 2, 3)).detach(), rtol=1e-11, atol=1e-13)


def test_grad_cam_plus_plus_has_the_derivatives_of_the_exponential() -> None:
    """Equation 10 with Y = exp(score), its three derivatives by every place taken by autograd."""
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(3, 3, 2), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    ).double()
    x = torch.rand(1, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    net[5].weight.data *= 10  # so that the third derivative counts
    a = net[:2](x).detach()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for k in range(3):
        weight = 0.0
        for i in range(2):
            for j in range(3):
                place = a[0, k, i, j].clone().requires_grad_()
                given = a.clone()
                given[0, k, i, j] = place
                y = net[2:](given)[0, 1].exp()
                (first,) = torch.autograd.grad(y, place, create_graph=True)
                (second,) = torch.autograd.grad(first, place, create_graph=True)
                (third,) = torch.autograd.grad(second, place)
                below = 2 * second + a[0, k].sum() * third
                weight += float((second / below * first.clamp_min(0)).detach()) if below != 0 else 0.0
        expected += weight * a[0, k]
    expected /= net(x)[0, 1].exp().detach()
    found = grad_cam_plus_plus(net, x, 1, layer="1", relu=False, enlarge=False)[0]
    assert expected.abs().max() > 1e-2
    assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_grad_cam_plus_plus_of_gradients_whose_cube_vanishes() -> None:
    """With g so small, alpha is 1/2 nearly; g^3 is 0 in float32, and so may be g^2."""
    net, x = toy()
    net.float()[2].weight.data *= 1e-24
    found = grad_cam_plus_plus(net, x.float(), 0, layer="0")[0]
    assert_close(found.double() * 1e24, 3 / 2 * A[0] + 8 / 2 * A[1], rtol=1e-5, atol=0)


def test_dead_channels_count_nothing() -> None:
    net, x = toy()
    x[:, 1] = 0  # the second channel is 0 everywhere
    for cam, weight in ((grad_cam, 0.5), (xgrad_cam, 0.7), (grad_cam_plus_plus, 1 / 12 + 2 / 22)):
        assert_close(cam(net, x, 0, layer="0")[0], weight * A[0], rtol=1e-12, atol=0)
