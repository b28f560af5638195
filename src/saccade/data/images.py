"""A labelled set of pictures, decoded once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from saccade.errors import SaccadeError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures of one size with a class each.

    pictures: uint8 (N, H, W, 3), sRGB; may lie in a memory map. labels: int64 (N,). classes: the names, in order.
    `rows` says which pictures belong to the set, so that a split of a memory map copies nothing.
    """

    name: str
    pictures: UInt8[Tensor, "total h w 3"]
    labels: Int[Tensor, " total"]
    classes: tuple[str, ...]
    rows: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        if self.pictures.ndim != 4 or self.pictures.shape[-1] != 3 or self.pictures.dtype != torch.uint8:
            given = f"{self.pictures.dtype} {tuple(self.pictures.shape)}"
            raise SaccadeError(f"Data set {self.name}: pictures must be uint8 (N, H, W, 3), got {given}.")
        if len(self.pictures) != len(self.labels):
            counts = f"{len(self.pictures)} pictures but {len(self.labels)} labels"
            raise SaccadeError(f"Data set {self.name}: {counts}; each picture needs one.")
        if len(self.labels) and not (0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes)):
            given = f"labels from {int(self.labels.min())} to {int(self.labels.max())}"
            raise SaccadeError(f"Data set {self.name}: {given} with {len(self.classes)} classes, counted from 0.")

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pictures.shape[1], self.pictures.shape[2]

    def subset(self, indices: Int[Tensor, " m"] | Sequence[int]) -> "ImageSet":
        """The pictures at `indices` of this set, as a set of their own (no copy)."""
        chosen = torch.as_tensor(indices)
        if chosen.dtype == torch.bool:
            raise SaccadeError(f"Data set {self.name}: subset takes indices; give mask.nonzero()[:, 0], not a mask.")
        chosen = chosen.to(torch.int64)
        if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(self)):
            raise SaccadeError(f"Data set {self.name}: subset asks for a picture outside 0 to {len(self) - 1}.")
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    def take(self, indices: Int[Tensor, " m"]) -> tuple[UInt8[Tensor, "m h w 3"], Int[Tensor, " m"]]:
        """The pictures (uint8 (M, H, W, 3)) and labels (M,) at `indices`."""
        rows = indices if self.rows is None else self.rows[indices]
        return self.pictures.index_select(0, rows), self.labels.index_select(0, rows)  # copies whole pictures
