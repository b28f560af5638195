"""Rules of gradients through ReLUs, however a network writes them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.networks.relu_rules import Rule, relus, ruled_gradient

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "in place": lambda x: F.relu_(x.clone()),
    "method": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "ReLU6": nn.ReLU6(),  # nothing here reaches 6
}
UP, BACK = torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor([0.5, -1.0, -2.0, 3.0])
PICTURE = torch.tensor([1.0, -1.0, 1.0, -1.0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("guided", [0.5, 0.0, 0.0, 0.0]),  # where the input and the gradient are positive
        ("deconvnet", [0.5, 0.0, 0.0, 6.0]),  # where the gradient is
    ],
)
def test_by_hand(way: str, rule: Rule, expected: list[float]) -> None:
    x = PICTURE.clone().requires_grad_()
    score = (BACK * WAYS[way](UP * x)).sum()
    assert len(relus(score)) == 1
    found = ruled_gradient(score, x, rule)
    assert found.tolist() == expected
    assert not found.requires_grad
    assert x.grad is None


def test_a_relu_used_twice_follows_the_rule_twice() -> None:
    relu = nn.ReLU(inplace=True)
    x = torch.tensor([1.0, 1.0]).requires_grad_()
    score = (torch.tensor([1.0, -1.0]) * relu(torch.tensor([[1.0, 1.0], [-1.0, 2.0]]) @ relu(x * 1))).sum()
    # the second lets [1, 0] through, so that the first row comes back: [1, 1]
    assert ruled_gradient(score, x, "guided").tolist() == [1.0, 1.0]


@pytest.mark.parametrize("other", [F.gelu, F.silu, torch.tanh, lambda x: x.clamp(max=2.0), lambda x: x.clamp(min=-5.0)])
def test_other_functions_keep_their_gradient(other: Callable[[Tensor], Tensor]) -> None:
    x = PICTURE.clone().requires_grad_()
    (expected,) = torch.autograd.grad((BACK * other(UP * x)).sum(), x)
    score = (BACK * other(UP * x)).sum()
    assert relus(score) == []
    assert torch.equal(ruled_gradient(score, x, "guided"), expected)


@pytest.mark.parametrize(("rule", "name"), [("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_captum(rule: Rule, name: str) -> None:
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip
    net = net.double().eval()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64).requires_grad_()
    found = ruled_gradient(net(x)[:, 2], x, rule)
    torch.testing.assert_close(found, getattr(attr, name)(net).attribute(x, target=2), rtol=0, atol=0)
