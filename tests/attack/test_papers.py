"""Every attack of the family against its paper written plainly: one picture after another, losses of PyTorch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of
from scipy.stats import norm as normal
from torch import Tensor
from torch.nn import functional as F

from saccade.attack import ATTACKS
from saccade.attack.gradient_attack import gradient_attack
from saccade.attack.spread import gaussian_kernel, spread
from saccade.attack.views import Diverse, Noise, Repeats, Scales
from saccade.engine.seeding import generator, mix

FAMILY = {name: attack for name, attack in ATTACKS.items() if attack.function is gradient_attack}
X = draw(12, 3, 8, 8)
Step = Callable[[Tensor], Tensor]
EPS_PAPER, STEPS = 0.3, 5
NETWORK = conv_net()
LABELS = labels_of(NETWORK, X)


def slope(x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Tensor:
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(NETWORK(leaf), y), leaf)
    return gradient


def ascend(x: Tensor, alpha: float, step: Step, start: Tensor | None = None, steps: int = STEPS) -> Tensor:
    """x + alpha * sign(step(x)), clipped to the ball and the box."""
    z = x if start is None else (x + start).clamp(x - EPS_PAPER, x + EPS_PAPER).clamp(0, 1)
    for _ in range(steps):
        z = z + alpha * step(z).sign()
        z = torch.max(torch.min(z, x + EPS_PAPER), x - EPS_PAPER).clamp(0, 1)
    return z


def momentum(y: Tensor, alpha: float, *, ahead: bool = False, of: Step | None = None) -> Step:
    """Dong and others 2018; Lin and others 2020, which looks where the momentum leads."""
    g = torch.zeros(1, 3, 8, 8, dtype=torch.float64)

    def step(z: Tensor) -> Tensor:
        nonlocal g
        at = z + alpha * 1.0 * g if ahead else z
        gradient = slope(at, y) if of is None else of(at)
        g = 1.0 * g + gradient / gradient.abs().mean()
        return g

    return step


def scale_invariant(y: Tensor) -> Step:
    def of(z: Tensor) -> Tensor:
        leaf = z.clone().requires_grad_()
        loss = sum(F.cross_entropy(NETWORK(leaf / 2**i), y) for i in range(5)) / 5
        return torch.autograd.grad(loss, leaf)[0]

    return of


def tuned(y: Tensor, alpha: float, ahead: bool) -> Step:
    """Wang and He 2021: the variance of the last step's neighbourhood corrects the gradient."""
    g, v, t = torch.zeros(1, 3, 8, 8, dtype=torch.float64), torch.tensor(0.0), 0

    def step(z: Tensor) -> Tensor:
        nonlocal g, v, t
        gradient = slope(z + alpha * g if ahead else z, y)
        near = mix(mix(0, 0, 1, t), 2)
        around = 0
        for i in range(5):
            r = torch.rand(3, 8, 8, dtype=torch.float64, generator=generator(near, i)) * 2 - 1
            around = around + slope(z + 1.5 * EPS_PAPER * r, y) / 5
        g = g + (gradient + v) / (gradient + v).abs().mean()
        v, t = around - gradient, t + 1
        return g

    return step


def gaussian() -> Tensor:
    """The kernel of Dong and others 2019, by SciPy as in their code."""
    line = torch.tensor(normal.pdf([-3 + 6 * i / 14 for i in range(15)]))
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def smoothed(y: Tensor) -> Step:
    kernel = gaussian()

    def of(z: Tensor) -> Tensor:
        gradient = F.pad(slope(z, y), (7, 7, 7, 7))
        found = torch.zeros_like(z)
        for i in range(8):
            for j in range(8):
                found[:, :, i, j] = (gradient[:, :, i : i + 15, j : j + 15] * kernel).sum((2, 3))
        return found

    return of


