"""Networks whose best attacks are known, and small ones that are as awkward as real ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from saccade.attack import Result


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers in [0, 1]."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Linear(nn.Module):
    """Scores are scale * (weight (classes, C, H, W) times picture + bias) + shift."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.zeros(len(weight)).to(weight) if bias is None else bias.clone())
        self.scale, self.shift = scale, shift
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x.flatten(1) @ self.weight.flatten(1).T + self.bias) + self.shift


def linear(
    classes: int = 2, shape: tuple[int, int, int] = (3, 4, 4), *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Linear:
    """A random linear network whose scores of mid-grey are all zero, so that labels are mixed."""
    weight = draw(classes, *shape, seed=seed) - 0.5
    return Linear(weight, -weight.flatten(1).sum(1) / 2).to(dtype)


def conv_net(
    classes: int = 5, *, channels: int = 3, side: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64
) -> nn.Sequential:
    """Batch norm with statistics of its own, an in-place ReLU, a strided convolution, dropout; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.Softplus(beta=5),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * ((side - 1) // 2) ** 2, classes),
        ).double()
        with torch.no_grad():
            x = draw(64, channels, side, side)
            net(x)
            said = net.eval()(x)
            net[-1].weight /= said.std(0)[:, None]  # every class is said of some noise
            net[-1].bias.sub_(said.mean(0)).div_(said.std(0))
    return net.to(dtype)


def labels_of(network: nn.Module, x: Tensor) -> Tensor:
    """What a network says of pictures."""
    with torch.no_grad():
        said: Tensor = network(x).argmax(1)
    return said


ORDER = {"linf": float("inf"), "l2": 2, "l1": 1, "l0": 0}


def sizes(change: Tensor, norm: str) -> Tensor:
    """The norm of each change, by its definition."""
    return torch.linalg.vector_norm(change.double().flatten(1), ORDER[norm], dim=1)


def optimum(network: Linear, x: Tensor, labels: Tensor, norm: str, mask: Tensor | None = None) -> Tensor:
    """The least size of a change within [0, 1] that a linear network is fooled by; infinite where none does.

    For each other class, by bisection for the multiplier (linf, l2), or by spending on one value after the other.
    """
    weight = network.weight.detach().double().flatten(1)
    lead = (network.weight.flatten(1) @ x.flatten(1).T).T.double() + network.bias.double()
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for i, (picture, label) in enumerate(zip(x.double().flatten(1), labels.tolist(), strict=True)):
        for other in range(len(weight)):
            if other == label:
                continue
            slope = weight[other] - weight[label]
            need = (lead[i, label] - lead[i, other]).item()
            room = torch.where(slope > 0, 1 - picture, picture)
            if mask is not None:
                room = room * mask.expand(x.shape[1:]).flatten()
            slope = slope.abs()
            if (slope * room).sum() <= need:
                continue
            if norm in ("linf", "l2"):
                low, high = 0.0, 1e6
                for _ in range(100):
                    t = (low + high) / 2
                    change = torch.minimum(torch.full_like(room, t) if norm == "linf" else t * slope, room)
                    low, high = (low, t) if (change * slope).sum() >= need else (t, high)
                size = change.norm(ORDER[norm]).item()
            else:
                order = (slope if norm == "l1" else slope * room).argsort(descending=True).tolist()
                size = 0.0
                for j in order:
                    gained = (slope[j] * room[j]).item()
                    if gained >= need:
                        size += 1 if norm == "l0" else need / slope[j].item()
                        break
                    size, need = size + (1 if norm == "l0" else room[j].item()), need - gained
            best[i] = min(best[i].item(), size)
    return best


LINEAR = [
    (2, 1.0, 0.0, False),
    (2, 1000.0, -100.0, True),
    (3, 1.0, 100.0, True),
    (5, 1000.0, 100.0, False),
    (10, 1.0, -100.0, False),
    (10, 1000.0, 100.0, True),
]
"""Linear networks to meet the optimum of: classes, scale and shift of the scores, pictures of zeros and ones."""


def ratios(
    attack: Callable[..., Result],
    norm: str,
    classes: int,
    *,
    scale: float = 1.0,
    shift: float = 0.0,
    binary: bool = False,
    count: int = 24,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Tensor:
    """How much longer than it must be each change is that an attack finds on a linear network; infinite without one.

    binary: all values of the pictures are 0 or 1.
    """
    plain = linear(classes)
    network = Linear(plain.weight.detach(), plain.bias.detach(), scale=scale, shift=shift).to(dtype)
    x = draw(count, 3, 4, 4, seed=7).to(dtype)
    x = (x > 0.5).to(dtype) if binary else x
    labels = labels_of(network, x)
    found = attack(network, x, labels, **settings)
    assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
    torch.testing.assert_close(found.norm.double(), sizes(found.adversarial.double() - x.double(), norm))
    least = optimum(network, x, labels, norm)
    assert torch.isfinite(least).all()
    return torch.where(found.success, found.norm.double(), torch.inf) / least


def keeps_the_promises_of_minimum_norms(
    attack: Callable[..., Result],
    norm: str,
    *,
    least: int = 6,
    targeted: bool = True,
    weak: dict[str, Any] | None = None,
) -> None:
    """What holds of every attack that seeks a small change: at least `least` of ten pictures are fooled.

    weak: settings with which it fails.
    """
    network = conv_net().float()
    x = draw(12, 3, 8, 8)
    x[:4] = (x[:4] > 0.5).double()
    x = x.float()
    labels = labels_of(network, x)
    labels[5], labels[9] = (labels[5] + 1) % 5, (labels[9] + 2) % 5  # wrong before
    given = x.clone()

    def run(rows: Tensor, on: nn.Module = network, **settings: Any) -> Result:
        return attack(on, x[rows], labels[rows], **settings)

    everyone = torch.arange(12)
    found = run(everyone)
    assert torch.equal(x, given)
    assert found.adversarial.dtype == torch.float32
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    assert torch.equal(labels_of(network, found.adversarial) != labels, found.success)
    torch.testing.assert_close(found.norm.double(), sizes(found.adversarial.double() - x.double(), norm))
    for wrong in (5, 9):
        assert torch.equal(found.adversarial[wrong], x[wrong])
        assert found.success[wrong]
        assert (found.forwards[wrong], found.backwards[wrong]) == (1, 0)
    assert torch.equal(found.adversarial[~found.success], x[~found.success])
    assert found.success.sum() >= 2 + least

    order = torch.tensor([3, 11, 5, 0, 8, 1, 10, 2, 9, 4, 7, 6])
    for other, rows in ((run(everyone, batch_size=5), everyone), (run(order), order), (run(order[:1]), order[:1])):
        assert torch.equal(other.success, found.success[rows])
        torch.testing.assert_close(other.norm, found.norm[rows], rtol=0.02, atol=1e-6)
        torch.testing.assert_close(other.forwards.double(), found.forwards[rows].double(), rtol=0.02, atol=0)

    mask = torch.zeros(8, 8)
    mask[1:7, 2:8] = 1
    region = run(everyone, mask=mask)
    assert not ((region.adversarial != x) & (mask == 0)).any()
    assert region.success.sum() >= least / 2 + 2
    mixed = run(torch.tensor([5, 9]))
    assert mixed.success.all()
    assert torch.equal(mixed.adversarial, x[[5, 9]])

    last = run(everyone, on=conv_net().float().to(memory_format=torch.channels_last))
    assert torch.equal(last.success, found.success)
    half = conv_net().to(torch.bfloat16)
    with torch.no_grad():
        said = half(x.bfloat16()).argmax(1)
    blunt = attack(half, x, said)
    assert blunt.adversarial.dtype == torch.float32
    assert blunt.success.sum() >= least / 2
    with torch.no_grad():
        assert torch.equal(half(blunt.adversarial.bfloat16()).argmax(1) != said, blunt.success)

    if weak is not None:
        failed = run(everyone, **weak)
        assert failed.success.tolist() == [i in (5, 9) for i in range(12)]
        assert torch.equal(failed.adversarial, x)
        assert not failed.norm.any()
    if targeted:
        with torch.no_grad():
            wanted = network(x).topk(2, dim=1).indices[:, 1]
        wanted[5] = labels[5]  # which is not said
        aimed = run(everyone, targets=wanted) if len(wanted) else found
        assert torch.equal(labels_of(network, aimed.adversarial) == wanted, aimed.success)
        assert aimed.success.sum() >= least
        one = attack(network, x[:3], labels[:3], targets=2)
        assert torch.equal(labels_of(network, one.adversarial) == 2, one.success)
