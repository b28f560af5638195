"""Each check sounds at a network that was built to set it off, and at a sound one none does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack import pgd
from saccade.attack.evaluate import Evaluation, evaluate
from saccade.attack.evaluate.attack_checks import (
    black_box,
    lapsed,
    more_steps,
    not_climbing,
    one_step,
    rounded,
    smallest_beats,
    unbounded,
)
from saccade.attack.evaluate.diagnostics import CHECKS, diagnose
from saccade.attack.evaluate.network_checks import (
    batched,
    coarse,
    few_classes,
    gradients_inside,
    randomised,
    saturated,
    zero_gradients,
)
from saccade.attack.evaluate.probe import Check, Probe, too_many

pytestmark = pytest.mark.filterwarnings("ignore::saccade.attack.AttackWarning")

EPS = 8 / 255
X = (draw(12, 3, 8, 8) * 255).round() / 255


Change = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """A sound network, in eval mode, with something done before or after it."""

    def __init__(
        self, before: Callable[[Tensor], Tensor] = lambda x: x, after: Callable[[Tensor], Tensor] = lambda s: s
    ):
        super().__init__()
        self.inner, self.before, self.after = conv_net(), before, after
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(self.before(x)))


class Gradient(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.change(x, gradient), None


def quantised(x: Tensor) -> Tensor:
    """Sixteen levels, which have no slope."""
    return (x * 15).round() / 15 + 0 * x


def noisy(x: Tensor) -> Tensor:
    return F.dropout(x, 0.3, training=True)


def by_the_batch(x: Tensor) -> Tensor:
    return x - 2 * x.mean((0, 2, 3), keepdim=True)


def misled(x: Tensor) -> Tensor:
    """The gradient points the wrong way."""
    return Gradient.apply(x, lambda at, gradient: -gradient)


def only_at_pictures(x: Tensor) -> Tensor:
    """There is a gradient at pictures of 255ths alone."""

    def change(at: Tensor, gradient: Tensor) -> Tensor:
        whole = (at * 255 - (at * 255).round()).abs().flatten(1).amax(1) < 1e-6
        return gradient * whole.view(-1, 1, 1, 1)

    return Gradient.apply(x, change)


def denoised(x: Tensor) -> Tensor:
    """A step down the gradient of an energy, taken inside."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(leaf.diff(dim=3).square().sum(), leaf)
    return x - 0.01 * slope


def probe(network: nn.Module, x: Tensor = X, *, eps: float = EPS, **given: Any) -> Probe:
    """All pictures are right; those that stand are those that a PGD of ten steps does not break."""
    attacked = conv_net() if isinstance(network, Around) else network
    labels = labels_of(attacked, x.to(next(attacked.parameters()).dtype))
    found = pgd(attacked, x, labels, eps=eps)
    hits = found.success
    return Probe(
        **{
            "network": network, "x": x, "labels": labels, "standing": x[~hits], "standing_labels": labels[~hits],
            "before": x[hits], "after": found.adversarial[hits], "fooled_labels": labels[hits], "norm": "linf",
            "eps": eps, "seed": 0, "batch_size": None, "total": len(x), "lapsed": 0, "by_scores": None, "smaller": None,
        }
        | given
    )  # fmt: skip


def standing(network: nn.Module, **given: Any) -> Probe:
    """The same where nothing was broken."""
    return probe(network, standing=X[:4], standing_labels=labels_of(network, X[:4]), **given)


FALSE: dict[str, tuple[Callable[[Probe], Check], Callable[[], Probe], str]] = {
    "dropout left on": (randomised, lambda: probe(Around(noisy)), "5 passes over the same pictures differ by up to"),
    "statistics of the batch": (batched, lambda: probe(Around(by_the_batch)), "alone and in one batch"),
    "a step taken inside": (gradients_inside, lambda: probe(Around(denoised)), "asks for gradients 1 times"),
    "quantised input, gradients": (zero_gradients, lambda: probe(Around(quantised)), "zero everywhere at 12 of 12"),
    "temperature": (
        saturated,
        lambda: probe(Around(after=lambda s: 1000 * s)),
        "of exactly 1 in float32: cross entropy",
    ),
    "half precision": (coarse, lambda: probe(conv_net(dtype=torch.bfloat16), X.float()), "computes in bfloat16"),
    "quantised input, climbing": (not_climbing, lambda: probe(Around(quantised)), "raise the margin of 12 of 12"),
    "wrong way, climbing": (not_climbing, lambda: probe(Around(misled)), "does not lead uphill"),
    "gradient at pictures alone": (one_step, lambda: probe(Around(only_at_pictures)), "the gradient misleads"),
    "quantised input, unbounded": (unbounded, lambda: probe(Around(quantised)), "12 of 12 pictures stand"),
    "quantised input, black box": (black_box, lambda: standing(Around(quantised)), "hides its gradients"),
    "a suite with a black box": (black_box, lambda: probe(conv_net(), by_scores=1), "without gradients 1 of 12"),
    "too few steps": (more_steps, lambda: standing(conv_net()), "it was too weak"),
    "smaller changes": (smallest_beats, lambda: probe(conv_net(), smaller=1), "broke 1 of 12"),
    "finds that lapse": (lapsed, lambda: probe(conv_net(), lapsed=1), "1 of 12 pictures fooled the network once"),
}


