"""EAD: the elastic net, a squared distance and an L1 distance, minimised by shrinking and thresholding (FISTA)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.balls import distance
from saccade.attack.carlini_wagner import first_constant, next_constant
from saccade.attack.engine import Result, searching
from saccade.attack.losses import margin
from saccade.attack.polish import go_nearer, offer_sure
from saccade.attack.question import check_settings
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with EAD"
RULES = ("l1", "en")


def elastic_net(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    rule: str = "l1",
    beta: float = 0.001,
    steps: int = 100,
    searches: int = 9,
    lr: float = 0.01,
    confidence: float = 0.0,
    polish: bool = True,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture in L1, or in the elastic net, that fools the network: the attack EAD.

    Steps down the squared distance plus c times the hinge of the margin, each followed by a shrinkage of all changes by
    `beta`, at which those below it vanish, and by FISTA's momentum. c is searched as in `carlini_wagner`. Chen and
    others 2018, arXiv:1709.04114.

    Args:
        network, pictures, labels, targets, mask, batch_size: as in `ddn`.
        rule: which of the points that fool the network is kept: that of the least L1 distance, or with "en" of the
            least beta * L1 + squared L2. `Result.norm` is L1 in both.
        beta: the shrinkage of each step.
        steps: of each search, each two passes forward and one backward.
        searches: how many values of c.
        lr: the first length of a step, in units of the gradient; it falls to 0 as the square root of what is left.
        confidence: how far the margin must be above 0.
        polish: at the end, move what was found to the nearest point of the boundary, see `polish.go_nearer`; without it
            the attack is the published one.

    Returns:
        `Result`; its `loss` is the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, beta=beta, steps=steps, searches=searches, lr=lr, confidence=confidence)
    if rule not in RULES:
        raise SaccadeError(f"Could not {OPERATION}: rule is {rule!r}, expected one of {', '.join(RULES)}.")

    def size(change: Tensor) -> Tensor:
        l1 = distance(change, "l1")
        return l1 if rule == "l1" else beta * l1 + distance(change, "l2").square()

    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=targets,
        norm="l1",
        loss=margin,
        mask=mask,
        batch_size=batch_size,
    ) as search:
        rows = search.active
        if len(rows) == 0:
            return search.result()
        x, (low, high) = search.x[rows], search.box(rows)
        _, c = first_constant(search, rows)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(searches):
            z = y = x
            fooled = torch.zeros_like(rows, dtype=torch.bool)
            for step in range(steps):
                look = search.look(y, rows)
                pull = c.view(-1, 1, 1, 1) * look.gradient * (look.loss < confidence).view(-1, 1, 1, 1)
                rate = lr * (1 - step / steps) ** 0.5
                new = _shrink(y - rate * (2 * (y - x) - pull) - x, beta) + x
                new = torch.minimum(torch.maximum(new, low), high)
                z, y = new, new + step / (step + 3) * (new - z)
                scores = search.ask(z, rows)
                fooled |= offer_sure(search, z, rows, scores, confidence=confidence, size=size)
            c, lower, upper = next_constant(c, lower, upper, fooled)
        if polish:
            go_nearer(search, rows, confidence=confidence, size=size)
        return search.result()


def _shrink(change: Float[Tensor, "m c h w"], beta: float) -> Float[Tensor, "m c h w"]:
    """Each change nearer to 0 by `beta`, those within it 0."""
    return change.sign() * (change.abs() - beta).clamp_min(0)
