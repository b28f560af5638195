"""Step sizes against airbench's rule, the orthogonalisation against singular values, the groups one by one."""

import pytest
import torch
from torch import nn

from saccade.train.optimisers import Muon, decoupled, optimisers, orthogonalised, set_rate
from saccade.train.recipe import Recipe


def make(**changes):
    return Recipe("test", "tinynet", "none", **changes)


def test_decoupled_takes_the_same_steps_as_airbench():
    """airbench94.py divides by 1024 * (1 + 1 / (1 - momentum)) and sums the loss over the batch; here it is a mean."""
    lr, weight_decay, momentum, batch = 11.5, 0.0153, 0.85, 12
    kilostep = 1024 * (1 + 1 / (1 - momentum))
    their_lr, their_decay = lr / kilostep, weight_decay * batch / kilostep
    our_lr, our_decay = decoupled(lr, weight_decay, momentum, batch)
    data = torch.randn(5, batch, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours = nn.Parameter(torch.ones(3, dtype=torch.float64))
    settings = {"momentum": momentum, "nesterov": True}
    first = torch.optim.SGD([theirs], lr=their_lr, weight_decay=their_decay / their_lr, **settings)
    second = torch.optim.SGD([ours], lr=our_lr, weight_decay=our_decay, **settings)
    for x in data:
        for parameter, optimiser, reduce in ((theirs, first, torch.sum), (ours, second, torch.mean)):
            optimiser.zero_grad()
            reduce((x @ parameter - 1) ** 2).backward()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)


def test_decoupled_decay_does_not_depend_on_the_learning_rate():
    """In PyTorch a step shrinks weights by lr * weight_decay: that product stays the same whatever lr is."""
    products = {round(lr * decay, 12) for lr, decay in (decoupled(lr, 0.02, 0.9, 256) for lr in (0.1, 1.0, 30.0))}
    assert len(products) == 1


