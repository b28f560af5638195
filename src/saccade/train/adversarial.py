"""Adversarial examples for training: the worst pictures within a ball, found on the way."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.train.robust import divergence

Norm = Literal["linf", "l2"]


def random_start(
    pictures: Float[Tensor, "n 3 h w"], *, norm: Norm, eps: float, generator: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """A change drawn uniformly from the ball of radius eps (L2: uniform direction, length uniform in volume)."""
    shape = pictures.shape
    if norm == "linf":
        return (torch.rand(shape, generator=generator) * 2 - 1).to(pictures) * eps
    direction: Tensor = torch.randn(shape, generator=generator)
    direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    radius = torch.rand(len(pictures), 1, 1, 1, generator=generator) ** (1 / direction[0].numel())
    return (direction * radius).to(pictures) * eps


def ascend(
    change: Float[Tensor, "n 3 h w"],
    gradient: Float[Tensor, "n 3 h w"],
    pictures: Float[Tensor, "n 3 h w"],
    *,
    norm: Norm,
    eps: float,
    length: float,
) -> Float[Tensor, "n 3 h w"]:
    """The change after one step of `length` uphill, back in the ball of radius eps, the pictures back in [0, 1]."""
    if norm == "linf":
        change = (change + length * gradient.sign()).clamp(-eps, eps)
    else:
        norms = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        change = change + length * gradient / norms
        norms = change.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        change = change * (eps / norms).clamp(max=1)
    return (pictures + change).clamp(0, 1) - pictures


def perturb(
    network: nn.Module,
    pictures: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    norm: Norm,
    eps: float,
    steps: int,
    generator: torch.Generator,
    reference: Float[Tensor, "n classes"] | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Pictures within eps of the given ones, still in [0, 1], that raise the cross entropy.

    One step is the fast method of Wong et al. 2020 (arXiv:2001.03994): random start, one step of 1.25 eps,
    projection. More steps are projected gradient ascent (Madry et al. 2018, arXiv:1706.06083) with steps of
    2.5 eps / steps. The network's mode is left as it is and its parameters get no gradient.

    reference: logits of the unchanged pictures; what is raised is then the divergence from them, as in TRADES.
    """
    change = random_start(pictures, norm=norm, eps=eps, generator=generator)
    change = (pictures + change).clamp(0, 1) - pictures
    length = 1.25 * eps if steps == 1 else 2.5 * eps / steps
    for _ in range(steps):
        change.requires_grad_()
        with torch.enable_grad():
            logits = network(pictures + change).float()
            if reference is None:
                loss = F.cross_entropy(logits, labels, reduction="sum")
            else:
                loss = divergence(reference, logits).sum()
            (gradient,) = torch.autograd.grad(loss, change)
        change = ascend(change.detach(), gradient, pictures, norm=norm, eps=eps, length=length)
    return (pictures + change).clamp(0, 1)  # the sum of a rounded difference may pass 1 by a bit
