"""Training on interval bounds: the loss of the worst logits, by hand, and never below what an attack reaches."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.data.images import ImageSet
from saccade.engine.precision import Precision
from saccade.errors import SaccadeError
from saccade.networks import Network
from saccade.networks.strided import StridedNet
from saccade.train.evaluate import evaluate_under_attack
from saccade.train.fit import fit
from saccade.train.ibp import certified_accuracy, interval_loss, interval_start

FP32 = Precision("fp32", "test")


def draw(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small(norm=True, *, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StridedNet(num_classes=4, convs=((4, 3, 1), (6, 4, 2)), hidden=(10,), norm=norm, size=12).double()


def ends(net, x, eps, labels):
    """Interval bounds written out for `small`: the ends of every layer, and the worst lead over the label's score."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    clean = x
    layers = dict(net.layers.named_children())
    for name, layer in layers.items():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if name == "linear":
                break
            positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
            if isinstance(layer, nn.Linear):
                run = F.linear
            else:

                def run(v, w, layer=layer):
                    return F.conv2d(v, w, None, layer.stride, layer.padding)

            low, high = run(low, positive) + run(high, negative), run(high, positive) + run(low, negative)
            clean = layer(clean)
            if layer.bias is not None:
                bias = layer.bias.view(-1, *(1,) * (clean.ndim - 2))
                low, high = low + bias, high + bias
        elif isinstance(layer, nn.BatchNorm2d):
            mean = clean.mean((0, 2, 3), keepdim=True)
            deviation = (clean.var((0, 2, 3), correction=0, keepdim=True) + layer.eps).sqrt()
            scale = layer.weight.view(1, -1, 1, 1) / deviation
            clean, low, high = (scale * (v - mean) + layer.bias.view(1, -1, 1, 1) for v in (clean, low, high))
            low, high = torch.minimum(low, high), torch.maximum(low, high)
        else:
            clean, low, high = layer(clean), layer(low), layer(high)
    last = layers["linear"]
    slope = last.weight[None] - last.weight[labels][:, None]  # (picture, class, input)
    worst = (slope.clamp(min=0) * high[:, None] + slope.clamp(max=0) * low[:, None]).sum(2)
    return last(clean), worst + last.bias - last.bias[labels][:, None]


@pytest.mark.parametrize("norm", [True, False])
def test_the_loss_and_its_gradient_are_those_of_the_bounds_written_out(norm):
    x, labels = draw(6, 3, 12, 12), torch.arange(6) % 4
    net, same = small(norm), small(norm)
    loss = interval_loss(net, x, labels, eps=0.03, clean=0.3)
    scores, worst = ends(same, x, 0.03, labels)
    wanted = 0.3 * F.cross_entropy(scores, labels) + 0.7 * F.cross_entropy(worst, labels)
    torch.testing.assert_close(loss, wanted)
    ours = torch.autograd.grad(loss, list(net.parameters()))
    theirs = torch.autograd.grad(wanted, list(same.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_no_picture_of_the_ball_has_a_greater_loss():
    net = small().eval()
    x, labels = draw(8, 3, 12, 12), torch.arange(8) % 4
    most = interval_loss(net, x, labels, eps=0.02, clean=0.0)
    z = x.clone()
    for _ in range(20):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(net(z), labels), z)
        z = (x + (z.detach() + 0.005 * slope.sign() - x).clamp(-0.02, 0.02)).clamp(0, 1)
    reached = F.cross_entropy(net(z), labels)
    assert F.cross_entropy(net(x), labels) < reached < most


def test_without_bounds_it_is_the_plain_loss():
    net, x, labels = small(False), draw(4, 3, 12, 12), torch.arange(4)
    torch.testing.assert_close(interval_loss(net, x, labels, eps=0.1, clean=1.0), F.cross_entropy(net(x), labels))
    torch.testing.assert_close(interval_loss(net, x, labels, eps=0.0, clean=0.2), F.cross_entropy(net(x), labels))


def test_what_has_no_bounds_is_named():
    net = nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(12, 2))
    with pytest.raises(SaccadeError, match=r"Could not train on interval bounds: the network runs 'gelu' in 1"):
        interval_loss(net, draw(2, 3, 2, 2).float(), torch.tensor([0, 1]), eps=0.1, clean=0.0)


