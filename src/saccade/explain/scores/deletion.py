"""Deletion and insertion: does the score fall when the pixels a map points at go, and rise when they come?

Petsiuk, Das, Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", arXiv:1806.07421.
Pictures with pixels removed are unlike any the network was trained on, so the curves depend on what fills the holes:
compare several fills, and compare with the controls.
"""

import torch
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking
from saccade.explain.reduce import How
from saccade.explain.scores.common import Curve, Order, Said, checked_map, ranks, says


def deletion(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    *,
    fill: Fill = "mean",
    order: Order = "most",
    steps: int = 24,
    score: Said = "probability",
    how: How = "sum",
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """What the network says of the target as the pixels are replaced, the most relevant first; a low area is good.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W).
        target: see `Target`.
        attribution: (N, 3, H, W) or (N, H, W), large where the target was found.
        fill: what replaces pixels: "mean", "blur" or a grey such as 0.0, see `Fill`.
        order: "most" relevant first, or "least", when a high area is good.
        steps: equal steps from the whole picture to none of it.
        score: softmax "probability" or the raw "logit".
        how: how an attribution of colours becomes a map, see `as_map`.
        seed: orders pixels of equal relevance.
        batch_size: rows given to the network at once; by default as many as are fast and fit.

    Returns:
        A `Curve` of `steps + 1` points, from share 0 to 1.

    Raises:
        SaccadeError: shapes that do not belong together, values that are not finite, an unknown word.
    """
    return _curve("score by deletion", network, pictures, target, attribution, fill, order, steps, score, how, seed,
                  batch_size, insert=False)  # fmt: skip


def insertion(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    *,
    fill: Fill = "mean",
    order: Order = "most",
    steps: int = 24,
    score: Said = "probability",
    how: How = "sum",
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """What the network says of the target as the pixels come back into a filled picture, the most relevant first; a
    high area is good.

    It is the curve of `deletion` with the least relevant first, read backwards, so the two orders of both are two
    curves, not four. Arguments, result and errors are those of `deletion`.
    """
    return _curve("score by insertion", network, pictures, target, attribution, fill, order, steps, score, how, seed,
                  batch_size, insert=True)  # fmt: skip


def _curve(
    operation: str,
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    fill: Fill,
    order: Order,
    steps: int,
    score: Said,
    how: How,
    seed: int,
    batch_size: int | None,
    *,
    insert: bool,
) -> Curve:
    if steps < 1:
        raise SaccadeError(f"Could not {operation}: steps is {steps}, expected 1 or more.")
    with asking(network, pictures, target, operation) as question:
        x, place = question.x, ranks(checked_map(attribution, how, question), order, seed)
        before, after = (fills(question, fill), x) if insert else (x, fills(question, fill))
        pixels, points = x.shape[2] * x.shape[3], steps + 1
        taken = (torch.arange(points, device=x.device) * pixels + steps // 2) // steps
        question.learn(len(x) * points)
        said = []
        for part in chunks(len(x) * points, rows_at_once(network, x, batch_size)):
            row = torch.arange(part.start, part.stop, device=x.device)
            which, point = row // points, row % points
            gone = place[which] < taken[point, None, None]
            said.append(says(question, torch.where(gone[:, None], after[which], before[which]), which, score))
        return Curve(taken.to(x.dtype) / pixels, torch.cat(said).view(len(x), points))