def patchwise(x: Tensor, y: Tensor, share: float, temperature: float) -> Tensor:
    """Gao and others 2020, as in their code; share is their project factor of the second paper."""
    kernel = torch.ones(3, 1, 3, 3, dtype=torch.float64) / 8
    kernel[:, :, 1, 1] = 0
    z, total, beta = x, torch.zeros_like(x), 10 * EPS_PAPER / STEPS
    for _ in range(STEPS):
        noise = slope(z, y, lambda scores, labels: F.cross_entropy(scores / temperature, labels))
        total = total + beta * noise.sign()
        cut = (total.abs() - EPS_PAPER).clamp(0, 10000) * total.sign()
        projection = share * beta * F.conv2d(cut, kernel, padding=1, groups=3).sign()
        total = total + projection
        z = z + beta * noise.sign() + projection
        z = torch.max(torch.min(z, x + EPS_PAPER), x - EPS_PAPER).clamp(0, 1)
    return z


def normal_noise(seed: int) -> Tensor:
    return torch.randn(3, 8, 8, dtype=torch.float64, generator=generator(seed))


START = mix(0, 0, 0)
UNIFORM = EPS_PAPER * (2 * torch.rand(3, 8, 8, dtype=torch.float64, generator=generator(START)) - 1)


def trades(x: Tensor, y: Tensor) -> Tensor:
    clean = NETWORK(x).detach()

    def step(z: Tensor) -> Tensor:
        return slope(z, y, lambda s, _: F.kl_div(s.log_softmax(1), clean.softmax(1), reduction="sum"))

    return ascend(x, 2.5 * EPS_PAPER / STEPS, step, 0.001 * normal_noise(START))


def smooth_adv(x: Tensor, y: Tensor) -> Tensor:
    """Salman and others 2019: the cross entropy of the mean probability under noise."""
    t = 0

    def step(z: Tensor) -> Tensor:
        nonlocal t
        drawn = generator(mix(0, 0, 1, t), 0)
        noise = [torch.randn(3, 8, 8, dtype=torch.float64, generator=drawn) for _ in range(5)]
        leaf, t = z.clone().requires_grad_(), t + 1
        mean = sum(NETWORK(leaf + 0.5 * n).softmax(1)[:, y] for n in noise) / 5
        return torch.autograd.grad(-mean.log().sum(), leaf)[0]

    return ascend(x, 2.5 * EPS_PAPER / STEPS, step, UNIFORM)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """PGD in L2; on a picture that no border is near, projection is scaling."""
    z = x
    for _ in range(STEPS):
        gradient = slope(z, y)
        change = z + 0.1 * gradient / gradient.norm() - x
        z = x + change * min(1.0, EPS_PAPER / change.norm().item())
    return z


A = EPS_PAPER / STEPS
PAPERS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], dict[str, Any]]] = {
    "fgsm": (lambda x, y: (x + EPS_PAPER * slope(x, y).sign()).clamp(0, 1), {"steps": 1}),
    "r-fgsm": (
        lambda x, y: ascend(x, EPS_PAPER / 2, lambda z: slope(z, y), EPS_PAPER / 2 * normal_noise(START).sign(), 1),
        {"steps": 1},
    ),
    "ff-gsm": (lambda x, y: ascend(x, 1.25 * EPS_PAPER, lambda z: slope(z, y), UNIFORM, 1), {"steps": 1}),
    "bim": (lambda x, y: ascend(x, 1.25 * A, lambda z: slope(z, y)), {}),
    "pgd": (lambda x, y: ascend(x, 2.5 * A, lambda z: slope(z, y), UNIFORM), {}),
    "pgd-l2": (euclidean, {"start": "picture", "alpha": 0.1}),
    "eot-pgd": (lambda x, y: ascend(x, 2.5 * A, lambda z: slope(z, y), UNIFORM), {}),
    "tpgd": (trades, {}),
    "pgd-rs": (smooth_adv, {}),
    "upgd": (
        lambda x, y: ascend(
            x,
            2.5 * A,
            momentum(y, 0, of=lambda z: slope(z, y, lambda s, t: F.multi_margin_loss(s, t, margin=1e6))),
        ),
        {"loss": lambda s, aim: F.multi_margin_loss(s, aim.labels, margin=1e6, reduction="none")},
    ),
    "mi-fgsm": (lambda x, y: ascend(x, A, momentum(y, A)), {}),
    "ni-fgsm": (lambda x, y: ascend(x, A, momentum(y, A, ahead=True)), {}),
    "si-ni-fgsm": (lambda x, y: ascend(x, A, momentum(y, A, ahead=True, of=scale_invariant(y))), {}),
    "vmi-fgsm": (lambda x, y: ascend(x, A, tuned(y, A, False)), {}),
    "vni-fgsm": (lambda x, y: ascend(x, A, tuned(y, A, True)), {}),
    "ti-fgsm": (lambda x, y: ascend(x, EPS_PAPER, smoothed(y), steps=1), {"steps": 1}),
    "ti-mi-fgsm": (lambda x, y: ascend(x, A, momentum(y, A, of=smoothed(y))), {}),
    "pi-fgsm": (lambda x, y: patchwise(x, y, 1.0, 1.0), {}),
    "pi-fgsm-plus-plus": (lambda x, y: patchwise(x, y, 0.8, 1.5), {}),
}


