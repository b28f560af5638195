"""The gradient of scores by what they were computed from."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError


def slope(score: Float[Tensor, " n"], by: Tensor, operation: str) -> Tensor:
    """The gradient of each row's score by its own row of `by`, detached: that of the sum, as rows do not depend on each
    other. Raises `SaccadeError` ("Could not <operation>: ...") if there is none."""
    try:
        (gradient,) = torch.autograd.grad(score.sum(), by)
    except RuntimeError as error:
        if "does not require grad" not in str(error) and "not have been used" not in str(error):
            raise
        raise SaccadeError(
            f"Could not {operation}: the score does not depend on it differentiably; something may detach, round or "
            "turn gradients off on the way."
        ) from error
    return gradient.detach()
