"""What neurons see, against arithmetic by hand."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.errors import SaccadeError
from saccade.imagine.receptive_field import receptive_fields
from saccade.networks import Network, build


def fields(
    network: nn.Module, layer: str, h: int = 12, w: int = 15, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    return receptive_fields(network.to(dtype), torch.zeros(1, 3, h, w, dtype=dtype), [layer])[layer]


def clipped(top: int, left: int, bottom: int, right: int, h: int = 12, w: int = 15) -> list[int]:
    return [max(0, top), max(0, left), min(h, bottom), min(w, right)]


@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_three_by_threes_one_on_the_other(batch_size: int | None) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1), nn.ReLU(inplace=True))
    found = receptive_fields(net, torch.zeros(1, 3, 12, 15), ["1", "3"], batch_size=batch_size)
    for reach, layer in ((1, "1"), (2, "3")):
        assert found[layer].shape == (12, 15, 4)
        for r in range(12):
            for c in range(15):
                expected = clipped(r - reach, c - reach, r + reach + 1, c + reach + 1)
                assert found[layer][r, c].tolist() == expected


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2, stride=2)])
def test_strides_and_pooling(pool: nn.Module) -> None:
    # 3x3 without padding sees 3; a stride of 2 over it 4, in steps of 2; 3x3 over that 4 + 2 * 2 = 8.
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Conv2d(4, 4, 3))
    found = fields(net, "3")
    assert found.shape == (3, 4, 4)
    for r in range(3):
        for c in range(4):
            assert found[r, c].tolist() == [2 * r, 2 * c, 2 * r + 8, 2 * c + 8]


def test_kernels_that_are_not_square_and_have_holes() -> None:
    found = fields(nn.Sequential(nn.Conv2d(3, 2, (1, 3), dilation=(1, 2), padding=(0, 2))), "0")
    assert found[5, 7].tolist() == [5, 5, 6, 10]
    assert found[0, 0].tolist() == [0, 0, 1, 3]  # the two columns beyond the edge are padding


class Residual(nn.Module):
    """x of the first convolution, plus what two further ones make of it."""

    def __init__(self, relu: Any) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.last = relu, nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x + self.b(self.relu(self.a(x))))


@pytest.mark.parametrize("relu", [F.relu, lambda x: F.relu_(x.clone()), F.gelu, lambda x: x * (x > 0), torch.tanh])
def test_a_residual_sees_what_its_longest_path_sees(relu: Any) -> None:
    torch.manual_seed(0)
    found = fields(Residual(relu), "last")  # 3, and 2 + 2 more
    assert found.shape == (10, 13, 4)
    assert found[4, 6].tolist() == [2, 4, 9, 11]
    assert found[0, 0].tolist() == [0, 0, 5, 5]
    assert found[9, 12].tolist() == [7, 10, 12, 15]


def test_weights_of_zero_count() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 5, padding=2, bias=False))
    nn.init.zeros_(net[0].weight)
    assert fields(net, "0")[6, 6].tolist() == [4, 4, 9, 9]


def test_a_module_that_hides_nan_is_caught_and_sees_the_whole_picture() -> None:
    torch.manual_seed(0)
    found = fields(Residual(lambda x: torch.where(x > 0, x, 0.0)), "last")
    assert (found == torch.tensor([0, 0, 12, 15])).all()  # and not the 3 x 3 of the short path


def test_global_mixtures_and_flat_layers_see_the_whole_picture() -> None:
    class Squeeze(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    net = nn.Sequential(Squeeze(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    found = receptive_fields(net, torch.zeros(1, 3, 12, 15), ["0", "1", "3"])
    assert (found["0"] == torch.tensor([0, 0, 12, 15])).all()
    assert found["3"].tolist() == [[[0, 0, 12, 15]]]
    plain = receptive_fields(nn.Sequential(nn.AdaptiveAvgPool2d(2)), torch.zeros(1, 3, 12, 16), ["0"])["0"]
    assert plain.tolist() == [[[0, 0, 6, 8], [0, 8, 6, 16]], [[6, 0, 12, 8], [6, 8, 12, 16]]]


def test_a_layer_that_turns_the_picture() -> None:
    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.transpose(2, 3).flip(2)

    found = fields(nn.Sequential(Turn(), nn.Conv2d(3, 2, 3, padding=1)), "1")
    assert found.shape == (15, 12, 4)
    assert found[0, 5].tolist() == [4, 13, 7, 15]


def test_of_a_shipped_architecture() -> None:
    net = Network(build("tinynet", num_classes=3, widths=(4, 8), units=(1, 1)), mean=(0.5,) * 3, std=(0.2,) * 3)
    found = receptive_fields(net, torch.zeros(1, 3, 32, 32), ["stem", "stage1.unit1", "stage2.unit1", "classifier"])
    # the blur spans 4, one pixel beyond the two it halves: 3 -> 6 -> 10 -> 16 -> 24, in steps of 1, 2, 2, 4, 4
    assert found["stem"][10, 20].tolist() == [9, 19, 12, 22]
    assert found["stage1.unit1"][5, 10].tolist() == [6, 16, 16, 26]
    assert found["stage2.unit1"][3, 4].tolist() == [2, 6, 26, 30]
    assert found["classifier"].tolist() == [[[0, 0, 32, 32]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leaves_no_trace(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU()).to(dtype).train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    random, flags = torch.get_rng_state(), (torch._C._get_nnpack_enabled(), torch.backends.cudnn.enabled)
    fields(net, "3", dtype=dtype)
    with pytest.raises(SaccadeError, match="no layer 'x'"):
        fields(net, "x", dtype=dtype)
    assert torch.equal(torch.get_rng_state(), random)
    assert flags == (torch._C._get_nnpack_enabled(), torch.backends.cudnn.enabled)
    assert all(layer.training and not layer._forward_hooks for layer in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_refuses_tokens() -> None:
    with pytest.raises(SaccadeError, match="expected"):
        fields(nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2)), "1")
