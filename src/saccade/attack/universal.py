"""Universal perturbation: one change that fools the network on most pictures, also on those it was not made with."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.balls import Norm, ball
from saccade.attack.engine import Result, Search, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import Aim, margin
from saccade.attack.question import check_settings
from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "make a universal perturbation"


@dataclass(frozen=True)
class Universal:
    """One change for all pictures, at most eps long, and what it does.

    seen: to the pictures it was made with. unseen: to others, None if none were given.
    """

    change: Float[Tensor, "c h w"]
    seen: Result
    unseen: Result | None


def universal(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    unseen: tuple[Tensor, Target] | None = None,
    target: Target | None = None,
    norm: Norm = "linf",
    eps: float | None = None,
    epochs: int = 10,
    at_once: int = 32,
    stride: float = 0.1,
    ceiling: float = 1.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Universal:
    """One change for many pictures, by projected ascent of the mean margin over batches of them.

    The margin of a picture counts up to `ceiling`, so that pictures which are fooled well enough leave the gradient to
    the others. Moosavi-Dezfooli and others 2016, arXiv:1610.08401, asked whether there is one; the ascent is that of
    Shafahi and others 2018, arXiv:1811.11304, with a margin for the cross entropy.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network; the change is made with these.
        labels: the true class of each picture.
        unseen: other pictures and their labels, on which the change is judged.
        target: the class to be said of all; None for any but the labels.
        norm: "linf", "l2" or "l1".
        eps: the largest change, in pixel units; by default 8/255, 0.5 or 12.
        epochs: times every picture is gone through.
        at_once: pictures a step.
        stride: the length of a step as a share of `eps`.
        ceiling: see above, in units of the scores.
        seed: of the order of the pictures.
        batch_size: the most pictures the network is given at once; by default as many as are fast and fit into memory.

    Returns:
        `Universal`; where a picture plus the change leaves [0, 1] it is cut off.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, epochs=epochs, ceiling=ceiling)
    check_settings(OPERATION, 1, at_once=at_once)
    if norm not in EPS or not stride > 0:
        raise SaccadeError(
            f"Could not {OPERATION}: norm is {norm!r} and stride {stride}, expected one of {', '.join(EPS)}, and a "
            "number above 0."
        )
    radius = EPS[norm] if eps is None else eps
    check_settings(OPERATION, 0, eps=radius)

    def capped(scores: Tensor, aim: Aim) -> Tensor:
        return margin(scores, aim).clamp(max=ceiling)

    with searching(
        network, pictures, labels, operation=OPERATION, targets=target, norm=norm, batch_size=batch_size
    ) as search:
        change = torch.zeros_like(search.x[:1])
        size = change.new_full((1, 1, 1, 1), radius)
        where = ball(norm, change, size, change - 1, change + 1, OPERATION)
        for epoch in range(epochs):
            order = torch.randperm(len(search.x), generator=generator(seed, epoch)).to(change.device)
            for part in chunks(len(order), at_once):
                rows = order[part]
                x = search.x[rows] + change
                look = search.look(x.clamp(0, 1), rows, loss=capped)
                on = (look.loss < ceiling).view(-1, 1, 1, 1) & (x >= 0) & (x <= 1)  # what is cut off has no slope
                change = where.climb(change, (look.gradient * on).mean(0, keepdim=True), stride * size)
        seen = _judged(search, change)
    if unseen is None:
        return Universal(change[0], seen, None)
    with searching(network, *unseen, operation=OPERATION, targets=target, norm=norm, batch_size=batch_size) as search:
        if search.x.shape[1:] != change.shape[1:]:
            raise SaccadeError(
                f"Could not {OPERATION}: the unseen pictures are {tuple(search.x.shape[1:])}, the others "
                f"{tuple(change.shape[1:])}, expected one shape."
            )
        return Universal(change[0], seen, _judged(search, change))


def _judged(search: Search, change: Float[Tensor, "1 c h w"]) -> Result:
    """What a change does to all pictures that the network was right about."""
    rows = search.active
    if len(rows):
        z = (search.x[rows] + change.to(search.x)).clamp(0, 1)
        search.offer(z, rows, search.ask(z, rows))
    return search.result()
