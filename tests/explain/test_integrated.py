"""Integrated gradients against closed forms, numpy's quadratures and completeness."""

import numpy as np
import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.integrated import completeness_gap, integrated_gradients, on_the_line
from saccade.explain.question import Question, Unit
from saccade.networks import Network, fused

QUADRATURES = ["gauss-legendre", "trapezoid", "left", "right", "midpoint"]


def pictures(n: int = 2, h: int = 6, w: int = 7) -> torch.Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


class Function(nn.Module):
    """Scores that are a function of the pixels, (N, D) -> (N, C)."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x.flatten(1))  # type: ignore[operator, no-any-return]


def relu_net() -> nn.Module:
    """Small, with batch norm and dropout, which must be in evaluation mode."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 9, 5),
    ).double()
    with torch.no_grad():
        net(torch.rand(32, 3, 6, 7, dtype=torch.float64))
    return net


def test_of_a_linear_network_it_is_weight_times_way() -> None:
    weight = torch.randn(4, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = Function(lambda x: x @ weight.flatten(1).T + 3)
    x = pictures(3)
    for steps in (1, 5):
        found = integrated_gradients(net, x, [2, 0, 3], baseline=0.25, steps=steps)
        torch.testing.assert_close(found, weight[[2, 0, 3]] * (x - 0.25), rtol=1e-12, atol=1e-13)


def test_of_a_quadratic_form_in_closed_form() -> None:
    """f(x) = x'Ax / 2 with A symmetric has the mean gradient A (x + b) / 2; two Gauss-Legendre points suffice."""
    a = torch.randn(126, 126, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    a = a + a.T
    net = Function(lambda x: ((x @ a) * x).sum(1, keepdim=True) / 2)
    x, base = pictures(2), pictures(3)[:1]
    expected = ((x + base).flatten(1) @ a / 2).view_as(x) * (x - base)
    for quadrature, steps in (("gauss-legendre", 2), ("trapezoid", 2), ("midpoint", 1)):
        found = integrated_gradients(net, x, 0, baseline=base, steps=steps, quadrature=quadrature)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_of_a_product_the_share_of_each_factor() -> None:
    """The integral of y z along t (y, z) gives each half: f = 3 * 5, as neither would do anything alone."""
    net = Function(lambda x: (x[:, 0] * x[:, 1])[:, None])
    x = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    x[0, :2, 0, 0] = torch.tensor([3.0, 5.0])
    assert integrated_gradients(net, x, 0).flatten().tolist() == pytest.approx([7.5, 7.5, 0])


@pytest.mark.parametrize("steps", [2, 3, 10, 50])
def test_every_quadrature_is_numpy_s(steps: int) -> None:
    def function(t: np.ndarray) -> np.ndarray:
        return np.exp(t) * np.cos(3 * t)

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    ends, parts = np.linspace(0, 1, steps), np.linspace(0, 1, steps + 1)
    expected = {
        "gauss-legendre": (weights * function((nodes + 1) / 2)).sum() / 2,
        "trapezoid": ((function(ends)[1:] + function(ends)[:-1]) / 2 * np.diff(ends)).sum(),
        "left": (function(parts[:-1]) * np.diff(parts)).sum(),
        "right": (function(parts[1:]) * np.diff(parts)).sum(),
        "midpoint": (function((parts[1:] + parts[:-1]) / 2) * np.diff(parts)).sum(),
    }
    for name, value in expected.items():
        places, shares = on_the_line(name, steps, "test")
        assert float((shares.numpy() * function(places.numpy())).sum()) == pytest.approx(value, rel=1e-13)
        assert float(shares.sum()) == pytest.approx(1)


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_every_quadrature_on_a_known_function(quadrature: str) -> None:
    """f = sum of x^4: the rule's own value of the integral of 4 (t x)^3 is the answer."""
    net, x, steps = Function(lambda x: (x**4).sum(1, keepdim=True)), pictures(1), 7
    places, shares = on_the_line(quadrature, steps, "test")
    expected = 4 * float((shares * places**3).sum()) * x**4
    found = integrated_gradients(net, x, 0, steps=steps, quadrature=quadrature)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    close = {"gauss-legendre": 1e-12, "midpoint": 0.02, "trapezoid": 0.03, "left": 0.35, "right": 0.35}[quadrature]
    torch.testing.assert_close(found, x**4, rtol=close, atol=0)


@pytest.mark.parametrize(("activation", "gap"), [(nn.ReLU(inplace=True), 1e-4), (nn.Softplus(), 1e-9)])
def test_complete_at_fifty_steps(activation: nn.Module, gap: float) -> None:
    """Of ReLUs up to the kinks between two steps; of a smooth network almost to the last digit."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), activation, nn.Dropout(0.5))
    net.extend([nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    net.extend([nn.Dropout(0.5), nn.Linear(32, 5)]).double().train()
    net(torch.rand(32, 3, 16, 16, dtype=torch.float64))
    x, target = pictures(4, 16, 16), [0, 1, 2, 3]
    found = integrated_gradients(net, x, target)
    net.eval()
    with torch.no_grad():
        difference = (net(x) - net(0 * x)).gather(1, torch.tensor(target)[:, None])[:, 0]
    assert difference.abs().min() > 100 * gap
    assert (found.sum((1, 2, 3)) - difference).abs().max() < gap
    expected = found.sum((1, 2, 3)) - difference
    torch.testing.assert_close(completeness_gap(net, x, target, found), expected, rtol=1e-6, atol=1e-12)


def test_the_gap_is_signed_and_of_its_own_baseline() -> None:
    net, x = Function(lambda x: x.sum(1, keepdim=True)), pictures(2)
    gap = completeness_gap(net, x, 0, (x - 0.5) * 1.5, baseline=0.5)
    torch.testing.assert_close(gap, 0.5 * (x - 0.5).sum((1, 2, 3)))


@pytest.mark.parametrize("target", [Unit("3", 1, (1, 2)), Unit("5", 4), lambda scores: scores.square().sum(1)])
def test_complete_for_units_and_functions(target: object) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 4, 2), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 1)
    ).double()
    net = nn.Sequential(*net, nn.Flatten())
    x = pictures(3)
    found = integrated_gradients(net, x, target, steps=200)  # type: ignore[arg-type]
    assert completeness_gap(net, x, target, found).abs().max() < 1e-4  # type: ignore[arg-type]
    assert found.abs().max() > 1e-3


def test_a_baseline_may_be_a_number_a_word_a_picture_or_one_for_each() -> None:
    net, x = relu_net(), pictures(2)
    grey = integrated_gradients(net, x, 1, baseline=0.5)
    for same in (torch.full((3, 6, 7), 0.5), torch.full((2, 3, 6, 7), 0.5), torch.tensor(0.5)):
        assert torch.equal(integrated_gradients(net, x, 1, baseline=same), grey)
    mean = x.mean((2, 3), keepdim=True)
    expected = integrated_gradients(net, x, 1, baseline=mean)
    torch.testing.assert_close(integrated_gradients(net, x, 1, baseline="mean"), expected, rtol=1e-10, atol=1e-12)
    blurred = integrated_gradients(net, x, 1, baseline="blur", steps=300)
    assert completeness_gap(net, x, 1, blurred, baseline="blur").abs().max() < 1e-4
    assert not torch.equal(integrated_gradients(net, x, 1), grey)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_of_any_batch_size(batch_size: int) -> None:
    net, x, target = relu_net(), pictures(5), [4, 3, 2, 1, 0]
    expected = integrated_gradients(net, x, target, steps=9)
    found = integrated_gradients(net, x, target, steps=9, batch_size=batch_size)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_memory_does_not_grow_with_the_steps() -> None:
    seen: list[int] = []
    net, x = relu_net(), pictures(1)
    net.register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])))
    integrated_gradients(net, x, 1, steps=100, batch_size=8)
    assert max(seen) == 8
    assert sum(seen) == 100  # one for each step; what is hooked is not learnt


def test_of_a_network_that_calls_view_on_a_map() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 4 * 5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.conv(x).relu().view(len(x), -1))  # type: ignore[no-any-return]

    net, x = Views().double(), pictures(3)
    with pytest.raises(RuntimeError, match="view size"):
        net(x.contiguous(memory_format=torch.channels_last))
    found = integrated_gradients(net, x, 1)
    flat = nn.Sequential(net.conv, nn.ReLU(), nn.Flatten(), net.last)
    torch.testing.assert_close(found, integrated_gradients(flat, x, 1), rtol=1e-11, atol=1e-13)


class Own(nn.Module):
    """Begins with steps that are linear for each picture, but not the same for all; then as `relu_net`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.rest = kind, relu_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = x.detach()
        if self.kind == "scaled by itself":
            x = x / d.std((1, 2, 3), keepdim=True)
        elif self.kind == "masked by itself":
            x = x * (d > 0.3)
        elif self.kind == "divides":
            x = torch.ones_like(x) / (x + 1)
        elif self.kind == "scaled from the left":
            x = d.std((1, 2, 3), keepdim=True) * x
        elif self.kind == "twice":
            x = x + 0.1 * x * x
        elif self.kind == "weights of its own":
            weight = d.mean((2, 3))[:, :, None, None, None].expand(-1, 3, 3, 1, 1).reshape(-1, 3, 1, 1)
            x = nn.functional.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, groups=len(x)).view_as(x)
        elif self.kind == "instance norm":
            x = (
                nn.functional.batch_norm(x, None, None, training=True)
                if len(x) == 1
                else torch.cat([nn.functional.batch_norm(one[None], None, None, training=True) for one in x])
            )
        return self.rest(x)  # type: ignore[no-any-return]


KINDS = [
    "plain",
    "scaled by itself",
    "scaled from the left",
    "masked by itself",
    "divides",
    "twice",
    "weights of its own",
    "instance norm",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "batch_size"), [(1, 8), (1, 1), (3, 3), (3, 16)])
