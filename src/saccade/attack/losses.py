"""What attacks raise: losses of scores (M, C), one number a picture, the higher the closer to being fooled.

Each has a targeted form, taken if the aim has targets. None saturates for good: where the slope of a loss by the scores
vanishes, the engine follows that of `soft_margin`, see `slope_by_scores`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.balls import wide
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

VANISHED = 1e-12  # slopes by the scores below this do not steer: float32 would lose them on the way to the pixels


@dataclass(frozen=True)
class Aim:
    """What is wanted of M pictures: anything but `labels`, or exactly `targets`.

    clean: the scores of the pictures before the attack. seed: names the random numbers of a loss that draws some.
    """

    labels: Int[Tensor, " m"]
    targets: Int[Tensor, " m"] | None
    clean: Float[Tensor, "m classes"]
    seed: int = 0

    @property
    def wanted(self) -> Int[Tensor, " m"]:
        """The class that the sign of a margin turns on: the target, or the label."""
        return self.labels if self.targets is None else self.targets

    @property
    def sign(self) -> int:
        """+1 if `wanted` is to be said, -1 if not."""
        return -1 if self.targets is None else 1


Loss = Callable[[Tensor, Aim], Tensor]
"""(scores (M, C), aim) -> (M,), to be raised."""


def margin(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """The highest other score less the label's; targeted, the target's less the highest other. Above 0 it is fooled.

    Carlini and Wagner 2017, arXiv:1608.04644.
    """
    return aim.sign * (_of(scores, aim.wanted) - _others(scores, aim.wanted).amax(1))


def soft_margin(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """`margin` with log-sum-exp for the maximum: the log-odds of being fooled. Its slope never vanishes."""
    return aim.sign * (_of(scores, aim.wanted) - _others(scores, aim.wanted).logsumexp(1))


def cross_entropy(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """-log of the label's probability; targeted, log of the target's.

    Written by the log-odds, so that its slope keeps its direction down to the smallest numbers, where that of
    log-softmax loses the label's part to rounding.
    """
    return -aim.sign * F.softplus(-aim.sign * soft_margin(scores, aim))


def dlr(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """Difference of logits ratio: a margin that does not change with the scale or the offset of the scores.

    Untargeted, the margin over the distance from the highest to the third score. Targeted, target less label over that
    from the highest to the mean of the third and fourth, or to the third of three. Of two classes it is the margin.

    Croce and Hein 2020, arXiv:2003.01690.
    """
    ordered = scores.sort(1, descending=True).values
    raised = margin(scores, aim) if aim.targets is None else lead(scores, aim)
    if scores.shape[1] == 2:
        return raised
    last = ordered[:, 2] if aim.targets is None else ordered[:, 2:4].mean(1)
    return raised / (ordered[:, 0] - last).clamp_min(1e-12)


def lead(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """The target's score less the label's, whatever the others do; for aims with targets."""
    return _of(scores, aim.wanted) - _of(scores, aim.labels)


def toward(loss: Loss, classes: Int[Tensor, " m"]) -> Loss:
    """A loss of M pictures in its targeted form, toward classes that need not be those that are to be said."""
    return lambda scores, aim: loss(scores, replace(aim, targets=classes))


def runners_up(scores: Float[Tensor, "m classes"], labels: Int[Tensor, " m"], count: int) -> Int[Tensor, "m k"]:
    """The other classes than the label, the highest score first: `count`, or as many as there are."""
    return _others(scores, labels).topk(min(count, scores.shape[1] - 1), dim=1).indices


def probability_margin(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """`margin` of the probabilities. Ma and others 2024, arXiv:2411.15210."""
    return margin(scores.softmax(1), aim)


def divergence(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """Kullback-Leibler divergence of what is said now from what was said at first; it has no targeted form.

    Zhang and others 2019, arXiv:1901.08573 (TRADES).
    """
    if aim.targets is not None:
        raise SaccadeError("The loss 'kl' moves away from what the network said and has no targets; use 'ce'.")
    before, now = aim.clean.log_softmax(1), scores.log_softmax(1)
    return (before.exp() * (before - now)).sum(1)


def jitter(
    scores: Float[Tensor, "m classes"], aim: Aim, *, scale: float = 10.0, noise: float = 0.1
) -> Float[Tensor, " m"]:
    """Squared distance of the one-hot label from the softmax of scores that are scaled to [-scale, scale] and jittered.

    Schwinn and others 2021, arXiv:2105.10304. The paper's division by the size of the change sets in once a picture is
    fooled, when an attack of this room has ended.
    """
    said = (scale * scores / scores.abs().amax(1, keepdim=True).clamp_min(1e-12)).softmax(1)
    drawn = torch.randn(scores.shape[1], generator=generator(aim.seed), dtype=torch.float64)
    wanted = F.one_hot(aim.wanted, scores.shape[1]).to(said)
    return -aim.sign * (said + noise * drawn.to(said) - wanted).square().sum(1)


@dataclass(frozen=True)
class Tempered:
    """Cross entropy of scores that are divided by a temperature (arXiv:2012.15503)."""

    temperature: float = 1.5

    def __call__(self, scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
        return cross_entropy(scores / self.temperature, aim)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": margin,
    "soft-margin": soft_margin,
    "dlr": dlr,
    "probability-margin": probability_margin,
    "kl": divergence,
    "jitter": jitter,
}
"""The losses by name."""


def find_loss(loss: str | Loss) -> Loss:
    """A loss by its name, or the function that was given; raises `SaccadeError` with all names."""
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise SaccadeError(f"There is no loss {loss!r}; there are {', '.join(LOSSES)}, or give a function.")
    return LOSSES[loss]


def slope_by_scores(
    loss: Loss, scores: Float[Tensor, "k m classes"], aim: Aim, *, pooled: bool = False
) -> tuple[Float[Tensor, " m"], Float[Tensor, "k m classes"], Float[Tensor, " m"]]:
    """The mean loss over K looks at each of M pictures, and its slope by the scores as direction times length.

    pooled: the loss of the mean probabilities instead of the mean of the losses.

    Returns loss (M,), direction (K, M, C), whose largest entry for a picture is 1 in magnitude, and length (M,). The
    direction can be carried back through a network of any precision without underflow. Where the length is below
    `VANISHED`, the direction is that of `soft_margin` and the length is `VANISHED`.
    """
    looks = wide(scores.detach()).requires_grad_()  # softmax in float32 is 1 from a lead of 17 on
    if pooled:
        value = loss(looks.log_softmax(2).logsumexp(0) - math.log(len(looks)), aim)
    else:
        value = torch.stack([loss(look, aim) for look in looks]).mean(0)
    (slope,) = torch.autograd.grad(value.sum(), looks)
    length = slope.abs().amax((0, 2))
    flat = ~(length >= VANISHED)
    if flat.any():
        safe = torch.stack([soft_margin(look, aim) for look in looks]).sum()
        (instead,) = torch.autograd.grad(safe, looks)
        slope = torch.where(flat[:, None], instead, slope)
    direction = slope / slope.abs().amax((0, 2))[:, None]
    length = torch.where(flat, VANISHED, length)
    return value.detach().to(scores), direction.to(scores), length.to(scores)


def _of(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None])[:, 0]


def _others(scores: Tensor, classes: Tensor) -> Tensor:
    """The scores, that of one class of each row hidden."""
    return scores.scatter(1, classes[:, None], -torch.inf)
