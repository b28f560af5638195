"""Sums over the places of a feature map, from which the usual statistics of style are computed.

They are sums, so those of a large picture are the sums of those of its tiles; that makes exact tiling possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError

PLACES = 256
"""Places whose products are made at once, in 16 bits."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the places of N feature maps of C channels; a place counts w = mask squared, 1 without a mask.

    gram: sum of w f f^T. total: sum of w f. area: sum of w. places: how many there are, masked or not. All in float32
    at least. centred: sqrt(w / area) (f - mean) of every place, kept where places are few and asked for; the covariance
    is centred^T centred.
    """

    gram: Float[Tensor, "n c c"]
    total: Float[Tensor, "n c"]
    area: Float[Tensor, " n"]
    places: float
    centred: Float[Tensor, "n p c"] | None = None

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of places together: of a picture, if these are two of its tiles."""
        return Moments(
            self.gram + other.gram, self.total + other.total, self.area + other.area, self.places + other.places
        )

    @property
    def mean(self) -> Float[Tensor, "n c"]:
        """The mean of the features; 0 where no place counts."""
        return self.total / _divisor(self.area)[:, None]

    @property
    def second(self) -> Float[Tensor, "n c c"]:
        """The mean of f f^T; 0 where no place counts."""
        return self.gram / _divisor(self.area)[:, None, None]

    @property
    def covariance(self) -> Float[Tensor, "n c c"]:
        return self.second - self.mean[:, :, None] * self.mean[:, None, :]

    @property
    def variance(self) -> Float[Tensor, "n c"]:
        """The diagonal of the covariance; rounding may leave it a little below 0, so it is held at 0."""
        return (self.gram.diagonal(dim1=1, dim2=2) / _divisor(self.area)[:, None] - self.mean.square()).clamp(min=0)


def moments(
    features: Float[Tensor, "n c h w"], mask: Float[Tensor, "m _ _"] | None = None, *, rough: bool = False
) -> Moments:
    """The moments of feature maps, under a mask for each or one for all (m = 1).

    Features are multiplied by the mask, as in Gatys et al. 2017 (arXiv:1611.07865), so a place counts by its square.
    Differentiable in the features as often as wanted; the mask is a constant. rough: the Gram matrix of many places
    in 16 bits may be off by a thousandth, and is faster; that is too much for a covariance, which is a difference.

    Raises:
        SaccadeError: the mask has another size than the features.
    """
    check_mask(features, mask)
    n, _, h, w = features.shape
    weight = None if mask is None else mask.to(wide(features)).square().flatten(1)
    with torch.autocast(features.device.type, enabled=False):
        gram, total = _Sums.apply(features, weight, rough)  # type: ignore[no-untyped-call]
    area = gram.new_full((n,), h * w) if weight is None else weight.sum(1).expand(n)
    return Moments(gram, total, area, float(h * w))


def mix(several: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The moments of a blend of styles: weighted means of mean, second moment and share of the places that count.

    The styles may have different sizes; each counts by its weight, however much of it a mask leaves. A blend has
    `places` 1.

    Raises:
        SaccadeError: there is not one weight for each, one is negative, or all are 0.
    """
    shares = shares_of(len(several), weights)
    if 1.0 in shares:
        return several[shares.index(1.0)]
    area = sum_of([part.area / part.places for part in several], shares)
    second = sum_of([part.second for part in several], shares)
    mean = sum_of([part.mean for part in several], shares)
    return Moments(second * area[:, None, None], mean * area[:, None], area, 1.0)


def check_mask(features: Tensor, mask: Tensor | None) -> None:
    """Raise if there is a mask that is not one for each map or one for all."""
    if mask is not None and (mask.shape[1:] != features.shape[2:] or len(mask) not in (1, len(features))):
        raise SaccadeError(
            f"Could not measure style: the mask is {tuple(mask.shape)}, expected (n or 1, h, w) of features "
            f"{tuple(features.shape)}. Resize it to the layer."
        )


def shares_of(count: int, weights: Sequence[float]) -> list[float]:
    """The weights divided by their sum."""
    if count == 0 or len(weights) != count or min(weights) < 0 or sum(weights) == 0:
        raise SaccadeError(
            f"Could not mix styles: {count} styles have the weights {list(weights)}, expected one for each, 0 or more "
            "and not all 0."
        )
    return [weight / sum(weights) for weight in weights]


def sum_of(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted sum; those without a share are left out, so that they need not be finite."""
    first, *rest = [tensor * share for tensor, share in zip(tensors, shares, strict=True) if share]
    for one in rest:
        first = first + one
    return first


def _divisor(area: Tensor) -> Tensor:
    return area.where(area > 0, torch.ones_like(area))


def wide(features: Tensor) -> torch.dtype:
    """The dtype of sums over features: float32 at least."""
    return torch.promote_types(features.dtype, torch.float32)


class _Sums(torch.autograd.Function):
    """Features (N, C, H, W) and weights (N or 1, P) -> sum of w f f^T, sum of w f; gradients lie as the features do.

    By itself autograd would take the product's two sides one after the other; they are one product here.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor | None, rough: bool) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features, weight)
        if rough and weight is None and features.dtype == torch.bfloat16 and features[0, 0].numel() >= 4 * PLACES:
            return _in_parts(_flat(features))
        f = _flat(features.to(wide(features)))
        if weight is None:
            with _products_of(features.dtype):
                return torch.bmm(f, f.mT), f.sum(2)
        counted = f * weight[:, None]
        return torch.bmm(counted, f.mT), counted.sum(2)

    @staticmethod
    def backward(ctx: Any, by_gram: Tensor, by_total: Tensor) -> tuple[Tensor, None, None]:
        features, weight = ctx.saved_tensors
        dtype = features.dtype if weight is None else wide(features)
        both, total, f = (by_gram + by_gram.mT).to(dtype), by_total.to(dtype), _flat(features.to(dtype))
        if f.is_contiguous():
            gradient = torch.baddbmm(total[:, :, None], both, f)
        else:
            gradient = torch.baddbmm(total[:, None], f.mT, both).mT
        if weight is not None:
            gradient = gradient * weight[:, None]
        return gradient.view(features.shape), None, None


def _flat(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c p"]:
    """The places in a row; a view of features that are channels last, too."""
    if features.is_contiguous(memory_format=torch.channels_last):
        return features.permute(0, 2, 3, 1).flatten(1, 2).mT
    return features.flatten(2)


def _in_parts(f: Float[Tensor, "n c p"]) -> tuple[Tensor, Tensor]:
    """Sums of f f^T and of f in float32, of 16 bits, some places at a time: PyTorch gives products in 16 bits again."""
    n, c, p = f.shape
    parts = p // PLACES
    gram = f.new_zeros(n, c, c, dtype=torch.float32)
    for some, count in ((f[:, :, : parts * PLACES], parts), (f[:, :, parts * PLACES :], 1)):
        if some.numel():
            each = some.reshape(n, c, count, -1).transpose(1, 2).flatten(0, 1)
            gram += torch.bmm(each, each.mT).view(n, count, c, c).sum(1, dtype=torch.float32)
    return gram, f.sum(2, dtype=torch.float32)


@contextmanager
def _products_of(dtype: torch.dtype) -> Iterator[None]:
    """While it is entered, matrices of float32 whose values are of `dtype` are multiplied as those, summed in float32.

    So it is exact, and many times as fast where the processor has units for it.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if dtype == torch.bfloat16:
            torch.set_float32_matmul_precision("medium")
        yield
    finally:
        torch.set_float32_matmul_precision(before)
