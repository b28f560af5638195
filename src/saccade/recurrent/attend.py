"""Reading by attention: scores (N, T, P) and values (N, P, V) -> what is read (N, T, V), and the weights.

Soft attention reads everywhere, to different degrees; hard attention reads one place, drawn at random; local attention
reads a window around a place (Xu et al. 2015, arXiv:1502.03044; Luong, Pham & Manning 2015, arXiv:1508.04025).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.errors import SaccadeError


@dataclass(frozen=True)
class Reading:
    """What was read, (N, T, V), with which weights, (N, T, P); and of a hard reading the log-probability (N, T) of the
    places drawn, whose gradient times a reward is REINFORCE's."""

    value: Tensor
    weights: Tensor
    log_probability: Tensor | None = None


def attend(
    scores: Float[Tensor, "n t p"],
    values: Float[Tensor, "n p v"],
    *,
    mask: Bool[Tensor, "n #t p"] | None = None,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> Reading:
    """Read `values` with weights softmax(scores), or at one place drawn with these probabilities (`hard`).

    mask: True where reading is allowed; a query to which no place is open reads zeros. Soft weights sum to 1.
    """
    weights = masked_softmax(scores, mask)
    if not hard:
        return Reading(weights @ values, weights)
    flat = weights.flatten(0, 1).detach()
    closed = flat.sum(1) == 0
    drawn = torch.multinomial(flat + closed[:, None].to(flat), 1, generator=generator).view(*weights.shape[:2], 1)
    once = torch.zeros_like(weights).scatter_(2, drawn, 1.0) * ~closed.view(*weights.shape[:2], 1)
    log_probability = weights.gather(2, drawn)[..., 0].clamp_min(torch.finfo(weights.dtype).tiny).log()
    return Reading(once @ values, once, torch.where(closed.view(weights.shape[:2]), 0.0, log_probability))


def masked_softmax(
    scores: Float[Tensor, "*any p"], mask: Bool[Tensor, "*any_mask p"] | None = None
) -> Float[Tensor, "*any p"]:
    """Softmax over the last axis among the places where `mask` is True; all zeros where there is none."""
    if mask is None:
        return torch.softmax(scores, dim=-1)
    if mask.dtype != torch.bool:
        raise SaccadeError(f"attend: a mask must be boolean, True where reading is allowed, got {mask.dtype}.")
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights * mask  # what a closed row would share out evenly


class LocalAttention(nn.Module):
    """A window of 2 D + 1 places around a centre in a sequence: soft weights inside, times a bell curve of standard
    deviation D / 2 around the centre if it is predicted (Luong, Pham & Manning 2015, section 3.2).

    centre: "predicted", S sigmoid(v . tanh(q W)) for a sequence of S places; or "monotonic", the number of the step.
    The weights of a predicted centre sum to less than 1, as in the paper.
    """

    def __init__(self, query_dim: int, *, reach: int, centre: Literal["predicted", "monotonic"] = "predicted") -> None:
        super().__init__()
        if reach < 1 or centre not in ("predicted", "monotonic"):
            raise SaccadeError(
                f"LocalAttention: reach must be 1 or more and centre predicted or monotonic, got {reach}, {centre!r}."
            )
        self.reach, self.centre = reach, centre
        if centre == "predicted":
            self.hidden = nn.Linear(query_dim, query_dim, bias=False)
            self.v = nn.Linear(query_dim, 1, bias=False)

    def centres(self, queries: Float[Tensor, "n t q"], places: int, first: int = 0) -> Float[Tensor, "n t"]:
        """Where each query looks; `first` is the number of the first step."""
        if self.centre == "monotonic":
            steps = torch.arange(first, first + queries.shape[1], device=queries.device, dtype=queries.dtype)
            return steps.clamp(max=places - 1).expand(queries.shape[:2])
        predicted: Tensor = self.v(torch.tanh(self.hidden(queries)))[..., 0].sigmoid()
        return (places - 1) * predicted

    def forward(
        self,
        queries: Float[Tensor, "n t q"],
        scores: Float[Tensor, "n t p"],
        values: Float[Tensor, "n p v"],
        *,
        mask: Bool[Tensor, "n #t p"] | None = None,
        first: int = 0,
    ) -> Reading:
        """Read `values` around the centres."""
        places = torch.arange(scores.shape[2], device=scores.device, dtype=scores.dtype)
        distance = places - self.centres(queries, len(places), first)[..., None]
        near = distance.abs() <= self.reach
        weights = masked_softmax(scores, near if mask is None else near & mask)
        if self.centre == "predicted":
            weights = weights * torch.exp(-2 * (distance / self.reach) ** 2)
        return Reading(weights @ values, weights)