SHAPES = [(1, 1), (4, 4), (8, 27), (27, 8), (16, 144), (64, 9)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_orthogonalised_acts_on_the_singular_values_alone(shape, steps):
    """U S V' becomes U p(p(p(S))) V' with p(s) = 3.4445 s - 4.7750 s^3 + 2.0315 s^5, S first scaled to norm 1."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / (s.norm() + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalised(matrix, steps), u @ torch.diag(s) @ v, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_orthogonalised_singular_values_lie_in_the_stated_band(shape):
    """After three steps, for matrices without tiny singular values (here all are within a factor of eight)."""
    g = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=g), full_matrices=False)
    values = torch.logspace(-0.9, 0, min(shape))
    found = torch.linalg.svdvals(orthogonalised(u @ torch.diag(values) @ v))
    assert found.min() > 0.65
    assert found.max() < 1.25


def test_orthogonalised_is_indifferent_to_scale_and_safe_at_zero():
    matrix = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalised(matrix * 1000), orthogonalised(matrix), rtol=1e-4, atol=1e-5)
    assert orthogonalised(torch.zeros(3, 5)).abs().max() == 0


def test_muon_steps_as_airbenchs_does():
    """The lines of airbench94_muon.py, with its Newton-Schulz replaced by singular values."""

    def newton_schulz(g):
        u, s, v = torch.linalg.svd(g, full_matrices=False)
        s = s / (s.norm() + 1e-7)
        for _ in range(3):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return u @ torch.diag(s) @ v

    g = torch.Generator().manual_seed(0)
    start, lr, momentum = torch.randn(6, 4, 3, 3, generator=g), 0.24, 0.6
    ours = nn.Parameter(start.clone().to(memory_format=torch.channels_last))
    theirs, buffer = start.clone(), torch.zeros_like(start)
    optimiser = Muon([ours], lr=lr, momentum=momentum)
    for _ in range(4):
        gradient = torch.randn(start.shape, generator=g)
        ours.grad = gradient.clone().to(memory_format=torch.channels_last)
        optimiser.step()
        buffer.mul_(momentum).add_(gradient)
        update = gradient.add(buffer, alpha=momentum)
        theirs.mul_(len(theirs) ** 0.5 / theirs.norm())
        theirs.add_(newton_schulz(update.reshape(len(update), -1)).view(update.shape), alpha=-lr)
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_muon_skips_parameters_without_gradient():
    parameter = nn.Parameter(torch.randn(2, 2, 3, 3))
    before = parameter.detach().clone()
    Muon([parameter], lr=0.1).step()
    assert torch.equal(parameter.detach(), before)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, bias=False)
        self.fixed = nn.Conv2d(4, 4, 1)
        self.fixed.requires_grad_(False)
        self.linear = nn.Linear(4, 2)


def groups_by_name(net, made):
    names = {id(p): name for name, p in net.named_parameters()}
    return {
        names[id(p)]: (type(optimiser).__name__, group)
        for optimiser in made
        for group in optimiser.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_every_trained_parameter_is_in_exactly_one_group(kind):
    net = Net()
    made = optimisers(net, make(optimiser=kind))
    listed = [id(p) for o in made for group in o.param_groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in net.parameters() if p.requires_grad}


def test_groups_have_the_rates_and_decays_of_the_recipe():
    net = Net()
    recipe = make(optimiser="sgd", lr=0.3, weight_decay=0.01, bias_lr=8.0, momentum=0.7, nesterov=True)
    groups = groups_by_name(net, optimisers(net, recipe))
    assert {name: (g["lr"], g["weight_decay"]) for name, (_, g) in groups.items()} == {
        "first.weight": (0.3, 0.01),
        "second.weight": (0.3, 0.01),
        "linear.weight": (0.3, 0.01),
        "first.bias": (0.3, 0.0),
        "norm.weight": (0.3, 0.0),
        "linear.bias": (0.3, 0.0),
        "norm.bias": (0.3 * 8, 0.0),
    }
    assert all(g["momentum"] == 0.7 and g["nesterov"] for _, g in groups.values())
    everywhere = groups_by_name(net, optimisers(net, make(weight_decay=0.01, decay_all=True)))
    assert {g["weight_decay"] for _, g in everywhere.values()} == {0.01}


def test_decoupled_groups_are_airbenchs():
    """lr_biases = lr * 64 and weight_decay = wd / lr_biases there, wd / lr elsewhere; all parameters decay."""
    net = Net()
    recipe = make(lr=11.5, weight_decay=0.0153, momentum=0.85, bias_lr=64.0, decoupled=True, batch_size=1024)
    groups = groups_by_name(net, optimisers(net, recipe))
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    lr, decay = 11.5 / kilostep, 0.0153 * 1024 / kilostep  # of a summed loss
    for name, (_, group) in groups.items():
        expected = lr * 64 if name == "norm.bias" else lr
        assert group["lr"] == pytest.approx(expected * 1024)
        assert group["lr"] * group["weight_decay"] == pytest.approx(decay)


def test_muon_takes_the_convolutions_and_sgd_the_rest():
    net = Net()
    groups = groups_by_name(net, optimisers(net, make(optimiser="muon", lr=0.2, muon_lr=0.07)))
    assert {name for name, (kind, _) in groups.items() if kind == "Muon"} == {"first.weight", "second.weight"}
    assert all(g["lr"] == (0.07 if kind == "Muon" else 0.2) for kind, g in groups.values())


def test_rates_are_scaled_from_the_peak_and_not_from_the_last():
    net = Net()
    made = optimisers(net, make(optimiser="muon", lr=0.2, muon_lr=0.07, bias_lr=2.0))
    for factor in (0.5, 0.0, 1.0, 0.25):
        set_rate(made, factor)
    rates = sorted({g["lr"] for o in made for g in o.param_groups})
    assert rates == pytest.approx([0.07 / 4, 0.2 / 4, 0.4 / 4])
