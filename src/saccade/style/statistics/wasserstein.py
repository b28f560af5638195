"""The Wasserstein distance of the normal distributions that have the same means and covariances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from saccade.errors import SaccadeError
from saccade.style.statistics.moments import Moments, moments
from saccade.style.statistics.statistic import OfMoments

_ROOTS: WeakKeyDictionary[Moments, dict[float, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Wasserstein(OfMoments):
    """Squared 2-Wasserstein distance of normal distributions, over the number of channels (once differentiable).

        (|mean - mean'|^2 + tr(A + B - 2 (B^1/2 A B^1/2)^1/2)) / C,    A, B: the covariances + eps I

    Proposed for style by Mroueh 2019, arXiv:1905.12828. The roots are taken in float64 by eigenvectors: on a CPU that
    is faster than the Newton-Schulz iteration in float32 and, unlike it, exact for any covariance. That of a target is
    computed once.

    Where now and target together have at most half as many places as channels, both are first expressed in a basis of
    the space that their places span. Nothing is lost: beside it A and B are eps I, whose terms cancel.
    """

    eps: float = 1e-4

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise SaccadeError(f"Could not compare styles: eps is {self.eps}, expected more than 0.")

    def measure(self, features: Float[Tensor, "n c h w"], mask: Float[Tensor, "m _ _"] | None = None) -> Moments:
        found = moments(features, mask)
        _, channels, h, w = features.shape
        if 2 * h * w > channels:
            return found
        share = (1.0 if mask is None else mask.to(found.area).flatten(1)) / found.area.clamp(min=1e-30).sqrt()[:, None]
        return replace(found, centred=(features.flatten(2).mT - found.mean[:, None]) * share[:, :, None])

    def between(self, now: Moments, target: Moments) -> Float[Tensor, " n"]:
        apart = (now.mean - target.mean).square().sum(1)
        basis = _common_basis(now, target)
        if basis is None:
            a, root = self._smoothed(now.covariance), self._root_of(target)
        else:
            a, b = (self._smoothed(_in_basis(one, basis)) for one in (now, target))
            root = _root(b)
        mixed: Tensor = _TraceOfRoot.apply(a, root, self.eps)  # type: ignore[no-untyped-call]
        spread = a.diagonal(dim1=1, dim2=2).sum(1) + root.square().flatten(1).sum(1) - 2 * mixed
        return (apart + spread.to(apart)) / now.total.shape[1]

    def _smoothed(self, covariance: Float[Tensor, "n c c"]) -> Float[Tensor, "n c c"]:
        exact = _exact(covariance)
        return exact + self.eps * torch.eye(exact.shape[1], dtype=exact.dtype, device=exact.device)

    def _root_of(self, target: Moments) -> Float[Tensor, "n c c"]:
        known = _ROOTS.setdefault(target, {})
        if self.eps not in known:
            known[self.eps] = _root(self._smoothed(target.covariance))
        return known[self.eps]


def _root(matrices: Float[Tensor, "n c c"]) -> Float[Tensor, "n c c"]:
    """The symmetric roots of a target, which is a constant."""
    values, vectors = torch.linalg.eigh(matrices.detach())
    root: Tensor = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT
    return root


def _common_basis(now: Moments, target: Moments) -> Float[Tensor, "n c r"] | None:
    """Orthonormal columns that span the places of both, if these are few. They are held constant: turning them changes
    nothing to first order, as A and B have no entries between the span and the rest."""
    if now.centred is None or target.centred is None:
        return None
    places = torch.cat([now.centred, target.centred.expand(len(now.centred), -1, -1)], dim=1).detach()
    if 2 * places.shape[1] > places.shape[2]:
        return None
    basis: Tensor = torch.linalg.qr(_exact(places).mT).Q
    return basis


def _in_basis(of: Moments, basis: Float[Tensor, "n c r"]) -> Float[Tensor, "n r r"]:
    """The covariance in a basis."""
    assert of.centred is not None
    coordinates = _exact(of.centred) @ basis
    return coordinates.mT @ coordinates


def _exact(tensor: Tensor) -> Tensor:
    """In float64; on the CPU where a device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


class _TraceOfRoot(torch.autograd.Function):
    """tr m^1/2, m = root a root, with its gradient by a: root m^-1/2 root / 2.

    One decomposition serves both, where the gradient of the root itself would need a Lyapunov equation solved. No
    eigenvalue of a or root^2 is below eps, but for rounding.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, root: Tensor, eps: float) -> Tensor:
        values, vectors = torch.linalg.eigh(root @ a @ root)
        values = values.clamp(min=eps**2)
        turned = root @ vectors
        ctx.save_for_backward((turned * values.rsqrt()[:, None] / 2) @ turned.mT)
        trace: Tensor = values.sqrt().sum(1)
        return trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_trace: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return by_trace[:, None, None] * gradient, None, None
