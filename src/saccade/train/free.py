"""Free adversarial training: one backward pass moves the weights down and the perturbation up."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.train.adversarial import Norm, ascend


def replay(
    logits: Callable[[Tensor], Tensor],
    descend: Callable[[Callable[[], Tensor]], Tensor],
    pictures: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    change: Float[Tensor, "m 3 a b"] | None,
    *,
    norm: Norm,
    eps: float,
    replays: int,
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, ""]]:
    """A batch seen `replays` times (Shafahi et al. 2019, arXiv:1904.12843). The last perturbation and the mean loss.

    Args:
        logits: the network.
        descend: takes a function that gives the loss, calls `backward` on that and moves the weights; gives its value.
        change: the perturbation that the batch before ended with, as the paper goes on from it; zero where it is
            missing or of another shape.
        eps: radius of the ball, and length of a step.
    """
    total = torch.zeros((), device=pictures.device)
    if change is None or change.shape != pictures.shape:
        change = torch.zeros_like(pictures)
    for _ in range(replays):
        seen = (pictures + change).clamp(0, 1).requires_grad_()
        total += descend(lambda seen=seen: F.cross_entropy(logits(seen), labels)) / replays  # type: ignore[misc]
        assert seen.grad is not None
        change = ascend(seen.detach() - pictures, seen.grad, pictures, norm=norm, eps=eps, length=eps)
    return change, total
