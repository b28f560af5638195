"""The course's targeted attack: walk uphill on the score of another class until the network says it.

The simplest adversarial example there is, and the second block of the course's third notebook. It knows no bound: where
the change must stay within one, use another attack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.engine import kept, searching
from saccade.attack.losses import Aim
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.targets import Target, check_input

OPERATION = "make an adversarial picture"

SAID = ("target_score", "max_score")  # the columns of a trace

Callback = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fooled:
    """What `make_adversarial_attack` found, for N pictures.

    adversarial: the pictures as they are after the last step. success: whether the network now says the target.
    iterations: the steps made. stuck: whether it had to stop because the target's score has no slope at all.
    trace: for each picture (iterations + 1, 2), the score of the target and the highest score, from before the first
    step to after the last.
    """

    adversarial: Float[Tensor, "n 3 h w"]
    success: Bool[Tensor, " n"]
    iterations: Int[Tensor, " n"]
    stuck: Bool[Tensor, " n"]
    trace: tuple[Float[Tensor, "_ 2"], ...]


def make_adversarial_attack(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    learning_rate: float = 1.0,
    max_iter: int = 100,
    normalised: bool = True,
    clamp: bool = False,
    callback: Callback | None = None,
    batch_size: int | None = None,
) -> Fooled:
    """Change pictures, step by step, until the network says `target`: gradient ascent on its raw score.

    Each step goes along the gradient and is `learning_rate` long (L2, over the whole picture). As in the course, the
    length is measured in the pixels that the network's module sees: with g the gradient by the picture and s the
    standard deviations of a `Network`, the step is learning_rate * s * sg / |sg|. For another module s is 1.

    Each picture stops as soon as its highest score is that of its target, whatever the others do; one that begins so is
    returned as it came. Where a score has no slope (behind a ReLU that is shut, say), the picture stops unfooled.
    The network is run in evaluation mode and left as it was.

    Goodfellow and others 2014, arXiv:1412.6572; Szegedy and others 2013, arXiv:1312.6199.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: the class to be said, as index or name, one for all pictures or one for each.
        learning_rate: length of a step, above 0.
        max_iter: the most steps a picture may take.
        normalised: False measures the step in pixels in [0, 1]: learning_rate * g / |g|.
        clamp: keep to [0, 1] after each step. The course does not, so a few pixels may leave it.
        callback: called after every look at the scores with a dictionary of "picture" (its index), "iteration",
            "target_score" and "max_score".
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Fooled`, of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type or are not finite, there is no such class, a setting is
            out of range, or the network gives no finite scores (N, C).
    """
    check_input(pictures, OPERATION)
    if not 0 < learning_rate < float("inf") or max_iter < 0:
        given = f"learning_rate is {learning_rate} and max_iter is {max_iter}"
        raise SaccadeError(f"Could not {OPERATION}: {given}, expected a length above 0 and a count of 0 or more.")
    scale = torch.ones(3, 1, 1).to(pictures)
    if normalised and isinstance(network, Network):
        scale = network.std[0].to(pictures)
    with searching(
        network,
        pictures,
        target,
        operation=OPERATION,
        targets=target,
        norm="l2",
        loss=_target_score,
        batch_size=batch_size,
        strict=False,
    ) as search:
        x, rows = search.x.clone(), search.every_row
        traces: list[list[Tensor]] = [[] for _ in x]
        stuck = torch.zeros_like(search.success)
        success = stuck.clone()
        for iteration in range(max_iter + 1):
            look = search.look(x[rows], rows, stop=True)
            said = torch.stack([look.loss, look.scores.amax(1)], 1)
            for picture, row in zip(rows.tolist(), said, strict=True):
                traces[picture].append(row)
                if callback is not None:
                    callback({"picture": picture, "iteration": iteration, **dict(zip(SAID, row.tolist(), strict=True))})
            arrived = search.fools(look.scores, rows)
            success[rows] = arrived
            if iteration == max_iter or arrived.all():
                break
            gradient = scale * look.gradient
            flat = ~gradient.flatten(1).any(1)
            stuck[rows] = flat & ~arrived
            rows, gradient = kept(~(flat | arrived), rows, gradient)
            if len(rows) == 0:
                break
            x[rows] += learning_rate * scale * _unit(gradient)
            if clamp:
                x[rows] = x[rows].clamp(0, 1)
    return Fooled(
        adversarial=x,
        success=success,
        iterations=torch.tensor([len(rows) - 1 for rows in traces], device=x.device),
        stuck=stuck,
        trace=tuple(torch.stack(rows) for rows in traces),
    )


def _target_score(scores: Float[Tensor, "m classes"], aim: Aim) -> Float[Tensor, " m"]:
    """What is climbed: the target's score itself, whatever the others do."""
    return scores.gather(1, aim.wanted[:, None])[:, 0]


def _unit(gradient: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Each gradient scaled to an L2 norm of 1; none of them is all zero."""
    gradient = gradient / gradient.abs().amax((1, 2, 3), keepdim=True)  # so that no square underflows
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / norm