@pytest.mark.parametrize("name", list(PAPERS))
def test_agrees_with_its_paper(name: str) -> None:
    paper, settings = PAPERS[name]
    x = 0.45 + 0.1 * X if name == "pgd-l2" else X
    labels = labels_of(NETWORK, x)
    found = ATTACKS[name](NETWORK, x, labels, **{"eps": EPS_PAPER, "steps": STEPS, "stop": False, **settings})
    assert found.success.sum() >= 4
    for i in range(len(x)):
        if found.success[i]:
            expected = paper(x[i : i + 1], labels[i : i + 1])
            torch.testing.assert_close(found.adversarial[i], expected[0], rtol=0, atol=1e-6)


def test_every_attack_of_the_family_is_compared_or_made_of_those_that_are() -> None:
    assert set(FAMILY) - set(PAPERS) == {"pgd-l1", "jitter", "di-fgsm", "m-di-fgsm", "ti-dim"}


def test_diverse_inputs_are_smaller_pictures_somewhere_on_black() -> None:
    x = draw(2, 3, 20, 30) * 0.5 + 0.5
    corners, kept = set(), 0
    for seed in range(200):
        (shown,) = Diverse(0.5, 0.8)(x, generator(seed))
        assert shown.shape == x.shape
        inside = shown[0, 0] > 0
        down, right = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        h, w = len(down), len(right)
        top, left = int(down[0]), int(right[0])
        assert inside[top : top + h, left : left + w].all()
        assert 16 <= h <= 20
        assert 24 <= w <= 30
        small = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)
        torch.testing.assert_close(shown[:, :, top : top + h, left : left + w], small)
        kept += torch.equal(shown, x)
        corners.add((top, left, h, w))
    assert 80 <= kept <= 140  # with probability a half nothing is done, and a side of 20 of 20 is drawn too
    assert {c[0] for c in corners} == set(range(5))
    assert min(c[2] for c in corners) == 16
    (same,) = Diverse(0.0)(x, generator(0))
    assert torch.equal(same, x)


def test_diverse_inputs_change_the_attack() -> None:
    plain = ATTACKS["mi-fgsm"](NETWORK, X, LABELS, eps=EPS_PAPER)
    for name in ("m-di-fgsm", "ti-dim"):
        assert not torch.equal(ATTACKS[name](NETWORK, X, LABELS, eps=EPS_PAPER).adversarial, plain.adversarial)
    never = ATTACKS["mi-fgsm"](NETWORK, X, LABELS, eps=EPS_PAPER, views=(Diverse(0.0),))
    assert torch.equal(never.adversarial, plain.adversarial)


def test_spreading() -> None:
    values = torch.zeros(1, 2, 5, 5, dtype=torch.float64)
    values[0, 1, 2, 2] = 1
    kernel = draw(3, 3)
    found = spread(values, kernel)
    assert not found[0, 0].any()
    torch.testing.assert_close(found[0, 1, 1:4, 1:4], kernel.flip(0, 1))
    torch.testing.assert_close(gaussian_kernel(15, 3.0), gaussian())


def test_views() -> None:
    x = draw(2, 3, 4, 4)
    assert [torch.equal(v, x) for v in Repeats(3)(x, generator(0))] == [True] * 3
    assert [torch.equal(v, x / k) for v, k in zip(Scales(3)(x, generator(0)), (1, 2, 4), strict=True)] == [True] * 3
    noisy = torch.stack(list(Noise(400, 0.5)(x, generator(0)))) - x
    torch.testing.assert_close(noisy[:, 0], noisy[:, 1])
    assert noisy.std().item() == pytest.approx(0.5, abs=0.02)
