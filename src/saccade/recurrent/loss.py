"""The loss of a language model over padded sequences."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.errors import SaccadeError


def temporal_softmax_loss(
    scores: Float[Tensor, "n t v"],
    labels: Int[Tensor, "n t"],
    *,
    ignore_index: int | None = None,
    per: Literal["sequence", "token"] = "sequence",
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Sum of -log softmax(scores)[label] over the places whose label is not `ignore_index`, divided by the number of
    sequences (as the course has it) or of those places ("token"). A batch in which every place is ignored costs 0.
    """
    if per not in ("sequence", "token"):
        raise SaccadeError(f"temporal_softmax_loss: per must be sequence or token, got {per!r}.")
    ignored = -100 if ignore_index is None else ignore_index
    flat = labels.flatten()
    total = F.cross_entropy(
        scores.flatten(0, 1), flat, ignore_index=ignored, reduction="sum", label_smoothing=label_smoothing
    )
    count = len(labels) if per == "sequence" else int((flat != ignored).sum())
    return total / max(count, 1)