@pytest.mark.parametrize(("check", "made", "said"), FALSE.values(), ids=list(FALSE))
def test_sounds(check: Callable[[Probe], Check], made: Callable[[], Probe], said: str) -> None:
    found = check(made())
    assert found.alarm
    assert said in found.said


def test_changes_less_than_a_level_are_lost_as_files() -> None:
    network, x = conv_net(), (draw(400, 3, 8, 8) * 255).round() / 255
    with torch.no_grad():
        best = network(x).topk(2).values
    x = x[(best[:, 0] - best[:, 1]).argsort()[:8]]
    found = rounded(probe(network, x, eps=0.45 / 255))
    assert found.alarm
    assert "as files" in found.said


@pytest.fixture(scope="module")
def sound() -> Evaluation:
    network = conv_net()
    return evaluate(network, X[:8], labels_of(network, X[:8]), suite="pgd", eps=EPS, checked=8)


def test_a_sound_network_sets_off_none(sound: Evaluation) -> None:
    assert sound.warnings == ()
    names = {check.name for check in sound.checks}
    stand = {"more steps help", "black box beats white box"} if sound.robust.count else set()
    assert names == set(CHECKS) - ({"more steps help", "black box beats white box"} - stand)


def test_checks_alone_are_silent_at_a_sound_network() -> None:
    asked = probe(conv_net(), standing=X[:0], standing_labels=torch.zeros(0, dtype=torch.int64))
    assert [check.name for check in diagnose(asked) if check.alarm] == []


def test_the_names_are_those_of_the_table(sound: Evaluation) -> None:
    order = list(CHECKS)
    assert [check.name for check in sound.checks] == sorted((c.name for c in sound.checks), key=order.index)


def test_says_how_many_classes_there_are() -> None:
    found = few_classes(probe(linear(3), draw(4, 3, 4, 4)))
    assert not found.alarm
    assert "3 classes: attacks that aim at nine others aim at the 2 there are" in found.said


def test_the_whole_evaluation_of_a_masked_network_warns() -> None:
    network = Around(quantised)
    found = evaluate(network, X[:4], labels_of(network, X[:4]), suite=["pgd"], eps=EPS, curve=False, checked=4)
    alarms = {check.name for check in found.checks if check.alarm}
    assert {"zero gradients", "loss does not rise", "unbounded", "black box beats white box"} <= alarms
    assert "randomised" not in alarms
    assert len(found.warnings) == len(alarms)


def test_chance_does_not_count_as_broken() -> None:
    """What fools a network that draws by luck once must do so again."""
    network = Around(after=lambda s: s + torch.randn(s.shape).to(s))
    torch.manual_seed(1)
    found = evaluate(network, X, labels_of(conv_net(), X), suite=["ff-gsm"], eps=0.0, curve=False, checked=12)
    assert found.lapsed.sum() > 0
    alarms = {check.name for check in found.checks if check.alarm}
    assert {"randomised", "finds that lapse"} <= alarms


def test_a_check_that_cannot_be_made_says_why() -> None:
    network, x = Around(before=torch.Tensor.detach), X[:3]
    labels = labels_of(network, x)
    found = diagnose(
        Probe(network, x, labels, x, labels, x[:0], x[:0], labels[:0], "linf", EPS, 0, None, 3, 0, None, None)
    )
    said = {check.name: check for check in found}
    assert said["zero gradients"].alarm
    assert "do not depend on the pictures differentiably" in said["zero gradients"].said
    assert not said["randomised"].alarm


def test_gradients_are_given_back_to_torch() -> None:
    grad, backward = torch.autograd.grad, torch.autograd.backward
    gradients_inside(probe(Around(denoised)))
    assert torch.autograd.grad is grad
    assert torch.autograd.backward is backward


@pytest.mark.parametrize(
    ("count", "of", "many"),
    [(0, 5, False), (1, 5, True), (1, 32, False), (2, 32, True), (2, 200, False), (5, 200, True)],
)
def test_how_many_are_too_many(count: int, of: int, many: bool) -> None:
    assert too_many(count, of) == many
