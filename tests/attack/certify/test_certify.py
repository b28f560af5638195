"""Bounds and certificates against closed forms, against points in the box, and against what they refuse."""

import copy

import pytest
import torch
import torch.nn.functional as F
from attack.nets import conv_net, draw, labels_of, linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.attack.certify import certify, interval_bounds, linear_bounds
from saccade.attack.certify.linear_bounds import check_method
from saccade.errors import SaccadeError
from saccade.networks import Network

METHODS = ("ibp", "crown-ibp", "crown")


class Odd(nn.Module):
    """A shortcut, slices, padding, all pools, a concatenation and functions in place."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(12, 3)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.conv1(x), 0.2, inplace=True)
        b = self.norm(self.conv2(a))
        b += a
        b = 1 - torch.relu_(b)
        pooled = F.max_pool2d(b, 3, 2, 1)
        sampled = F.pad(b[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        both = torch.cat([F.avg_pool2d(pooled, 2).view(x.size(0), -1), torch.tanh(sampled).mean((2, 3))], 1)
        both = torch.cat([both, F.adaptive_avg_pool2d(b, 1).flatten(1)[:, :2]], 1)
        return self.last(both)


def nets() -> dict[str, nn.Module]:
    inner = Odd()
    return {"odd": Network(inner, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval(), "conv": conv_net().float()}


NETS = nets()
SIDE = {"odd": 4, "conv": 8}


def corners(network: nn.Module, low: Tensor, high: Tensor, seed: int) -> Tensor:
    """Scores (M, N, classes) at random points, at random corners and at those that each score's gradient calls for."""
    some = [
        low + (high - low) * draw(*low.shape, seed=seed),
        torch.where(draw(*low.shape, seed=seed + 1) > 0.5, low, high),
    ]
    x = ((low + high) / 2).requires_grad_()
    scores = network(x)
    for k in range(scores.shape[1]):
        (gradient,) = torch.autograd.grad(scores[:, k].sum(), x, retain_graph=True)
        some += [torch.where(gradient > 0, high, low), torch.where(gradient > 0, low, high)]
    with torch.no_grad():
        return torch.stack([network(p.to(low)) for p in some])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), eps=st.sampled_from([0.0, 1e-4, 0.01, 0.2]), name=st.sampled_from(sorted(NETS)))
def test_no_point_of_the_box_beats_a_bound(seed: int, eps: float, name: str) -> None:
    network = NETS[name]
    x = draw(2, 3, SIDE[name], SIDE[name], seed=seed).float()
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    scores = corners(network, low, high, seed).double()  # of the network in its own float32
    loose = interval_bounds(network, low, high)
    for method in METHODS:
        near = linear_bounds(network, low, high, method=method)
        assert (near.lower >= loose.lower - 1e-9).all()
        assert (near.upper <= loose.upper + 1e-9).all()
        assert (scores >= near.lower).all()
        assert (scores <= near.upper).all()
        if eps == 0:
            assert (near.upper - near.lower).max() < 0.02
        labels = scores[0].argmax(1)
        found = certify(network, x, labels, eps, method=method)
        lead = scores.gather(2, labels.expand(len(scores), -1)[..., None]) - scores
        worst = lead.scatter(2, labels.expand(len(scores), -1)[..., None], torch.inf).amin((0, 2))
        assert (found.margins <= worst).all()
        assert torch.equal(found.certified, found.margins > 0)


@pytest.mark.parametrize("method", METHODS)
def test_linear_networks_are_bounded_exactly(method: str) -> None:
    network, x = linear(4), draw(5, 3, 4, 4, seed=2)
    labels, eps = labels_of(network, x), torch.tensor([0, 0.01, 0.05, 0.1, 0.5], dtype=torch.float64)
    low, high = (x - eps.view(-1, 1, 1, 1)).clamp(0, 1), (x + eps.view(-1, 1, 1, 1)).clamp(0, 1)
    weight, bias = network.weight.detach().flatten(1), network.bias.detach()
    worst = []
    for i, label in enumerate(labels.tolist()):
        leads = []
        for k in {*range(4)} - {label}:
            slope = weight[label] - weight[k]
            point = torch.where(slope > 0, low[i].flatten(), high[i].flatten())
            leads.append((slope @ point + bias[label] - bias[k]).item())
        worst.append(min(leads))
    found = certify(network, x, labels, eps, method=method, batch_size=2)
    torch.testing.assert_close(found.margins, torch.tensor(worst, dtype=torch.float64), rtol=0, atol=1e-10)
    assert found.certified.any()
    assert not found.certified.all()


