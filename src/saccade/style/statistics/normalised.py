"""A loss whose gradient at a feature map has a length of its own choice."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def normalise_gradient(features: Float[Tensor, "n c h w"], strength: float = 1.0) -> Float[Tensor, "n c h w"]:
    """The features themselves, through which the gradient of each picture passes scaled to L1 length `strength`.

    It stands between the network and one loss, so that layers pull alike whatever the size of their features and the
    weight of their loss (Johnson's neural-style, option -normalize_gradients). No gradient stays none.
    """
    scaled: Tensor = _Normalised.apply(features, strength)  # type: ignore[no-untyped-call]
    return scaled


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        length = torch.linalg.vector_norm(
            gradient.flatten(1), ord=1, dim=1, dtype=torch.promote_types(gradient.dtype, torch.float32)
        )
        factor = torch.where(length > 0, ctx.strength / length, 0)
        return gradient * factor.to(gradient.dtype).view(-1, 1, 1, 1), None
