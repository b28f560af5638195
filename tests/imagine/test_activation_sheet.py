"""Sheets of activations, pixel by pixel."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.imagine.activation_sheet import activation_sheet
from saccade.pictures import heat

CELL = 16  # points, and pixels at density 1: each of the maps' 4 x 4 places is a square of 4 x 4


def channels_net(signed: bool) -> nn.Module:
    """Three channels: red, twice the green, and the negative of a tenth of blue."""
    conv = nn.Conv2d(3, 3, 1, bias=False)
    conv.weight.data = torch.diag(torch.tensor([1.0, 2.0, -0.1]))[:, :, None, None]
    return nn.Sequential(conv, nn.Identity() if signed else nn.ReLU())


def photograph() -> torch.Tensor:
    return torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))


def find(sheet: torch.Tensor, tile: torch.Tensor) -> list[tuple[int, int]]:
    """Where a picture (3, 4, 4) stands on a sheet, enlarged to a cell."""
    big = tile.repeat_interleave(CELL // 4, 1).repeat_interleave(CELL // 4, 2)
    windows = sheet.unfold(1, CELL, 1).unfold(2, CELL, 1)
    apart = (windows - big[:, None, None]).abs().amax((0, 3, 4))
    return [tuple(place) for place in (apart < 0.5 / 255 + 1e-6).nonzero().tolist()]  # type: ignore[misc]


def test_shows_every_map_in_order_each_on_its_own_scale() -> None:
    x = photograph()
    drawn = activation_sheet(channels_net(signed=False), x, "1", cell=CELL, density=1, columns=4)
    places = [find(drawn, x), *(find(drawn, heat(x[c], low=0.0)) for c in (0, 1))]
    places.append(find(drawn, heat(torch.zeros(4, 4))))  # the third is cut off below zero
    assert all(len(place) == 1 for place in places)
    assert len({place[0][0] for place in places}) == 1
    lefts = [place[0][1] for place in places]
    assert lefts == sorted(lefts)
    assert drawn.shape[0] == 3
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1


def test_maps_with_negative_values_are_signed_and_the_strongest_come_first() -> None:
    x = photograph()
    net = channels_net(signed=True)
    drawn = activation_sheet(net, x[None], "1", channels=2, cell=CELL, density=1, columns=3)
    (green,), (red,) = find(drawn, heat(x[1], signed=True)), find(drawn, heat(x[0], signed=True))
    assert green[1] < red[1]
    assert not find(drawn, heat(-x[2], signed=True))
    named = activation_sheet(net, x, "1", channels=[2, 0], cell=CELL, density=1, columns=3)
    (blue,), (red,) = find(named, heat(-x[2], signed=True)), find(named, heat(x[0], signed=True))
    assert blue[1] < red[1]


def test_one_scale_for_all() -> None:
    x = photograph()
    high = float(2 * x[1].max())
    drawn = activation_sheet(channels_net(signed=True), x, "1", shared=True, cell=CELL, density=1)
    for map in (x[0], 2 * x[1], -0.1 * x[2]):
        assert len(find(drawn, heat(map, signed=True, high=high))) == 1


def test_numbers_of_channels_are_written() -> None:
    x = photograph()
    one = activation_sheet(channels_net(signed=True), x, "1", channels=[0], density=1)
    other = activation_sheet(channels_net(signed=True), x, "1", channels=[1], density=1)
    assert one.shape == other.shape
    below = slice(one.shape[1] - 40, None)  # the captions
    assert not torch.equal(one[:, below], other[:, below])


def test_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    x = photograph().requires_grad_()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    drawn = activation_sheet(net, x, "2")
    assert not drawn.requires_grad
    with pytest.raises(SaccadeError):
        activation_sheet(net, x, "7")
    assert all(layer.training and not layer._forward_hooks for layer in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("x", "layer", "channels", "message"),
    [
        (torch.rand(2, 3, 4, 4), "1", None, "given 2 pictures"),
        (torch.rand(4, 4), "1", None, "expected"),
        (torch.rand(3, 4, 4), "9", None, "no layer '9'"),
        (torch.rand(3, 4, 4), "1", 0, "0 channels"),
        (torch.rand(3, 4, 4), "1", [0, 3], "no channel 3"),
        (torch.rand(3, 4, 4), "1", [], "no channel was named"),
        (torch.rand(3, 4, 4), "2", None, "expected maps"),
    ],
)
def test_says_what_is_wrong(x: torch.Tensor, layer: str, channels: object, message: str) -> None:
    net = nn.Sequential(*channels_net(signed=True).children(), nn.Flatten())
    with pytest.raises(SaccadeError, match=message):
        activation_sheet(net, x, layer, channels=channels)  # type: ignore[arg-type]
