"""Networks of which only a window is computed anew, against the whole."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks.nets import made
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from saccade.engine.guards import differentiable
from saccade.networks import build
from saccade.networks.fused import Fused
from saccade.networks.windowed import LostError, Window, Windowed

SIDE = 16
WINDOWS = [Window(3, 6, 4, 9), Window(0, 2, 0, 2), Window(SIDE - 1, SIDE, SIDE - 3, SIDE), Window(7, 8, 7, 8)]
WINDOWS += [Window(0, SIDE, 2, 3), Window(1, 15, 1, 15)]


def pictures(n: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """Convolutions of many kinds, put together by a function of (self, pictures)."""

    def __init__(self, function: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.halved = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.skipped = nn.Conv2d(6, 6, 1, stride=2)
        self.wide = nn.Conv2d(6, 6, 3, dilation=2, padding=(2, 1), groups=3)
        self.large = nn.Conv2d(6, 6, 5, stride=3)
        self.norm, self.relu, self.drop = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.last = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self, x)
        return self.last(y.mean((2, 3)))  # type: ignore[no-any-return]


def residual(net: Net, x: Tensor) -> Tensor:
    y = net.relu(net.norm(net.a((x - x.new_full((1, 3, 1, 1), 0.4)) / 0.3)))
    return net.halved(net.b(y).relu() + y) + net.skipped(y)


def rebound(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    z = net.b(y)
    z += y
    return F.relu(z, inplace=True) * 0.5


def normalised_by_rows(net: Net, x: Tensor) -> Tensor:
    rows = torch.linspace(0, 1, SIDE, dtype=x.dtype)
    return net.a(x / rows.add(1).view(1, 1, 1, SIDE) - rows.view(1, 1, SIDE, 1)).relu()


FUNCTIONS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "a residual block": residual,
    "dilation and groups": lambda net, x: net.wide(net.a(x).relu()),
    "a large kernel": lambda net, x: net.large(net.a(x)),
    "pixels that are skipped": lambda net, x: net.skipped(net.a(x).relu()),
    "a sum in place": rebound,
    "constants of rows": normalised_by_rows,
    "dropout on the way": lambda net, x: net.b(net.drop(net.a(x)).relu()),
    "what is not followed": lambda net, x: net.b(F.max_pool2d(net.a(x), 2)).relu(),
    "a list of maps": lambda net, x: net.b(torch.cat([net.a(x)[:, :3], net.a(x).relu()[:, 3:]], 1)),
    "shapes": lambda net, x: net.a(x).relu() * (x.shape[2] / 16 + len(x) / x.size(0)),
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda function=function: Net(function) for name, function in FUNCTIONS.items()},
    **{name: lambda name=name: build(name, num_classes=5) for name in ("cifar-resnet20", "cifar-preact8", "tinynet")},
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fuse", [False, True])
def test_it_says_what_the_network_says(name: str, fuse: bool) -> None:
    """Of pictures that change in one window after the other, where some go back."""
    network, x = made(NETWORKS[name]), pictures()
    with differentiable(network), torch.no_grad():
        fused = Fused(network, network, x[:1], 1000)
        windowed = Windowed((lambda z: fused.run(lambda: network(z))) if fuse else network, x.clone())
        torch.testing.assert_close(windowed.scores, network(x))
        for i, window in enumerate(WINDOWS * 2):
            new = x.clone()
            window.of(new).copy_(window.of(pictures(seed=i + 1)))
            torch.testing.assert_close(windowed.ask(window.of(new), window), network(new))
            on = torch.arange(5) % 3 == i % 3
            windowed.keep(on)
            x[on] = new[on]


def test_it_computes_less() -> None:
    network, x = made(NETWORKS["cifar-preact8"]), pictures()

    def flops(run: Callable[[], object]) -> int:
        counter = FlopCounterMode(display=False)
        with counter:
            run()
        return int(counter.get_total_flops())

    with differentiable(network), torch.no_grad():
        windowed = Windowed(network, x)
        assert windowed.steps > 10
        assert windowed.size > x.numel() * 8
        whole = flops(lambda: network(x))
        assert flops(lambda: windowed.ask(WINDOWS[3].of(x), WINDOWS[3])) < 0.75 * whole


def written_into(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y.mul_(2)
    return y


def narrow(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y += net.b(y)  # which has changed in more places
    return y


class Turning(nn.Module):
    """Goes another way the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.times = nn.Conv2d(3, 5, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.times += 1
        y = self.a(x)
        return (y if self.times == 1 else y.relu()).mean((2, 3))


def test_what_cannot_be_followed_is_told() -> None:
    with pytest.raises(LostError):
        Windowed(made(lambda: Net(written_into)), pictures())
    for make in (Turning, lambda: Net(narrow)):
        windowed = Windowed(made(make), pictures())
        with pytest.raises(LostError):
            windowed.ask(WINDOWS[0].of(pictures(seed=1)), WINDOWS[0])


def test_nothing_is_left_on_the_network_or_the_pictures() -> None:
    network, x = made(NETWORKS["cifar-preact8"]), pictures()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    kept = x.clone()
    piece = WINDOWS[0].of(pictures(seed=1)).clone()
    given = piece.clone()
    Windowed(network, x).ask(piece, WINDOWS[0])
    assert torch.equal(x, kept)
    assert torch.equal(piece, given)
    assert not [name for name in (*vars(x), *vars(piece)) if "window" in name]
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
