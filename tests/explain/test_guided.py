"""Guided backpropagation and the deconvnet against masks written out by hand."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.guided import deconvnet, guided_backprop
from saccade.explain.question import Unit
from saccade.explain.saliency import gradient


class Net(nn.Module):
    """conv, ReLU, max pool, conv, ReLU, linear; the ReLU is called as `relu` says."""

    def __init__(self, relu: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Conv2d(3, 5, 3).double()
        self.second = nn.Conv2d(5, 6, 2).double()
        self.last = nn.Linear(6 * 4, 3).double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3
        self.shared, self.written, self.relu = nn.ReLU(), nn.ReLU(inplace=True), relu

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        ways = {
            "reused": self.shared,
            "in place": self.written,
            "function": F.relu,
            "method": torch.Tensor.relu_,
            "clamp": lambda x: x.clamp(min=0),
            "clamp_min": lambda x: torch.clamp_min(x, 0),
            "threshold": lambda x: F.threshold(x, 0, 0),
            "hardtanh": lambda x: F.hardtanh(x, 0.0, 1e9),
        }
        return ways[self.relu](x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.cut(self.first(x)), 2)
        return self.last(self.cut(self.second(x)).flatten(1))


def pictures(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def by_hand(net: Net, x: torch.Tensor, target: int, rule: str) -> torch.Tensor:
    """Back through the network without autograd, with a mask for every ReLU."""
    first = F.conv2d(x, net.first.weight, net.first.bias)
    pooled, switches = F.max_pool2d(first.clamp(min=0), 2, return_indices=True)
    second = F.conv2d(pooled, net.second.weight, net.second.bias)

    def back(g: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        masks = {
            "gradient": (before > 0),
            "deconvnet": (g > 0),
            "guided": (before > 0) & (g > 0),
        }
        return g * masks[rule]

    g = net.last.weight[target].view(6, 2, 2).expand_as(second)
    g = back(g, second)
    g = F.conv_transpose2d(g, net.second.weight)
    g = F.max_unpool2d(g, switches, 2)
    g = back(g, first)
    return F.conv_transpose2d(g, net.first.weight)


WAYS = ["reused", "in place", "function", "method", "clamp", "clamp_min", "threshold", "hardtanh"]


@pytest.mark.parametrize("relu", WAYS)
def test_of_a_network_worked_out_by_hand(relu: str) -> None:
    net, x = Net(relu), pictures()
    with torch.no_grad():
        expected = {rule: by_hand(net, x, 1, rule) for rule in ("gradient", "guided", "deconvnet")}
    torch.testing.assert_close(gradient(net, x, 1), expected["gradient"], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(guided_backprop(net, x, 1), expected["guided"], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(deconvnet(net, x, 1), expected["deconvnet"], rtol=1e-12, atol=1e-13)
    assert not torch.allclose(expected["guided"], expected["gradient"])
    assert not torch.allclose(expected["guided"], expected["deconvnet"])


def test_a_single_relu_by_numbers() -> None:
    class Numbers(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.relu(x.flatten(1) - 0.5)
            return x @ torch.tensor([[2.0], [-3.0], [4.0]])

    x = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)  # above, above and below the threshold
    assert guided_backprop(Numbers(), x, 0).flatten().tolist() == [2, 0, 0]
    assert deconvnet(Numbers(), x, 0).flatten().tolist() == [2, 0, 4]
    assert gradient(Numbers(), x, 0).flatten().tolist() == [2, -3, 0]


def test_cut_off_above_as_well() -> None:
    net = nn.Sequential(nn.Flatten(), nn.ReLU6(), nn.Linear(3, 1))
    net[2].weight.data = torch.tensor([[1.0, -1.0, 2.0]])
    x = torch.tensor([7.0, 3.0, 3.0]).view(1, 3, 1, 1)
    assert guided_backprop(net, x, 0).flatten().tolist() == [0, 0, 2]


def test_of_a_unit_only_what_leads_to_it_counts() -> None:
    net, x = Net("in place"), pictures()
    found = guided_backprop(net, x, Unit("second", 2, (1, 0)))
    with torch.no_grad():
        first = F.conv2d(x, net.first.weight, net.first.bias)
        _, switches = F.max_pool2d(first.clamp(min=0), 2, return_indices=True)
        g = torch.zeros(2, 6, 2, 2, dtype=torch.float64)
        g[:, 2, 1, 0] = 1
        g = F.max_unpool2d(F.conv_transpose2d(g, net.second.weight), switches, 2)
        expected = F.conv_transpose2d(g * ((g > 0) & (first > 0)), net.first.weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert found.abs().max() > 0
    assert found[:, :, :2].abs().max() == 0  # rows and columns that the place cannot see
    assert found[:, :, :, 6:].abs().max() == 0


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.Identity])
@pytest.mark.parametrize("method", [guided_backprop, deconvnet])
def test_refuses_a_network_without_a_relu(activation: type[nn.Module], method: object) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Flatten(), nn.LazyLinear(2))
    net(torch.rand(1, 3, 8, 8))
    with pytest.raises(SaccadeError, match="there is none on the way to the score"):
        method(net, torch.rand(1, 3, 8, 8), 0)  # type: ignore[operator]


@pytest.mark.parametrize("low", [-1.0, 0.1])
def test_another_lower_bound_is_no_relu(low: float) -> None:
    for cut in (nn.Hardtanh(low, 5), nn.Threshold(low, 0.0)):
        net = nn.Sequential(nn.Flatten(), cut, nn.Linear(12, 1))
        with pytest.raises(SaccadeError, match="there is none"):
            guided_backprop(net, torch.rand(1, 3, 2, 2), 0)


def test_says_so_if_the_score_has_no_slope_at_all() -> None:
    class Rounds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(x.detach().flatten(1)[:, :2])

    with pytest.raises(SaccadeError, match="does not depend on it differentiably"):
        guided_backprop(Rounds(), torch.rand(1, 3, 2, 2), 0)


@pytest.mark.parametrize("method", [guided_backprop, deconvnet])
def test_in_parts_it_is_the_same(method: object) -> None:
    net, x = Net("function"), pictures(11)
    target = [i % 3 for i in range(11)]
    whole = method(net, x, target)  # type: ignore[operator]
    torch.testing.assert_close(method(net, x, target, batch_size=2), whole, rtol=1e-12, atol=1e-13)  # type: ignore[operator]


def test_the_next_gradient_is_an_ordinary_one() -> None:
    net, x = Net("reused"), pictures()
    before = gradient(net, x, 1)
    guided_backprop(net, x, 1)
    assert torch.equal(gradient(net, x, 1), before)


def test_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), nn.ReLU(), nn.Flatten())
    net, x = nn.Sequential(*net, nn.Linear(16, 4)).double(), pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its hooks
        guided = captum.GuidedBackprop(net).attribute(x, target=3)
        deconv = captum.Deconvolution(net).attribute(x, target=3)
    torch.testing.assert_close(guided_backprop(net, x, 3), guided)
    torch.testing.assert_close(deconvnet(net, x, 3), deconv)
