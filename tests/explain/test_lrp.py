"""Layer-wise relevance propagation against the papers' sums written out unit by unit, and its conservation."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.lrp import lrp
from saccade.networks import Network, build

RULES = ("composite", "epsilon", "gamma", "alpha-beta")


def pictures(n: int, h: int = 4, w: int = 4) -> Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def dense(*widths: int, activation: type[nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1], bias=bias), activation()]
    return nn.Sequential(*layers[:-1]).double()


# ---- The rules by hand: a unit y = sum_i a_i w_i + b of relevance R, its share for each a_i ------------------------


def hand_epsilon(a: list[float], w: list[float], b: float, e: float) -> list[float]:
    y = sum(p * q for p, q in zip(a, w, strict=True)) + b
    return [p * q / (y + (e if y >= 0 else -e)) for p, q in zip(a, w, strict=True)]


def hand_gamma(a: list[float], w: list[float], b: float, gamma: float) -> list[float]:
    """Montavon's formula, which is for a >= 0, on weights; where y < 0, for which he has none, the mirror image."""
    terms = [p * q for p, q in zip(a, w, strict=True)]
    sign = 1 if sum(terms) + b > 0 else -1
    raised = [t + gamma * (t if t * sign > 0 else 0) for t in [*terms, b]]
    return [t / sum(raised) for t in raised[:-1]]


def hand_alpha_beta(a: list[float], w: list[float], b: float, alpha: float, beta: float) -> list[float]:
    terms = [p * q for p, q in zip(a, w, strict=True)]
    positive = sum(t for t in [*terms, b] if t > 0)
    negative = sum(t for t in [*terms, b] if t < 0)
    return [alpha * t / positive if t > 0 else -beta * t / negative if t < 0 else 0.0 for t in terms]


def hand_box(a: list[float], w: list[float], low: float, high: float) -> list[float]:
    terms = [p * q - low * max(q, 0) - high * min(q, 0) for p, q in zip(a, w, strict=True)]
    return [t / sum(terms) for t in terms]


Matrix = tuple[Tensor, Tensor]
"""A layer as a matrix (outputs, inputs) and its bias."""


def by_hand(
    matrices: Sequence[Matrix], f: Callable[[Tensor], Tensor], a: Tensor, target: int, **settings: object
) -> Tensor:
    """Relevance of the inputs `a` (I,) of a chain of layers with `f` between them, by loops over units."""
    rule, low, high = settings.get("rule", "epsilon"), settings.get("low", 0.0), settings.get("high", 1.0)
    inputs, outputs = [], []
    for i, (weight, bias) in enumerate(matrices):
        inputs.append(a)
        outputs.append(weight @ a + bias)
        a = f(outputs[-1]) if i < len(matrices) - 1 else outputs[-1]
    relevance = torch.zeros_like(a)
    relevance[target] = a[target]
    for i in reversed(range(len(matrices))):
        weight, bias = matrices[i]
        below = torch.zeros_like(inputs[i])
        used = rule
        if rule == "composite":
            used = "box" if i == 0 else "gamma" if i < len(matrices) / 2 else "epsilon"
        e = float(settings.get("epsilon", 0.25)) * float((outputs[i] ** 2).mean().sqrt())  # type: ignore[arg-type]
        for j in range(len(weight)):
            given = inputs[i].tolist(), weight[j].tolist(), float(bias[j])
            if used == "epsilon":
                shares = hand_epsilon(*given, e)
            elif used == "gamma":
                shares = hand_gamma(*given, float(settings.get("gamma", 0.25)))  # type: ignore[arg-type]
            elif used == "box":
                shares = hand_box(*given[:2], low, high)  # type: ignore[arg-type]
            else:
                shares = hand_alpha_beta(*given, settings.get("alpha", 2.0), settings.get("beta", 1.0))  # type: ignore[arg-type]
            below += relevance[j] * torch.tensor(shares, dtype=torch.float64)
        relevance = below
    return relevance


def matrix_of(layer: nn.Module, shape: tuple[int, ...]) -> Matrix:
    """Any affine layer as a matrix, by what it does to each unit vector."""
    with torch.no_grad():
        layer.eval()
        size = int(torch.tensor(shape).prod())
        bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        columns = layer(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1) - bias
        return columns.T.contiguous(), bias


SETTINGS: list[dict[str, object]] = [
    {"rule": "epsilon", "epsilon": 0.0},
    {"rule": "epsilon"},
    {"rule": "epsilon", "epsilon": 2.0},
    {"rule": "gamma"},
    {"rule": "gamma", "gamma": 3.0},
    {"rule": "gamma", "gamma": 0.0},
    {"rule": "alpha-beta"},
    {"rule": "alpha-beta", "alpha": 1.0, "beta": 0.0},
    {"rule": "alpha-beta", "alpha": 3.5, "beta": 2.5},
    {"rule": "composite"},
    {"rule": "composite", "epsilon": 0.5, "gamma": 0.1},
]
settings = pytest.mark.parametrize("given", SETTINGS, ids=lambda given: " ".join(map(str, given.values())))