@pytest.mark.parametrize("method", METHODS)
def test_rounding_in_the_network_is_allowed_for(method: str) -> None:
    """A box of one point: in float32 the scores are not those of exact arithmetic, and both are within the bounds."""
    plain = linear(4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 4)).requires_grad_(False).eval()
    network[1].weight.copy_(plain.weight.detach().flatten(1))
    network[3].weight.copy_(draw(4, 4, seed=5) + 100)
    x = draw(8, 3, 4, 4, seed=9).float()
    rounded = network(x).double()
    found = linear_bounds(network, x, x, method=method)
    exact = network.double()(x.double())
    assert (exact != rounded).any()
    for scores in (rounded, exact):
        assert (scores >= found.lower).all()
        assert (scores <= found.upper).all()


def test_the_rounding_of_a_deep_network_is_negligible_in_float64() -> None:
    """Fourteen layers, a box of one point: what is allowed for float32 adds up, in float64 it does not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [layer for _ in range(14) for layer in (nn.Linear(64, 64), nn.ReLU())]
        for layer in layers[::2]:
            nn.init.normal_(layer.weight, std=(2 / 64) ** 0.5)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), *layers, nn.Linear(64, 3)).eval()
    x = draw(1, 3, 4, 4).float()
    width = {}
    for name, one in (("float32", network), ("float64", copy.deepcopy(network).double())):
        found = interval_bounds(one, x, x)
        width[name] = (found.upper - found.lower).max().item()
    assert width["float32"] > 0.1
    assert width["float64"] < 1e-8 * width["float32"] * 2


def test_one_relu_has_the_lines_of_the_paper() -> None:
    """relu(x - 1/4) - x / 2 on [0, 1]: least -1/8; the line 0 below gives -1/2, the slope 1 (3/4 > 1/4) gives -1/4."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.ones(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([-0.25, 0]))
        net[3].weight.copy_(torch.tensor([[1, -0.5]]))
        net[3].bias.zero_()
    low, high = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    loose, near = interval_bounds(net, low, high), linear_bounds(net, low, high)
    torch.testing.assert_close([loose.lower.item(), loose.upper.item()], [-0.5, 0.75], atol=1e-9, rtol=0)
    # above: the chord 3/4 x - x / 2, highest at 1
    torch.testing.assert_close([near.lower.item(), near.upper.item()], [-0.25, 0.25], atol=1e-9, rtol=0)


def test_a_picture_does_not_depend_on_the_others() -> None:
    network, x = NETS["conv"], draw(4, 3, 8, 8).float()
    labels = labels_of(network, x)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    whole = certify(network, x, labels, 0.002)
    for rows in ([2], [3, 0]):
        torch.testing.assert_close(certify(network, x[rows], labels[rows], 0.002).margins, whole.margins[rows])
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in network.parameters())
    assert whole.certified.any()


class Body(nn.Module):
    def __init__(self, body) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.body = body
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def stale(x: Tensor) -> Tensor:
    y = x * 2 - 1
    view = y.flatten(1)
    y.relu_()
    return view


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.GELU()), "gelu.*1 \\(GELU\\)"),
        (Body(lambda x: (x * x).flatten(1)), "mul"),
        (Body(lambda x: F.relu(x - x.mean(0, keepdim=True)).flatten(1)), "mean"),
        (Body(lambda x: x.flatten(1).detach()), "detach"),
        (Body(lambda x: x.data.flatten(1)), "access"),
        (Body(lambda x: x.flatten(1) * (1 if x.sum((1, 2, 3))[:1] > 0 else 2)), "could not|Could not"),
        (Body(stale), "changed in place"),
        (Body(lambda x: torch.ones(len(x), 3)), "depend on its input"),
    ],
)
def test_what_has_no_bounds_is_named(network: nn.Module, says: str) -> None:
    x = draw(1, 3, 4, 4).float()
    with pytest.raises(SaccadeError, match=says):
        interval_bounds(network.eval(), x, x)


def test_wrong_questions_are_refused() -> None:
    network, x = NETS["conv"], draw(1, 3, 8, 8).float()
    with pytest.raises(SaccadeError, match="no method 'exact'"):
        check_method("exact", "certify")
    with pytest.raises(SaccadeError, match="eps"):
        certify(network, x, 0, -0.1)
    with pytest.raises(SaccadeError, match="no class 5"):
        certify(network, x, 5, 0.1)
    with pytest.raises(SaccadeError, match="expected a box"):
        interval_bounds(network, x, x - x / 2)
    with pytest.raises(SaccadeError, match="train mode"):
        certify(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), x, 0, 0.1)
