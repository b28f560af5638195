"""How well a key fits a query: the family of attention scores, as tabled by Weng 2018, "Attention? Attention!".

Each score is a module: queries (N, T, Q) and keys (N, P, K) -> scores (N, T, P), to which `attend` applies a softmax.
`prepare` computes what depends on the keys alone, once for all steps that will look at them.

    cosine    q . k / |q| |k|, times a sharpness that is learned      Graves, Wayne & Danihelka 2014
    additive  v . tanh(q Wq + k Wk)                                   Bahdanau, Cho & Bengio 2015
    location  q W, which does not look at the keys                    Luong, Pham & Manning 2015
    general   q W . k                                                 Luong, Pham & Manning 2015
    dot       q . k                                                   Luong, Pham & Manning 2015
    scaled    q . k / sqrt(K)                                         Vaswani et al. 2017
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import SaccadeError


class Score(nn.Module):
    """Queries (N, T, Q) and prepared keys -> scores (N, T, P)."""

    def prepare(self, keys: Float[Tensor, "n p k"]) -> Float[Tensor, "n p width"]:
        """What is needed of the keys at every step."""
        return keys

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        """The scores, from what `prepare` made of the keys."""
        raise NotImplementedError

    def forward(self, queries: Float[Tensor, "n t q"], keys: Float[Tensor, "n p k"]) -> Float[Tensor, "n t p"]:
        """The scores of every query with every key."""
        return self.compare(queries, self.prepare(keys))


class Dot(Score):
    """q . k, for queries and keys of one width."""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        if query_dim != key_dim:
            raise SaccadeError(
                f"A {type(self).__name__.lower()} score wants queries and keys of one width, got {query_dim} and "
                f"{key_dim}; take 'general' or 'additive'."
            )

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        scores: Tensor = queries @ prepared.transpose(1, 2)
        return scores


class Scaled(Dot):
    """q . k / sqrt(K): its spread does not grow with the width."""

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        scores: Tensor = super().compare(queries, prepared) / prepared.shape[2] ** 0.5
        return scores


class Cosine(Dot):
    """The cosine of the angle between q and k, times a sharpness above zero that is learned (starts at 1)."""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def prepare(self, keys: Float[Tensor, "n p k"]) -> Float[Tensor, "n p width"]:
        return F.normalize(keys, dim=2)

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        return super().compare(F.normalize(queries, dim=2), prepared) * self.log_sharpness.exp()


class General(Score):
    """q W . k; with W the identity it is `Dot`. Starts from N(0, 1/Q)."""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(query_dim, key_dim) / query_dim**0.5)

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        return queries @ self.weight @ prepared.transpose(1, 2)


class Additive(Score):
    """v . tanh(q Wq + k Wk + b), `hidden` wide (default: as the keys)."""

    def __init__(self, query_dim: int, key_dim: int, *, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or key_dim
        self.query = nn.Linear(query_dim, hidden, bias=False)
        self.key = nn.Linear(key_dim, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)  # its bias would cancel in the softmax

    def prepare(self, keys: Float[Tensor, "n p k"]) -> Float[Tensor, "n p width"]:
        prepared: Tensor = self.key(keys)
        return prepared

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        scores: Tensor = self.v(torch.tanh(self.query(queries)[:, :, None] + prepared[:, None]))
        return scores[..., 0]


class Location(Score):
    """q W for a fixed number of positions; of the keys only their number matters."""

    def __init__(self, query_dim: int, key_dim: int, *, positions: int) -> None:  # noqa: ARG002 - as the others
        super().__init__()
        self.weight = nn.Parameter(torch.randn(query_dim, positions) / query_dim**0.5)

    def compare(self, queries: Float[Tensor, "n t q"], prepared: Float[Tensor, "n p width"]) -> Float[Tensor, "n t p"]:
        if prepared.shape[1] != self.weight.shape[1]:
            given = prepared.shape[1]
            raise SaccadeError(f"This location score was made for {self.weight.shape[1]} positions, got {given}.")
        return queries @ self.weight


SCORES: dict[str, Callable[..., Score]] = {
    "cosine": Cosine,
    "additive": Additive,
    "location": Location,
    "general": General,
    "dot": Dot,
    "scaled": Scaled,
}


def score(name: str, query_dim: int, key_dim: int, **options: int) -> Score:
    """The score called `name` for queries and keys of these widths.

    options: `hidden` of an additive score, `positions` of a location score. Raises `SaccadeError` with the names.
    """
    if name not in SCORES:
        raise SaccadeError(f"There is no attention score {name!r}; there are {', '.join(SCORES)}.")
    return SCORES[name](query_dim, key_dim, **options)
