"""Evaluation against naive loops; test-time augmentation against an independent computation."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.data.images import ImageSet
from saccade.engine.distributed import World
from saccade.errors import SaccadeError
from saccade.train.evaluate import augmented_logits, evaluate, evaluate_under_attack, evenly

CPU = torch.device("cpu")
MODULE = importlib.import_module("saccade.train.evaluate")  # not the function of that name


class Scores(nn.Module):
    """A fixed random linear map of the pictures, with a dropout that must be off."""

    def __init__(self, classes, side=6):
        super().__init__()
        self.linear = nn.Linear(3 * side * side, classes)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            g = torch.Generator().manual_seed(classes)
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=g))

    def forward(self, x):
        return self.linear(self.drop(x).flatten(1))


def make(count=31, classes=12, side=6):
    g = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (count, side, side, 3), generator=g, dtype=torch.uint8)
    return ImageSet("made", pictures, torch.randint(0, classes, (count,), generator=g), tuple(map(str, range(classes))))


def naive(network, images):
    """One picture at a time, in plain Python."""
    network.eval()
    top1, top5, loss = 0, 0, 0.0
    for picture, label in zip(images.pictures, images.labels.tolist(), strict=True):
        with torch.no_grad():
            scores = network((picture.double() / 255).float().permute(2, 0, 1)[None])[0].double()
        order = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
        top1 += order[0] == label
        top5 += label in order[:5]
        loss += float(torch.logsumexp(scores, 0) - scores[label])
    network.train()
    return top1 / len(images), top5 / len(images), loss / len(images)


@pytest.mark.parametrize("batch_size", [1, 8, 31, 500])
def test_evaluate_is_the_naive_loop(batch_size):
    network, images = Scores(12), make()
    calls = []
    result = evaluate(network, images, batch_size=batch_size, progress=lambda *c: calls.append(c))
    top1, top5, loss = naive(network, images)
    assert result["accuracy"] == top1
    assert result["top5"] == top5
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert calls[-1] == (31, 31)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert network.training
    assert network.drop.training


def test_top5_is_left_out_with_ten_classes_or_fewer():
    assert set(evaluate(Scores(10), make(classes=10))) == {"accuracy", "loss"}
    assert set(evaluate(Scores(11), make(classes=11))) == {"accuracy", "loss", "top5"}
    assert set(evaluate(Scores(3), make(classes=3))) == {"accuracy", "loss"}


def test_pictures_are_resized_on_request():
    images = make(side=12)
    resized = F.interpolate(images.pictures.permute(0, 3, 1, 2) / 255, 6, mode="bilinear", antialias=True)
    network = Scores(12).eval()
    expected = (network(resized).argmax(1) == images.labels).double().mean()
    assert evaluate(network, images, size=6)["accuracy"] == float(expected)


def test_a_share_of_the_pictures_for_each_process(monkeypatch):
    """Rank r of w counts pictures r, r + w, ...: put together, all of them once."""
    network, images = Scores(12), make(count=31)
    whole = evaluate(network, images)
    parts = []
    monkeypatch.setattr(MODULE, "sum_over_processes", lambda totals, world: totals)
    for rank in range(4):
        parts.append(evaluate(network, images, world=World(rank, 4, CPU)))
    counts = [len(range(rank, 31, 4)) for rank in range(4)]
    together = sum(part["accuracy"] * n for part, n in zip(parts, counts, strict=True)) / 31
    assert together == pytest.approx(whole["accuracy"], abs=1e-12)


def test_a_process_without_a_picture(monkeypatch):
    """More processes than pictures: those without count nothing and agree on the result of the others."""
    others = torch.tensor([1.0, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    monkeypatch.setattr(MODULE, "sum_over_processes", lambda totals, world: totals + others)
    result = evaluate(Scores(12), make(count=1), world=World(1, 2, CPU))
    assert result == {"accuracy": 1.0, "loss": 0.5, "top5": 1.0}


def test_no_pictures():
    empty = make().subset([])
    with pytest.raises(SaccadeError, match="made: it holds no pictures"):
        evaluate(Scores(12), empty)
    with pytest.raises(SaccadeError, match="made: it holds no pictures"):
        evaluate_under_attack(Scores(12), empty, norm="linf", eps=0.1)


def test_views_of_test_time_augmentation():
    """ "six" is airbench's: half the weight on the picture and its mirror image, a quarter on each diagonal shift."""

    class Corner(nn.Module):
        """A nonlinear look at single pixels, which tells every view from every other."""

        def forward(self, x):
            return torch.stack([x[:, 0, 0, 0] ** 2, x[:, 1, 2, 1] ** 3, x[:, 2, 3, 4].exp()], 1)

    network, x = Corner(), torch.rand(2, 3, 5, 6)
    h, w = x.shape[2:]

    def shifted(dy, dx):
        moved = torch.empty_like(x)
        for y in range(h):
            for z in range(w):
                v, u = y + dy, z + dx
                v = -v if v < 0 else 2 * (h - 1) - v if v >= h else v
                u = -u if u < 0 else 2 * (w - 1) - u if u >= w else u
                moved[:, :, y, z] = x[:, :, v, u]
        return moved

    def mirror(p):
        return p[..., range(p.shape[-1] - 1, -1, -1)]

    def pair(p):
        return 0.5 * network(p) + 0.5 * network(mirror(p))

    torch.testing.assert_close(augmented_logits(network, x, "none"), network(x))
    torch.testing.assert_close(augmented_logits(network, x, "flip"), pair(x))
    expected = 0.5 * pair(x) + 0.25 * pair(shifted(-1, -1)) + 0.25 * pair(shifted(1, 1))
    torch.testing.assert_close(augmented_logits(network, x, "six"), expected)


