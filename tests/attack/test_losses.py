"""Every loss against its formula written plainly, its slope, and what makes it safe."""

import math

import pytest
import torch
from attack.nets import draw
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.losses import (
    LOSSES,
    VANISHED,
    Aim,
    Tempered,
    find_loss,
    lead,
    runners_up,
    slope_by_scores,
    toward,
)
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

CLASSES = (2, 3, 5, 10)


def scores_of(classes: int, count: int = 12) -> Tensor:
    return 6 * draw(count, classes, seed=classes) - 3


def aim_of(scores: Tensor, targeted: bool) -> Aim:
    count, classes = scores.shape
    labels = torch.arange(count) % classes
    return Aim(labels, (labels + 1) % classes if targeted else None, scores.flip(0).contiguous(), seed=9)


def plainly(name: str, z: list[float], y: int, t: int | None, clean: list[float]) -> float:
    """One picture's loss with the words of its paper."""
    classes = range(len(z))
    probability = [math.exp(v) / sum(math.exp(u) for u in z) for v in z]
    aim, sign = (y, 1) if t is None else (t, -1)
    rest = [k for k in classes if k != aim]
    if name == "ce":
        return -sign * math.log(probability[aim])
    if name == "margin":
        return sign * (max(z[k] for k in rest) - z[aim])
    if name == "soft-margin":
        return sign * (math.log(sum(math.exp(z[k]) for k in rest)) - z[aim])
    if name == "probability-margin":
        return sign * (max(probability[k] for k in rest) - probability[aim])
    if name == "dlr":
        high = sorted(z, reverse=True)
        raised = max(z[k] for k in rest) - z[y] if t is None else z[t] - z[y]
        if len(z) == 2:
            return raised
        if t is None or len(z) == 3:
            return raised / (high[0] - high[2])
        return raised / (high[0] - (high[2] + high[3]) / 2)
    if name == "kl":
        before = [math.exp(v) / sum(math.exp(u) for u in clean) for v in clean]
        return sum(p * math.log(p / q) for p, q in zip(before, probability, strict=True))
    assert name == "jitter"
    largest = max(abs(v) for v in z)
    hot = [math.exp(10 * v / largest) for v in z]
    noise = torch.randn(len(z), generator=generator(9), dtype=torch.float64).tolist()
    off = [h / sum(hot) + 0.1 * n - (k == aim) for k, h, n in zip(classes, hot, noise, strict=True)]
    return sign * sum(v * v for v in off)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", list(LOSSES))
def test_values_and_slopes(name: str, classes: int, targeted: bool) -> None:
    scores = scores_of(classes)
    aim = aim_of(scores, targeted)
    if name == "kl" and targeted:
        with pytest.raises(SaccadeError, match="has no targets"):
            LOSSES[name](scores, aim)
        return
    targets = [None] * len(scores) if aim.targets is None else aim.targets.tolist()
    rows = zip(scores.tolist(), aim.labels.tolist(), targets, aim.clean.tolist(), strict=True)
    expected = torch.tensor([plainly(name, *row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](scores, aim), expected, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, aim), scores.clone().requires_grad_())


def test_cross_entropy_is_that_of_pytorch_and_has_a_temperature() -> None:
    scores = scores_of(5)
    aim = aim_of(scores, False)
    torch.testing.assert_close(LOSSES["ce"](scores, aim), F.cross_entropy(scores, aim.labels, reduction="none"))
    cool = F.cross_entropy(scores / 1.5, aim.labels, reduction="none")
    torch.testing.assert_close(Tempered(1.5)(scores, aim), cool)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("jitter", "kl")])
@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_logits_may_be_shifted(name: str, shift: float) -> None:
    """torchattacks' margin of one-hot times logits fails where all logits are negative."""
    scores = scores_of(5)
    for targeted in (False, True):
        aim = aim_of(scores, targeted)
        moved = LOSSES[name](scores + shift, aim)
        torch.testing.assert_close(moved, LOSSES[name](scores, aim), rtol=1e-9, atol=1e-9)


