"""Sequences of different lengths without their padding.

A packed batch holds, step after step, the rows of the sequences that are still running, the longest first; so each
step of a recurrent network is a product with one contiguous block, and padding costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError


@dataclass(frozen=True)
class Packing:
    """Where the S steps of N sequences of at most T steps lie.

    rows: at each step, how many sequences still run. order: the sequences from the longest to the shortest, None if as
    given. places: index of each packed step in the padded batch flattened to (N T), None if no sequence is padded.
    """

    count: int
    steps: int
    rows: tuple[int, ...]
    order: Tensor | None = None
    places: Tensor | None = None

    def pack(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "s d"]:
        """The steps of (N, T, D) that count, in packed order."""
        if self.places is None:
            return x.transpose(0, 1).reshape(-1, x.shape[2])
        return x.reshape(-1, x.shape[2]).index_select(0, self.places)

    def unpack(self, packed: Float[Tensor, "s d"]) -> Float[Tensor, "n t d"]:
        """The inverse of `pack`, zeros in the padding."""
        if self.places is None:
            return packed.view(self.steps, self.count, packed.shape[1]).transpose(0, 1)
        flat = packed.new_zeros(self.count * self.steps, packed.shape[1])
        return flat.index_copy(0, self.places, packed).view(self.count, self.steps, packed.shape[1])

    def sort(self, state: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """One row a sequence, brought into packed order."""
        return state if self.order is None else state.index_select(0, self.order)


def packing(count: int, steps: int, lengths: Sequence[int] | Tensor | None, device: torch.device) -> Packing:
    """The packing of `count` sequences of `lengths` steps each (default: all of `steps`).

    Raises `SaccadeError` for a length below 0 or above `steps`, or another number of lengths than sequences.
    """
    if lengths is None:
        return Packing(count, steps, (count,) * steps)
    sizes = torch.as_tensor(lengths, dtype=torch.int64)
    if sizes.shape != (count,) or (count and not 0 <= int(sizes.min()) <= int(sizes.max()) <= steps):
        given = f"{tuple(sizes.shape)}, from {sizes.min()} to {sizes.max()}" if sizes.numel() else "none"
        raise SaccadeError(f"lengths must be {count} whole numbers from 0 to {steps}, one a sequence; got {given}.")
    if count and int(sizes.min()) == steps:
        return Packing(count, steps, (count,) * steps)
    ordered, order = sizes.cpu().sort(descending=True, stable=True)
    running = torch.arange(steps)[:, None] < ordered  # (T, N)
    step, row = running.nonzero(as_tuple=True)
    places = order[row] * steps + step
    return Packing(count, steps, tuple(running.sum(1).tolist()), order.to(device), places.to(device))
