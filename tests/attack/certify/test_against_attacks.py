"""What certificates promise, held against attacks: none passes a bound, and none fools what is certified."""

import inspect

import pytest
import torch
from attack.nets import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack import ATTACKS, certify, linear_bounds, pgd
from saccade.attack.autoattack import autoattack
from saccade.attack.evaluate.suites import ask

pytestmark = pytest.mark.filterwarnings("ignore:.*the gradient was zero:saccade.attack.AttackWarning")  # a dead ReLU
METHODS = ("ibp", "crown-ibp", "crown")
WITHIN = [
    one
    for one in ATTACKS.values()
    if "linf" in one.norms and "eps" in inspect.signature(one.function).parameters and one.name != "linear"
]


def random_net(seed: int) -> nn.Sequential:
    """Kinds of layers, widths and weights by chance; scores spread so that classes are near each other."""
    g = torch.Generator().manual_seed(seed)
    width, hidden = (int(torch.randint(2, 6, (), generator=g)) for _ in range(2))
    activation = (nn.ReLU, lambda: nn.LeakyReLU(0.1), nn.Tanh)[seed % 3]
    pool = (nn.Identity, lambda: nn.AvgPool2d(2), lambda: nn.MaxPool2d(2))[seed // 3 % 3]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), activation(), pool(), nn.Flatten()]
        body = nn.Sequential(*first)
        body(draw(16, 3, 6, 6, dtype=torch.float32))  # statistics of its own
        size = body.eval()(draw(2, 3, 6, 6, dtype=torch.float32)).shape[1]
        net = nn.Sequential(*first, nn.Linear(size, hidden), activation(), nn.Linear(hidden, 3)).eval()
        scores = net(draw(64, 3, 6, 6, seed=seed, dtype=torch.float32))
        with torch.no_grad():
            net[-1].weight /= scores.std(0)[:, None]
            net[-1].bias.sub_(scores.mean(0)).div_(scores.std(0))
    return net


def leads(scores: Tensor, labels: Tensor) -> Tensor:
    """The lead of the label over the best other class."""
    own = F.one_hot(labels, scores.shape[1]).bool()
    return scores[own] - scores.masked_fill(own, -torch.inf).amax(1)


def lowest_lead(net: nn.Module, x: Tensor, labels: Tensor, eps: float, *, steps: int, starts: int) -> Tensor:
    """The least lead that plain ascent of the margin meets at any step, from random points of the box."""
    low, high, least = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1), torch.full((len(x),), torch.inf)
    for seed in range(starts):
        z = low + (high - low) * draw(*x.shape, seed=seed).float()
        for _ in range(steps):
            z.requires_grad_()
            lead = leads(net(z), labels)
            least = torch.minimum(least, lead.detach())
            (slope,) = torch.autograd.grad(lead.sum(), z)
            z = torch.minimum(torch.maximum(z.detach() - eps / 4 * slope.sign(), low), high)
        least = torch.minimum(least, leads(net(z), labels).detach())
    return least


@settings(max_examples=9, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), eps=st.sampled_from([0.003, 0.03, 0.1]))
def test_no_step_of_pgd_passes_a_bound(seed: int, eps: float) -> None:
    net, x = random_net(seed), draw(4, 3, 6, 6, seed=seed).float()
    with torch.no_grad():
        labels = net(x).argmax(1)
    reached = lowest_lead(net, x, labels, eps, steps=30, starts=3)
    lead = reached[:, None]
    for method in METHODS:
        found = certify(net, x, labels, eps, method=method)
        assert (found.margins <= reached).all()
        box = linear_bounds(net, (x - eps).clamp(0, 1), (x + eps).clamp(0, 1), method=method)
        own = F.one_hot(labels, 3).bool()
        worst = torch.where(own, box.lower, box.upper)
        most = F.cross_entropy(worst, labels, reduction="none")  # no picture of the box has a greater loss
        assert (leads(worst, labels)[:, None] <= lead).all()
        attacked = pgd(net, x, labels, eps=eps, steps=20)
        with torch.no_grad():
            assert (F.cross_entropy(net(attacked.adversarial).double(), labels, reduction="none") <= most + 1e-6).all()


@pytest.fixture(scope="module")
def middling() -> tuple[nn.Module, Tensor, Tensor, float]:
    """A network, pictures, labels, some of them wrong, and an eps at which some are certified and some fooled."""
    net, x = random_net(3), draw(12, 3, 6, 6, seed=1).float()
    with torch.no_grad():
        labels = net(x).argmax(1)
    labels[4] = (labels[4] + 1) % 3
    return net, x, labels, 0.008


@pytest.mark.parametrize("attack", WITHIN, ids=lambda one: one.name)
def test_no_attack_passes_a_certificate(attack, middling) -> None:
    net, x, labels, eps = middling
    found = certify(net, x, labels, eps)
    few = {key: 10 for key in ("steps", "queries", "max_iter") if key in inspect.signature(attack.function).parameters}
    result = ask(attack.set(**few), net, x, labels, norm="linf", eps=eps, seed=0)
    with torch.no_grad():
        lead = leads(net(result.adversarial), labels)
    assert (found.margins <= lead).all()
    assert not (found.certified & result.success).any()
    assert result.success[4]


def test_certified_within_autoattack_within_pgd(middling) -> None:
    net, x, labels, eps = middling
    proved = [certify(net, x, labels, eps, method=method).certified for method in METHODS]
    stands = ~autoattack(net, x, labels, eps=eps, mode="fast").success
    left = ~pgd(net, x, labels, eps=eps, steps=40).success
    for tighter, looser in zip((*proved[1:], stands, left), (*proved, stands), strict=True):
        assert (tighter | ~looser).all()
    assert proved[0].any()
    assert proved[-1].sum() < len(x) - 1
    assert not left.all()
