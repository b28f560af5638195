"""The exact attack on linear classifiers, against which every other attack can be judged."""

import torch
from torch import Tensor, nn

from saccade.attack.balls import Norm
from saccade.attack.engine import Result, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import Aim, margin
from saccade.attack.question import Budget, per_picture
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack exactly"


def linear_attack(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    norm: Norm = "linf",
    eps: Budget | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
) -> Result:
    """The highest margin that any change within `eps` and [0, 1] can have, where scores are linear in the picture.

    For each class the difference of its score and the label's is a linear function, whose highest point in a ball and a
    box is known in closed form: without the box it gains eps times the dual norm of the gradient. The best class wins.
    A picture is robust if and only if this attack fails. Kolter and Madry 2018, adversarial-ml-tutorial.org, chapter 2.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to scores (N, classes) that are a matrix times the picture plus a
            vector; in eval mode.
        pictures, labels, eps, mask, batch_size: as in `gradient_attack`.
        norm: "linf", "l2" or "l1".

    Returns:
        `Result`; `loss` is the highest margin, of pictures that are robust too.

    Raises:
        SaccadeError: the network is not linear there, and whatever else cannot be attacked.
    """
    with searching(
        network, pictures, labels, operation=OPERATION, norm=norm, loss=margin, mask=mask, batch_size=batch_size
    ) as search:
        radius = per_picture(EPS[norm] if eps is None else eps, search.x, "eps", OPERATION)
        rows = search.active
        if len(rows) == 0:
            return search.result()
        where = search.ball(rows, radius)
        best, highest = where.x.clone(), torch.full_like(where.eps[:, 0, 0, 0], -torch.inf)
        for other in range(search.scores.shape[1]):

            def lead(scores: Tensor, aim: Aim, other: int = other) -> Tensor:
                return scores[:, other] - scores.gather(1, aim.labels[:, None])[:, 0]

            look = search.look(where.x, rows, loss=lead)
            z = where.best(look.gradient)
            reached = look.loss.to(z) + (look.gradient * (z - where.x)).flatten(1).sum(1)
            better = (reached > highest) & (search.labels[rows] != other)
            best = torch.where(better[:, None, None, None], z, best)
            highest = torch.where(better, reached, highest)
        scores = search.ask(best, rows)
        said = margin(scores, search.aim(rows)).to(highest)
        scale = torch.maximum(search.scores[rows].abs().amax(1), scores.abs().amax(1)).to(highest)
        if ((said - highest).abs() > 1e-3 * scale + 1e-6).any():
            raise SaccadeError(
                f"Could not {OPERATION}: the network is not linear between the pictures and what should be the worst "
                "near them; use another attack."
            )
        search.offer(best, rows, scores)
        return search.result()