def test_the_sum_before_the_first_step_is_the_sum_after_it(
    kind: str, n: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against gradients one by one: also of networks whose first steps only look linear."""
    net, x, target = Own(kind).eval(), pictures(n), [2, 4, 1][:n]
    places, weights = on_the_line("gauss-legendre", 6, "test")
    expected = torch.zeros_like(x)
    for i in range(n):
        for place, weight in zip(places, weights, strict=True):
            point = (place * x[i : i + 1]).requires_grad_()
            expected[i] += weight * torch.autograd.grad(net(point)[0, target[i]], point)[0][0]
    monkeypatch.setattr(fused, "OFTEN", 1)
    found = integrated_gradients(net, x, target, steps=6, batch_size=batch_size)
    torch.testing.assert_close(found, expected * x, rtol=1e-10, atol=1e-12)


def test_the_first_step_of_a_usual_network_is_done_at_the_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Network(relu_net(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).double(), pictures(1)
    begun: list[int] = []
    begin = Question.begin
    with monkeypatch.context() as patch:
        patch.setattr(Question, "begin", lambda self, x: (begun.append(len(x)), begin(self, x))[1])
        patch.setattr(Question, "gradient", None)  # of pixels: not to be asked for
        quick = integrated_gradients(net, x, 1)
    assert sum(begun) == 3  # the baseline, and the picture, once more to go back to its pixels
    monkeypatch.setattr(Question, "learn", lambda self, runs: None)
    torch.testing.assert_close(integrated_gradients(net, x, 1), quick, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quadrature": "simpson"}, "expected one of gauss-legendre"),
        ({"steps": 0}, "with 1 step or more"),
        ({"quadrature": "trapezoid", "steps": 1}, "trapezoid with 2"),
        ({"baseline": "noise"}, "noise"),
        ({"baseline": torch.zeros(2)}, "broadcasts"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_says_what_is_wrong(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        integrated_gradients(relu_net(), pictures(), 1, **settings)  # type: ignore[arg-type]


def test_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    net, x, target = relu_net().eval(), pictures(3), torch.tensor([1, 0, 4])
    rules = {"gauss-legendre": "gausslegendre", "trapezoid": "riemann_trapezoid", "midpoint": "riemann_middle"}
    for ours, theirs in rules.items():
        expected = captum.IntegratedGradients(net).attribute(x, x * 0 + 0.5, target=target, n_steps=30, method=theirs)
        found = integrated_gradients(net, x, target, baseline=0.5, steps=30, quadrature=ours)  # type: ignore[arg-type]
        if ours != "trapezoid":  # where captum weights the ends of 30 parts by 1/60, but has only 29
            torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-8)