def test_under_its_random_weights_an_interval_neither_grows_nor_shrinks():
    """Of wide layers, the mean radius behind a ReLU is that before the layer; with the usual weights it is many times
    as large."""
    torch.manual_seed(0)
    layers = nn.Sequential(*[nn.Linear(400, 400) for _ in range(3)])
    interval_start(layers)
    centre, radius = torch.zeros(8, 400), torch.full((8, 400), 1e-3)
    for layer in layers:
        assert not layer.bias.any()
        centre, radius = layer(centre), F.linear(radius, layer.weight.abs())
        low, high = (centre - radius).relu(), (centre + radius).relu()
        centre, radius = (low + high) / 2, (high - low) / 2
        assert 0.9e-3 < radius.mean() < 1.1e-3
    usual = nn.Linear(400, 400)
    assert F.linear(torch.full((8, 400), 1e-3), usual.weight.abs()).mean() > 5e-3


class Lead(nn.Module):
    """Two classes: 0, and w . x - b."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 5 * 5, 2)
        with torch.no_grad():
            self.layer.weight[0] = 0
            self.layer.weight[1] = (draw(75, seed=1) - 0.5).float()
            self.layer.bias[0] = 0
            self.layer.bias[1] = -self.layer.weight[1].sum() / 2

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_certified_accuracy_of_a_linear_network():
    raw = torch.randint(0, 256, (60, 5, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = Lead()
    x = raw.permute(0, 3, 1, 2).double() / 255
    w = net.layer.weight[1].detach().double()
    lead = x.flatten(1) @ w + net.layer.bias[1].item()
    labels = (lead > 0).long()
    eps = 0.02
    towards = -torch.where(labels == 1, 1.0, -1.0)[:, None] * w.sign()
    worst = (x.flatten(1) + eps * towards).clamp(0, 1) @ w + net.layer.bias[1].item()
    stands = (worst > 0).long() == labels
    assert 0.2 < stands.double().mean() < 0.8
    images = ImageSet("noise", raw, labels, ("a", "b"))
    assert certified_accuracy(net, images, eps=eps, batch_size=16) == stands.double().mean().item()


def test_eps_and_the_weight_of_the_bounds_rise_together(images, network, recipe, monkeypatch):
    asked = []

    def spy(net, x, y, *, eps, clean):
        asked.append((eps, clean))
        return F.cross_entropy(net(x), y)

    monkeypatch.setattr(importlib.import_module("saccade.train.defence"), "interval_loss", spy)
    plan = recipe(epochs=4, adversarial="linf", eps=0.1, defence="ibp", ramp=0.5, clean_weight=0.4)
    fit(network(), images(32), plan, precision=FP32)
    assert [eps for eps, _ in asked] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1])
    assert [clean for _, clean in asked] == pytest.approx([1, 0.85, 0.7, 0.55, 0.4, 0.4, 0.4, 0.4])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_makes_networks_that_can_be_certified(images, recipe, precision):
    """More than plain training does, nearly all; and what is certified is never more than what withstands an attack."""
    data, val, proved = images(256), images(64, seed=1), {}
    for defence, more in (
        ("at", {}),
        ("ibp", {"adversarial": "linf", "eps": 0.03, "defence": "ibp", "clean_weight": 0.0}),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = StridedNet(num_classes=4, convs=((6, 4, 2),), hidden=(16,), size=12)
            if defence == "ibp":
                interval_start(module)
        net = Network(module, mean=(0.3,) * 3, std=(0.2,) * 3, classes=tuple(f"class {i}" for i in range(4)))
        plan = recipe(epochs=10, batch_size=32, optimiser="adamw", lr=4e-3, **more)
        fitted = fit(net, data, plan, val=val, precision=Precision(precision, "test"))
        proved[defence] = certified_accuracy(fitted.network, val, eps=0.03)
        assert proved[defence] <= evaluate_under_attack(fitted.network, val, norm="linf", eps=0.03)
        assert fitted.history[-1].get("val_accuracy_certified", proved["at"]) == proved[defence]
    assert proved["at"] < 0.7
    assert proved["ibp"] > 0.9
