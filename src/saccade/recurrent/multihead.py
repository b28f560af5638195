"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762), of a sequence to itself or to another."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.recurrent.attend import masked_softmax


class MultiHead(nn.Module):
    """`heads` scaled-dot attentions side by side, each on its own projections of queries, keys and values.

    dim: width of the queries and of the result. memory_dim: width of what is read (default: dim).
    """

    def __init__(self, dim: int, heads: int, *, memory_dim: int | None = None) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise SaccadeError(f"MultiHead: dim must be a multiple of heads, got {dim} and {heads}.")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.memory = nn.Linear(memory_dim or dim, 2 * dim)  # keys and values in one product
        self.out = nn.Linear(dim, dim)

    def prepare(
        self, memory: Float[Tensor, "n p m"]
    ) -> tuple[Float[Tensor, "n heads p d"], Float[Tensor, "n heads p d"]]:
        """Keys and values of all heads: computed once for a memory that stays, appended to for one that grows."""
        keys, values = self.memory(memory).chunk(2, dim=2)
        return self._split(keys), self._split(values)

    def forward(
        self,
        x: Float[Tensor, "n t dim"],
        keys: Float[Tensor, "n heads p d"],
        values: Float[Tensor, "n heads p d"],
        *,
        mask: Bool[Tensor, "#n #t p"] | None = None,
    ) -> tuple[Float[Tensor, "n t dim"], Float[Tensor, "n heads t p"]]:
        """What each position reads, and with which weights. mask: True where reading is allowed."""
        queries = self._split(self.query(x))
        scores = queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5
        weights = masked_softmax(scores, None if mask is None else mask[:, None])
        read: Tensor = self.out((weights @ values).transpose(1, 2).flatten(2))
        return read, weights

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)


def causal_mask(steps: int, *, device: torch.device | str = "cpu") -> Bool[Tensor, "1 t t"]:
    """True where step t may look: at itself and at the steps before it."""
    return torch.ones(1, steps, steps, dtype=torch.bool, device=device).tril()