def test_the_difference_of_logits_ratio_has_no_scale() -> None:
    scores = scores_of(5)
    for targeted in (False, True):
        aim = aim_of(scores, targeted)
        torch.testing.assert_close(LOSSES["dlr"](1000 * scores + 7, aim), LOSSES["dlr"](scores, aim))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", list(LOSSES))
def test_direction_times_length_is_the_slope(name: str, pooled: bool) -> None:
    looks = torch.stack([scores_of(5), scores_of(5).roll(1, 1)])
    aim = aim_of(looks[0], False)
    value, direction, length = slope_by_scores(LOSSES[name], looks, aim, pooled=pooled)
    leaf = looks.clone().requires_grad_()
    if pooled:  # logarithms of mean probabilities are logits of these
        said = LOSSES[name](leaf.softmax(2).mean(0).log(), aim)
    else:
        said = (LOSSES[name](leaf[0], aim) + LOSSES[name](leaf[1], aim)) / 2
    (slope,) = torch.autograd.grad(said.sum(), leaf)
    torch.testing.assert_close(value, said.detach())
    torch.testing.assert_close(direction * length[:, None], slope, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(direction.abs().amax((0, 2)), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", list(LOSSES))
def test_certain_scores_leave_a_direction(name: str, classes: int, targeted: bool) -> None:
    """Cross entropy saturates in torchattacks and AutoAttack: at logits times 1000 its slope is exactly zero."""
    if name == "kl" and targeted:
        return
    scores = 1000 * scores_of(classes).float()
    aim = aim_of(scores, targeted)
    aim = Aim(scores.argmax(1), aim.targets, aim.clean)  # as sure as can be
    if aim.targets is not None:
        aim = Aim(aim.labels, scores.argmin(1), aim.clean)
    _, direction, length = slope_by_scores(LOSSES[name], scores[None], aim)
    assert torch.isfinite(direction).all()
    assert (length >= VANISHED).all()
    if name in ("kl", "jitter") or (
        name == "probability-margin" and targeted
    ):  # other classes' slopes may be all there is
        return
    rows = torch.arange(len(scores))
    assert (direction[0, rows, aim.wanted] * aim.sign > 0).all()
    if name in ("ce", "soft-margin"):
        leaf = scores.clone().requires_grad_()
        (slope,) = torch.autograd.grad(LOSSES["margin"](leaf, aim).sum(), leaf)
        others = scores.scatter(1, aim.wanted[:, None], -1e9).sort(1, descending=True).values
        clear = others[:, 0] > others[:, 1] + 30
        assert clear.sum() > 6
        torch.testing.assert_close(direction[0][clear], slope[clear])


def test_a_slope_too_small_for_rounding_keeps_both_of_its_ends() -> None:
    """That of log-softmax in float32 has no part at the label left from a lead of 17 on."""
    scores = torch.tensor([[20.0, 0.0, -30.0]])
    aim = Aim(torch.tensor([0]), None, scores)
    _, direction, length = slope_by_scores(LOSSES["ce"], scores[None], aim)
    torch.testing.assert_close(direction[0, 0], torch.tensor([-1.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    assert length.item() == pytest.approx(math.exp(-20), rel=1e-5)


def test_toward_a_class_and_which_are_next() -> None:
    scores, labels = scores_of(5), torch.arange(12) % 5
    aim = Aim(labels, None, scores)
    classes = (labels + 3) % 5
    rows = torch.arange(12)
    torch.testing.assert_close(toward(lead, classes)(scores, aim), scores[rows, classes] - scores[rows, labels])
    for name in ("ce", "margin", "dlr"):
        given = LOSSES[name](scores, Aim(labels, classes, scores))
        torch.testing.assert_close(toward(LOSSES[name], classes)(scores, aim), given)
    for count in (1, 3, 9):
        found = runners_up(scores, labels, count)
        for row, label, said in zip(scores.tolist(), labels.tolist(), found.tolist(), strict=True):
            ordered = sorted((c for c in range(5) if c != label), key=lambda c: -row[c])
            assert said == ordered[:count]


def test_losses_by_name() -> None:
    assert find_loss("dlr") is LOSSES["dlr"]
    own = Tempered(2.0)
    assert find_loss(own) is own
    with pytest.raises(SaccadeError, match=r"no loss 'mse'; there are ce, margin"):
        find_loss("mse")