def test_evaluate_uses_the_views():
    network, images = Scores(12), make()
    pictures = images.pictures.permute(0, 3, 1, 2) / 255
    for tta in ("flip", "six"):
        with torch.no_grad():
            logits = augmented_logits(network.eval(), pictures, tta)
        result = evaluate(network, images, batch_size=7, tta=tta)
        assert result["accuracy"] == float((logits.argmax(1) == images.labels).double().mean())
        assert result["loss"] == pytest.approx(float(F.cross_entropy(logits, images.labels)), rel=1e-5)


def test_accuracy_under_attack_of_a_linear_network():
    """Linf, two classes: a picture stands if its margin exceeds eps * |w|_1 (pixels away from the borders)."""

    class Margin(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0)))

        def forward(self, x):
            score = ((x - 0.5) * self.weight).flatten(1).sum(1)
            return torch.stack([-score, score], 1)

    network = Margin()
    g = torch.Generator().manual_seed(2)
    pictures = torch.randint(60, 195, (200, 6, 6, 3), generator=g, dtype=torch.uint8)
    with torch.no_grad():
        scores = network(pictures.permute(0, 3, 1, 2) / 255)[:, 1]
    images = ImageSet("margin", pictures, (scores > 0).long(), ("a", "b"))
    eps = float(scores.abs().median() / network.weight.detach().abs().sum())  # half of the pictures fall
    expected = float((scores.abs() > eps * network.weight.detach().abs().sum()).double().mean())
    found = evaluate_under_attack(network, images, norm="linf", eps=eps, batch_size=64)
    assert found == pytest.approx(expected, abs=0.006)  # the one at the median may go either way
    assert 0.4 < found < 0.6
    assert evaluate_under_attack(network, images, norm="linf", eps=1e-7) == 1.0
    assert network.training
    assert network.weight.requires_grad
    assert network.weight.grad is None


def test_a_sample_of_a_sorted_set_has_every_class():
    labels = torch.arange(60) // 15
    images = ImageSet("sorted", torch.zeros(60, 4, 4, 3, dtype=torch.uint8), labels, tuple("abcd"))
    for count in (4, 7, 20, 59):
        _, found = (some := evenly(images, count)).take(torch.arange(count))
        assert len(some) == count
        shares = torch.bincount(found, minlength=4)
        assert shares.max() - shares.min() <= 1
    assert torch.equal(evenly(images, 1000).take(torch.arange(60))[1], labels)
    assert len(evenly(images.subset([]), 5)) == 0
