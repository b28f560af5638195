"""Completeness: whether the values of an attribution add up to what they are to explain.

Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365, proposition 1. Only some
methods promise it (`Method.complete`); for the others the gap means nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking
from saccade.explain.scores.common import checked_map


@dataclass(frozen=True, eq=False)
class Completeness:
    """total: the sum of each attribution, (N,). expected: what it should be, in units of the score, (N,)."""

    total: Float[Tensor, " n"]
    expected: Float[Tensor, " n"]

    @property
    def gap(self) -> Float[Tensor, " n"]:
        """Distance of the two, in units of the score."""
        return (self.total - self.expected).abs()

    @property
    def relative(self) -> Float[Tensor, " n"]:
        """The gap as a share of what is expected; infinite or NaN where that is zero."""
        return self.gap / self.expected.abs()


def completeness(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    *,
    baseline: Fill | None = None,
    batch_size: int | None = None,
) -> Completeness:
    """Compare the sum of an attribution with the raw score, or with its difference from a baseline's.

    Args:
        attribution: (N, 3, H, W) or (N, H, W).
        baseline: what the method took for a picture without anything, see `Fill`; None compares with the score itself.
        batch_size, network, pictures, target: see `deletion`.

    Raises:
        SaccadeError: shapes that do not belong together, values that are not finite, no `Fill`.
    """
    operation = "score by completeness"
    with asking(network, pictures, target, operation) as question:
        x = question.x
        total = checked_map(attribution, "sum", question).flatten(1).sum(1)
        everyone = torch.arange(len(x), device=x.device)

        def scores(of: Tensor) -> Tensor:
            size = rows_at_once(network, x, batch_size)
            return torch.cat([question.score(of[part], everyone[part]).detach() for part in chunks(len(x), size)])

        expected = scores(x)
        if baseline is not None:
            expected = expected - scores(fills(question, baseline))
        return Completeness(total, expected)