@settings
@pytest.mark.parametrize(("activation", "f"), [(nn.ReLU, torch.relu), (nn.GELU, nn.functional.gelu)])
def test_agrees_with_sums_by_hand(
    given: dict[str, object], activation: type[nn.Module], f: Callable[[Tensor], Tensor]
) -> None:
    network, x = dense(48, 16, 12, 14, 4, activation=activation), pictures(2)
    network[-1].bias.data += 1
    target = network(x).argmax(1).tolist()  # above zero: alpha-beta would find no positive terms in the others
    found = lrp(network, x, target, **given)  # type: ignore[arg-type]
    matrices = [(p.weight.detach(), p.bias.detach()) for p in network if isinstance(p, nn.Linear)]
    for i in range(2):
        expected = by_hand(matrices, f, x[i].flatten(), target[i], **given)
        torch.testing.assert_close(found[i].flatten(), expected, rtol=1e-9, atol=1e-13)


@settings
def test_agrees_by_hand_with_normalised_pixels_convolutions_and_norms(given: dict[str, object]) -> None:
    """The norms are parts of their convolutions, and the normalised pixels, some of them negative, are the inputs."""
    torch.manual_seed(4)
    convs = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 2, stride=2, bias=False, groups=2), nn.Conv2d(4, 3, 2)]
    norms = [nn.BatchNorm2d(4), nn.BatchNorm2d(4)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.normal_(norm.bias)
    folded = [nn.Sequential(conv, norm).double() for conv, norm in zip(convs, norms, strict=False)]
    module = nn.Sequential(folded[0], nn.ReLU(), folded[1], nn.ReLU(), convs[2].double(), nn.Flatten())
    x = pictures(2)
    network = Network(module, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).double()
    found = lrp(network, x, 1, **given)  # type: ignore[arg-type]
    shapes = [(3, 4, 4), (4, 4, 4), (4, 2, 2)]
    matrices = [matrix_of(layer, shape) for layer, shape in zip([*folded, convs[2]], shapes, strict=True)]
    for i in range(2):
        inside = (x[i].flatten() - 0.5) / 0.25
        expected = by_hand(matrices, torch.relu, inside, 1, low=-2.0, high=2.0, **given)
        torch.testing.assert_close(found[i].flatten(), expected, rtol=1e-9, atol=1e-13)


def test_of_a_linear_network_it_is_weight_times_picture() -> None:
    x, layer = pictures(3), nn.Linear(48, 5).double()
    found = lrp(nn.Sequential(nn.Flatten(), layer), x, [4, 0, 2], rule="epsilon", epsilon=0)
    torch.testing.assert_close(found, layer.weight.detach()[[4, 0, 2]].view(3, 3, 4, 4) * x, rtol=1e-12, atol=1e-14)


def unbiased(network: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    for layer in network.double().modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, -0.5, 2)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
    return network


NETWORKS = {
    "tinynet": ({"num_classes": 6, "widths": (8, 12), "units": (2, 1)}, 16),
    "squeezenet1_1": ({"num_classes": 6}, 40),
    "resnet32": ({"num_classes": 6}, 12),
    "resnet47": ({"num_classes": 6}, 12),
    "cifar-resnet20": ({"num_classes": 6}, 16),
    "resnet18": ({"num_classes": 6}, 33),
    "fast": ({"num_classes": 6, "widths": (8, 8, 8), "activation": "relu"}, 12),
    "three-layer-convnet": ({"num_classes": 6}, 32),
}


@pytest.mark.parametrize("rule", ["composite", "epsilon", "gamma"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sums_to_the_score_without_biases(name: str, rule: str) -> None:
    keywords, side = NETWORKS[name]
    torch.manual_seed(0)
    network = Network(unbiased(build(name, **keywords)), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)).double()
    x = pictures(2, side, side)
    with torch.no_grad():
        scores = network.eval()(x)
    target = scores.abs().argmax(1)  # SqueezeNet's are 0 for many classes
    found = lrp(network, x, target, rule=rule, epsilon=1e-13)
    torch.testing.assert_close(found.flatten(1).sum(1), scores.gather(1, target[:, None])[:, 0], rtol=1e-6, atol=1e-9)
    assert scores.abs().amax(1).min() > 1e-6


def test_epsilon_takes_relevance_away_and_zero_epsilon_is_gradient_times_input() -> None:
    network, x = dense(48, 9, 7, 4, bias=False), pictures(2)
    inside = x.clone().requires_grad_()
    score = network(inside)[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), inside)
    torch.testing.assert_close(lrp(network, x, 1, rule="epsilon", epsilon=0), gradient * x, rtol=1e-9, atol=1e-12)
    sums = [lrp(network, x, 1, rule="epsilon", epsilon=e).flatten(1).sum(1) / score.detach() for e in (0.1, 1.0, 10.0)]
    assert (sums[0] < 1).all()
    assert (sums[1] < sums[0]).all()
    assert (sums[2] < sums[1]).all()


def test_an_addition_shares_in_proportion() -> None:
    """relu(A x) + x, then a linear layer: the relevance of the sum goes to both, by their values."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.inner, self.last = nn.Linear(48, 48, bias=False).double(), nn.Linear(48, 3, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.last(torch.relu(self.inner(x)) + x)

    network, x = Residual(), pictures(1)
    found = lrp(network, x, 1, rule="alpha-beta", alpha=1, beta=0)[0].flatten()
    flat, a, w = x.flatten(), network.inner.weight.detach(), network.last.weight.detach()
    inner = torch.relu(a @ flat)
    total = inner + flat
    top = (w[1] * total).clamp(min=0)
    of_total = (w @ total)[1] * top / top.sum()
    of_inner, expected = of_total * inner / total, of_total * flat / total
    for j in range(48):
        up = (a[j] * flat).clamp(min=0)
        expected = expected + of_inner[j] * up / up.sum()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.sum(), (w @ total)[1], rtol=1e-9, atol=0)


def test_a_maximum_passes_all_to_the_largest_and_an_average_in_proportion() -> None:
    class Pools(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            largest = nn.functional.max_pool2d(x[:, :1], 2).flatten(1).sum(1)
            average = x[:, 1].mean((1, 2))
            return torch.stack([largest, average, x[:, 2].amax((1, 2))], 1)

    x = pictures(1)
    x[0, 0] = torch.tensor([[3.0, 1.0, 5.0, 4.0], [0.0, 2.0, 1.0, 0.0], [6.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.0, 8.0]])
    expected = torch.zeros(3, 3, 4, 4).double()
    for row, column in ((0, 0), (0, 2), (2, 0), (3, 3)):
        expected[0, 0, row, column] = x[0, 0, row, column]
    expected[1, 1] = x[0, 1] / 16
    place = int(x[0, 2].argmax())
    expected[2, 2].view(-1)[place] = x[0, 2].max()
    for target in range(3):
        torch.testing.assert_close(lrp(Pools(), x, target)[0], expected[target], rtol=1e-12, atol=1e-14)


def test_a_norm_that_stands_alone_follows_epsilon() -> None:
    """Two channels, y = scale * x + shift, averaged to the score of one of them."""
    norm = nn.BatchNorm2d(4, eps=0).double()
    norm.weight.data, norm.bias.data = (
        torch.tensor([2.0, -1.0, 1.0, 3.0]).double(),
        torch.tensor([0.5, 3.0, 0, 1]).double(),
    )

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(torch.cat([x, x[:, :1]], 1).sqrt()).mean((2, 3))

    x = pictures(1, 2, 2)
    a = torch.cat([x, x[:, :1]], 1)[0].sqrt()
    y = norm.weight.detach()[:, None, None] * a + norm.bias.detach()[:, None, None]
    e = 0.25 * y.square().mean().sqrt()
    expected = (y[1] / 4) * (-1.0 * a[1]) / (y[1] + e * y[1].sign())
    for rule in RULES:
        found = lrp(Late(), x, 1, rule=rule)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(found[1], expected, rtol=1e-9, atol=1e-12)
        assert not found[0].any()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha-beta"])
def test_agrees_with_captum(rule: str) -> None:
    attr = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 4, bias=False),
    ).double()  # fmt: skip
    x = pictures(3, 10, 10)
    target = network(x).argmax(1)  # a score above zero, for which both follow the papers
    made = {"epsilon": rules.EpsilonRule, "gamma": rules.GammaRule, "alpha-beta": rules.Alpha1_Beta0_Rule}[rule]
    for layer in network:
        layer.rule = made() if isinstance(layer, nn.Conv2d | nn.Linear) else rules.EpsilonRule()
    expected = attr.LRP(network).attribute(x.clone().requires_grad_(), target=target).detach()
    found = lrp(network, x, target, rule=rule, epsilon=1e-12, alpha=1, beta=0)  # type: ignore[arg-type]
    assert expected.abs().amax() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)  # its divisions are off by 1e-9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "z-plus"}, "there are composite, epsilon"),
        ({"epsilon": -1.0}, "0 or more"),
        ({"gamma": -0.1}, "0 or more"),
        ({"alpha": 2.0, "beta": 0.0}, "alpha - beta must be 1"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_says_which_setting_is_wrong(given: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        lrp(dense(48, 4), pictures(1), 0, **given)  # type: ignore[arg-type]
