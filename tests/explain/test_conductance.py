"""Conductance against closed forms, its definition and completeness over a layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.conductance import conductance
from saccade.explain.integrated import integrated_gradients
from saccade.explain.question import Unit


def pictures(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


class Net(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 2)
        self.act, self.drop, self.last = activation, nn.Dropout(0.5), nn.Linear(5 * 3 * 4, 3)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.first(x)))
        return self.last(self.drop(self.act(self.second(x)).flatten(1)))


def test_of_a_layer_before_a_linear_end_it_is_weight_times_change() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 4 * 5, 3)).double()
    x = pictures(3)
    found = conductance(net, x, [2, 0, 1], layer="1", baseline=0.3, steps=2)
    with torch.no_grad():
        change = net[:2](x) - net[:2](torch.full_like(x, 0.3))
    torch.testing.assert_close(
        found, net[3].weight.detach()[[2, 0, 1]].view(3, 4, 4, 5) * change, rtol=1e-12, atol=1e-13
    )


def test_of_a_square_behind_a_linear_layer_in_closed_form() -> None:
    """y = Wx, f = sum of y^2 / 2: the share of y is the integral of y dy, half the difference of the squares."""

    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).square().flatten(1).sum(1, keepdim=True) / 2

    net, x = Squares(), pictures()
    with torch.no_grad():
        expected = (net.layer(x).square() - net.layer(x * 0).square()) / 2
    torch.testing.assert_close(conductance(net, x, 0, layer="layer", steps=1), expected, rtol=1e-12, atol=1e-13)


def test_by_its_definition() -> None:
    """The integral over t of df/dy * dy/dt, with dy/dt by finite differences, one point at a time."""
    net, x, points = Net(nn.Softplus()).eval(), pictures(1), 2000
    below, behind = (
        nn.Sequential(net.first, net.norm),
        nn.Sequential(net.act, net.second, net.act, nn.Flatten(), net.last),
    )
    place = ((torch.arange(points, dtype=torch.float64) + 0.5) / points).view(-1, 1, 1, 1)
    with torch.no_grad():
        change = (below((place + 1e-5) * x) - below((place - 1e-5) * x)) / 2e-5
    y = below(place * x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(behind(y)[:, 2].sum(), y)
    expected = (slope * change).mean(0, keepdim=True)
    found = conductance(net, x, 2, layer="norm", steps=400)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layer", ["first", "norm", "second"])
def test_complete_over_every_layer(layer: str) -> None:
    net, x, target = Net(nn.ReLU(inplace=True)).train(), pictures(3), [0, 1, 2]
    with torch.no_grad():
        net(torch.rand(16, 3, 6, 7, dtype=torch.float64))
    found = conductance(net, x, target, layer=layer, baseline="mean", steps=400)
    net.eval()
    with torch.no_grad():
        difference = (net(x) - net(x.mean((2, 3), keepdim=True).expand_as(x)))[range(3), target]
    assert difference.abs().max() > 0.01
    assert (found.sum((1, 2, 3)) - difference).abs().max() < 1e-3 * difference.abs().max()


def test_of_the_pictures_themselves_it_is_integrated_gradients() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.net = nn.Identity(), Net(nn.Softplus())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(self.same(x))  # type: ignore[no-any-return]

    net, x = Same(), pictures()
    found = conductance(net, x, 1, layer="same", steps=200)
    torch.testing.assert_close(found, integrated_gradients(net, x, 1), rtol=1e-4, atol=1e-7)


def test_the_share_of_one_neuron_in_a_unit() -> None:
    net, x = Net(nn.Softplus()), pictures()
    unit = Unit("second", 3, (1, 2))
    found = conductance(net, x, unit, layer="norm", steps=400)
    with torch.no_grad():
        net.eval()
        change = (
            net.second(net.act(net.norm(net.first(x))))[:, 3, 1, 2]
            - net.second(net.act(net.norm(net.first(0 * x))))[:, 3, 1, 2]
        )
    torch.testing.assert_close(found.sum((1, 2, 3)), change, rtol=1e-5, atol=1e-8)
    outside = torch.ones(4, 5, dtype=torch.bool)
    outside[1:3, 2:4] = False
    assert found[:, :, outside].abs().max() == 0


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_of_any_batch_size_and_one_by_one(batch_size: int) -> None:
    net, x, target = Net(nn.ReLU(inplace=True)), pictures(3), [0, 1, 2]
    whole = conductance(net, x, target, layer="second", steps=9)
    found = conductance(net, x, target, layer="second", steps=9, batch_size=batch_size)
    torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-13)
    alone = conductance(net, x[1:2], 1, layer="second", steps=9)
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-11, atol=1e-13)


def test_only_what_lies_behind_the_layer_is_differentiated() -> None:
    net, x = Net(nn.ReLU()), pictures()
    recorded = []
    net.second.register_forward_pre_hook(lambda layer, inputs: recorded.append(inputs[0].requires_grad))
    conductance(net, x, 1, layer="second", steps=3)
    assert recorded
    assert not any(recorded)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "third"}, "no layer 'third'"),
        ({"layer": "last"}, "expected maps"),
        ({"layer": "first", "steps": 0}, "0 steps"),
    ],
)
def test_says_what_is_wrong(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        conductance(Net(nn.ReLU()), pictures(), 1, **settings)  # type: ignore[arg-type]
    with pytest.raises(SaccadeError, match="behind"):
        conductance(Net(nn.ReLU()), pictures(), Unit("first", 0), layer="second")


def test_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    net, x = Net(nn.Softplus()).eval(), pictures()
    expected = captum.LayerConductance(net, net.second).attribute(x, target=1, n_steps=400)
    found = conductance(net, x, 1, layer="second", steps=400)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-6)
    assert F.relu(found).sum() > 0
