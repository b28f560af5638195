"""Rank correlations: of two maps, and of two rankings of methods."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def spearman(a: Float[Tensor, "n ..."], b: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Spearman's rank correlation of each pair of maps, in [-1, 1], float64; equal values share their mean rank.

    Exactly 1 for equal maps. NaN where a map is constant or not finite: there it is not defined.
    """
    one, other = _centred_ranks(a), _centred_ranks(b)
    return (one * other).sum(1) / ((one * one).sum(1) * (other * other).sum(1)).sqrt()


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two scorings of the same things, in [-1, 1]; NaN if one of them ties everything."""
    agree = tied_a = tied_b = pairs = 0
    for i in range(len(a)):
        for j in range(i):
            first, second = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
            pairs, agree = pairs + 1, agree + first * second
            tied_a, tied_b = tied_a + (first == 0), tied_b + (second == 0)
    scale = ((pairs - tied_a) * (pairs - tied_b)) ** 0.5
    return agree / scale if scale else float("nan")


def _centred_ranks(maps: Tensor) -> Float[Tensor, "n p"]:
    found = []
    for row in maps.detach().flatten(1).double():
        if not torch.isfinite(row).all():
            found.append(torch.full_like(row, float("nan")))
            continue
        _, which, counts = torch.unique(row, return_inverse=True, return_counts=True)
        mean_rank = counts.cumsum(0) - (counts - 1) / 2  # of each distinct value, counted from 1
        found.append(mean_rank.to(row)[which] - (len(row) + 1) / 2)
    return torch.stack(found)
