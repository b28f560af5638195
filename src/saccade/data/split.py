"""Dividing a training set into training and validation."""

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

_PURPOSE = 0x5911  # keeps these random numbers apart from others that are drawn from the same seed


def split_indices(
    labels: Int[Tensor, " n"], *, val: float | int, seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " val"]]:
    """Indices of the training and of the validation pictures, each sorted, together all of them once.

    Each class gives its share of the validation set, to less than two pictures and nearly always to within one. The
    division depends on the labels, `val` and `seed` only.

    Args:
        val: the fraction that is held out, in [0, 1); or, from 1 up, the number of pictures.
        seed: which division.

    Raises:
        SaccadeError: `val` is out of range.
    """
    total = len(labels)
    if not (0 <= val < 1 or (1 <= val < total and val == int(val))):  # this way round NaN is refused too
        raise SaccadeError(
            f"Splitting {total} pictures: val={val} was given; it is a fraction in [0, 1) or a whole number "
            f"of pictures below {total}."
        )
    count = int(val) if val >= 1 else min(round(val * total), max(total - 1, 0))
    order = torch.randperm(total, generator=generator(_PURPOSE, seed))
    # the k-th of n pictures of a class stands at (k + 1/2) / n; taking the first `count` takes equal shares
    # of all
    shuffled = labels[order]
    by_class = torch.argsort(shuffled, stable=True)
    sizes = torch.bincount(shuffled)[shuffled[by_class]]
    starts = torch.searchsorted(shuffled[by_class].contiguous(), shuffled[by_class].contiguous())
    standing = (torch.arange(total) - starts + 0.5) / sizes
    place = torch.argsort(standing, stable=True)
    held_out = torch.zeros(total, dtype=torch.bool)
    held_out[order[by_class[place[:count]]]] = True
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
