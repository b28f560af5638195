"""ROAD: remove pixels so that the hole does not show, and see whether the score falls.

Rong, Leemann, Borisov, Kasneci, Kasneci 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
arXiv:2202.00449. Holes filled with one colour keep the shape of what was removed, so a map may score by drawing the
class. Here each removed pixel becomes the weighted mean of its eight neighbours, removed ones among them (a linear
system for all at once), and a little noise. The measure still favours smooth maps (arXiv:2304.13836).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.question import Target, asking
from saccade.explain.reduce import How
from saccade.explain.scores.common import Curve, Order, Said, checked_map, ranks, says

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_BESIDE, _DIAGONAL = 1 / 6, 1 / 12  # weights of a pixel's neighbours


def road(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    *,
    order: Order = "most",
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    score: Said = "probability",
    how: How = "sum",
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """What the network says of the target as pixels are imputed from their neighbours; see `deletion`.

    Args:
        order: "most" relevant first, when a low area is good, or "least", when a high one is.
        shares: of the pixels, in (0, 1), rising; at least two.
        noise: standard deviation of what is added to imputed pixels, in pixel units; the same noise in every picture.

    The other arguments, the result and the errors are those of `deletion`.
    """
    operation = "score by ROAD"
    if len(shares) < 2 or not shares[0] > 0 or not shares[-1] < 1 or list(shares) != sorted(set(shares)):
        raise SaccadeError(f"Could not {operation}: shares is {tuple(shares)}, expected two or more in (0, 1), rising.")
    with asking(network, pictures, target, operation) as question:
        x, place = question.x, ranks(checked_map(attribution, how, question), order, seed)
        pixels, points = x.shape[2] * x.shape[3], len(shares)
        taken = torch.tensor([min(pixels - 1, round(share * pixels)) for share in shares], device=x.device)
        added = torch.randn(x.shape[1:], dtype=torch.float64, generator=generator(seed, 0x20AD)).to(x) * noise
        question.learn(len(x) * points)
        said = []
        for part in chunks(len(x) * points, rows_at_once(network, x, batch_size)):
            row = torch.arange(part.start, part.stop, device=x.device)
            which, point = row // points, row % points
            gone = place[which] < taken[point, None, None]
            imputed = impute(x[which], gone)
            said.append(says(question, torch.where(gone[:, None], imputed + added, imputed), which, score))
        return Curve(taken.to(x.dtype) / pixels, torch.cat(said).view(len(x), points))


def impute(pictures: Float[Tensor, "n 3 h w"], removed: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures whose removed pixels are the weighted means of their neighbours; at least one pixel of each stays.

    The eight neighbours weigh 1/6 beside and 1/12 across; at the rim, those that are there. Solved on the CPU in
    float64.
    """
    from scipy.sparse.linalg import splu  # type: ignore[import-untyped]

    n, _, h, w = pictures.shape
    weights, total = _neighbours(h, w)
    values = pictures.double().flatten(2).transpose(1, 2).cpu().numpy().copy()  # (N, H * W, 3)
    for each, hole in zip(values, removed.flatten(1).cpu().numpy(), strict=True):
        if not hole.any():
            continue
        rows = weights[hole]
        inside = -rows[:, hole].tocsc()
        inside.setdiag(total[hole])
        # the system is symmetric and its diagonal dominates: no pivoting is needed, and little fills in
        solver = splu(inside, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        each[hole] = solver.solve(rows[:, ~hole] @ each[~hole])
    return torch.from_numpy(values).transpose(1, 2).reshape(n, 3, h, w).to(pictures)


@lru_cache(maxsize=4)
def _neighbours(h: int, w: int) -> tuple[Any, Any]:
    """The weights of all pairs of neighbours of a picture, sparse (H * W, H * W), and their sum for each pixel."""
    from scipy.sparse import coo_matrix  # type: ignore[import-untyped]

    index = np.arange(h * w).reshape(h, w)
    pairs = [
        (index[1:], index[:-1], _BESIDE),
        (index[:, 1:], index[:, :-1], _BESIDE),
        (index[1:, 1:], index[:-1, :-1], _DIAGONAL),
        (index[1:, :-1], index[:-1, 1:], _DIAGONAL),
    ]
    one = np.concatenate([a.ravel() for a, _, _ in pairs])
    other = np.concatenate([b.ravel() for _, b, _ in pairs])
    weight = np.concatenate([np.full(a.size, value) for a, _, value in pairs])
    weights = coo_matrix((weight, (one, other)), shape=(h * w, h * w))
    weights = (weights + weights.T).tocsr()
    return weights, np.asarray(weights.sum(1)).ravel()
