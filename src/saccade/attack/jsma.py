"""JSMA: pairs of values are pushed to the border, those that raise the target and lower all other scores most."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.engine import Result, kept, searching
from saccade.attack.losses import margin
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with JSMA"
MOST = 256  # candidates of a picture; more would be needed only if that many were the best in one respect each


def jsma(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    theta: float = 1.0,
    gamma: float = 0.1,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """A picture with few changed values that the network takes for the target: the Jacobian saliency map attack.

    Each step changes two values by `theta`, those for which the rise of the target's score times the fall of the sum of
    all others is largest, if the first rises and the second falls. A value is changed once. Papernot and others 2016,
    arXiv:1511.07528.

    The best pair is found without a table of all pairs: its values are among those that at most one other value
    surpasses in both respects.

    Args:
        network, pictures, labels, targets, mask, batch_size: as in `ddn`. Without targets each picture is pushed to the
            class of its second score.
        theta: by how much a value changes, clamped to [0, 1]; below 0 it falls.
        gamma: the largest share of all values that may change.

    Returns:
        `Result`, measured in L0; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, gamma=gamma)
    if not 0 < abs(theta) <= 1 or gamma > 1:
        raise SaccadeError(
            f"Could not {OPERATION}: theta is {theta} and gamma {gamma}, expected from -1 to 1 but 0, and a share."
        )
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm="l0",
        loss=margin,
        mask=mask,
        batch_size=batch_size,
    ) as search:
        rows, classes = search.active, search.scores.shape[1]
        aims = search.targets
        if aims is None:
            aims = search.scores.scatter(1, search.labels[:, None], -torch.inf).argmax(1)
        low, high = (border.expand_as(search.x)[rows].flatten(1) for border in (search.low, search.high))
        z = search.x[rows]
        flat = z.flatten(1)
        free = (flat < high - 0.01) if theta > 0 else (flat > low + 0.01)
        for _ in range(int(gamma * search.x[0].numel() / 2 + 0.5)):
            if len(rows) == 0:
                break
            target = F.one_hot(aims[rows], classes).to(search.scores)
            _, slopes = search.slopes(z, rows, torch.stack([target, 1 - target], 1))
            up, down = (slopes.flatten(2) * (1 if theta > 0 else -1)).unbind(1)
            pair, found = best_pairs(up, -down, free)
            flat = z.flatten(1)
            moved = (flat.gather(1, pair) + theta).maximum(low.gather(1, pair)).minimum(high.gather(1, pair))
            z = flat.scatter(1, pair, moved).view_as(z)
            free = free.scatter(1, pair, False)
            z, rows, free, low, high = kept(found, z, rows, free, low, high)
            if len(rows):
                on = ~search.offer(z, rows, search.ask(z, rows))
                z, rows, free, low, high = kept(on, z, rows, free, low, high)
        return search.result()


def best_pairs(
    a: Float[Tensor, "m d"], b: Float[Tensor, "m d"], free: Bool[Tensor, "m d"]
) -> tuple[Int[Tensor, "m 2"], Bool[Tensor, " m"]]:
    """The pairs p, q of free values of the largest (a_p + a_q)(b_p + b_q) with both sums above 0, if there is any."""
    a, b = a.masked_fill(~free, -torch.inf), b.masked_fill(~free, -torch.inf)
    order = a.argsort(dim=1, descending=True, stable=True)
    by_a = b.gather(1, order)
    least = torch.full_like(by_a[:, :1], -torch.inf)
    highest = torch.cat([least, by_a.cummax(1).values[:, :-1]], 1)  # of those before each
    second = torch.cat([least, torch.minimum(by_a, highest).cummax(1).values[:, :-1]], 1)
    in_front = (by_a >= second) & (by_a > -torch.inf)
    count = min(int(in_front.sum(1).amax()), MOST, a.shape[1])
    picked = order.gather(1, in_front.byte().argsort(dim=1, descending=True, stable=True)[:, : max(count, 2)])
    a, b = a.gather(1, picked), b.gather(1, picked)
    rise, fall = a[:, :, None] + a[:, None], b[:, :, None] + b[:, None]
    valid = (rise > 0) & (fall > 0) & ~torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    worth = (rise * fall).where(valid, -torch.inf).flatten(1)
    best, at = worth.max(1)
    first, other = at // a.shape[1], at % a.shape[1]
    return picked.gather(1, torch.stack([first, other], 1)), best > -torch.inf
