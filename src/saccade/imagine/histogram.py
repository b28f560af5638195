"""How often values of which size occur, counted in one pass and without knowing their range beforehand."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BINS = 64
_SMALLEST = -20  # values below 2 ** -20, about a millionth, are told apart no further


class Histogram:
    """Counts of values for each of some channels, in `BINS` equal parts of -reach to reach.

    reach: (channels,), a power of two above the largest magnitude seen. When it must grow, neighbouring bins are added
    up; so the counts are exact and do not depend on the order or the batches in which values came.
    """

    def __init__(self, channels: int) -> None:
        self.counts: Int[Tensor, "channels bins"] = torch.zeros(channels, BINS, dtype=torch.int64)
        self._exponent = torch.full((channels,), _SMALLEST)

    @property
    def reach(self) -> Float[Tensor, " channels"]:
        return torch.exp2(self._exponent.double())

    def add(self, values: Float[Tensor, "channels n"]) -> None:
        """Count finite values."""
        values = values.detach().to("cpu", torch.float64)
        largest = values.abs().amax(1)
        needed = torch.frexp(largest).exponent.where(largest > 0, _SMALLEST)  # of zero it would be 0
        while (grows := needed > self._exponent).any():
            folded = torch.zeros_like(self.counts)
            folded[:, BINS // 4 : 3 * BINS // 4] = self.counts.view(-1, BINS // 2, 2).sum(2)
            self.counts = torch.where(grows[:, None], folded, self.counts)
            self._exponent = self._exponent + grows.int()
        bins = (values / self.reach[:, None] + 1) * (BINS // 2)  # exact, as all divisors are powers of two
        self.counts.scatter_add_(1, bins.floor().long(), torch.ones_like(bins, dtype=torch.int64))
