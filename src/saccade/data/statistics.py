"""Mean and standard deviation of the channels of a data set, exactly."""

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.data.images import ImageSet
from saccade.errors import SaccadeError

Triple = tuple[float, float, float]
_ROWS = 1 << 16  # 65,536 squares of at most 255 fit into 32 bits


class Moments:
    """Sums per channel of the values and of their squares, in whole numbers, so without rounding."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = np.zeros(3, np.int64)
        self.squares = np.zeros(3, np.int64)

    def add(self, pictures: NDArray[np.uint8]) -> None:
        """Take in pictures (..., W, 3)."""
        rows = pictures.reshape(-1, pictures.shape[-2] * 3)
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            squares = block.astype(np.uint16) ** 2
            self.count += block.size // 3
            self.sums += block.sum(0, dtype=np.uint32).reshape(-1, 3).sum(0, dtype=np.int64)
            self.squares += squares.sum(0, dtype=np.uint32).reshape(-1, 3).sum(0, dtype=np.int64)

    def mean_std(self) -> tuple[Triple, Triple]:
        """Mean and standard deviation (of the population), for values scaled to [0, 1]."""
        mean = self.sums / self.count
        # n * sum(x^2) - sum(x)^2 in Python's unbounded integers, so nothing cancels
        numerators = [self.count * int(q) - int(s) ** 2 for s, q in zip(self.sums, self.squares, strict=True)]
        r, g, b = (float(value) / 255 for value in mean)
        sr, sg, sb = (float(value) ** 0.5 / self.count / 255 for value in numerators)
        return (r, g, b), (sr, sg, sb)


def channel_statistics(images: ImageSet, *, chunk: int = 1024) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel over every pixel of the set, in [0, 1].

    The deviation is that of all pixels, not the mean of the deviations of single pictures: the constants
    0.2023, 0.1994, 0.2010 that many programs use for CIFAR-10 are the latter; the former are 0.2470, 0.2435,
    0.2616.

    Raises:
        SaccadeError: the set is empty.
    """
    if len(images) == 0:
        raise SaccadeError(f"Statistics of data set {images.name}: it holds no pictures.")
    moments = Moments()
    for start in range(0, len(images), chunk):
        pictures, _ = images.take(torch.arange(start, min(start + chunk, len(images))))
        moments.add(pictures.numpy())
    return moments.mean_std()
