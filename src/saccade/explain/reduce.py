"""One number a pixel: how an attribution of colours becomes a map."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError

How = Literal["sum", "abs", "largest", "positive", "negative"]


def as_map(attribution: Tensor, how: How = "sum") -> Float[Tensor, "n h w"]:
    """An attribution (N, 3, H, W), or one that is a map already, (N, H, W), as a map (N, H, W).

    "sum" adds the three colours, with their signs, as contributions to a score add up. "abs" adds their magnitudes, and
    "largest" takes the largest of them, as the course does: for a gradient, whose sign only says in which direction a
    pixel would have to change. "positive" and "negative" are the two sides of the sum, both zero or more. Raises
    `SaccadeError` for another shape or another word.
    """
    if how not in get_args(How):
        raise SaccadeError(
            f"Could not reduce an attribution to a map: how={how!r} was given, expected {', '.join(get_args(How))}."
        )
    if attribution.ndim not in (3, 4) or (attribution.ndim == 4 and attribution.shape[1] != 3):
        raise SaccadeError(
            f"Could not reduce an attribution to a map: its shape is {tuple(attribution.shape)}, expected "
            "(n, 3, height, width) or (n, height, width)."
        )
    colours = attribution.detach()
    colours = colours if colours.ndim == 4 else colours[:, None]
    if how == "abs":
        return colours.abs().sum(1)
    if how == "largest":
        return colours.abs().amax(1)
    total = colours.sum(1)
    return total if how == "sum" else (total if how == "positive" else -total).clamp(min=0)
