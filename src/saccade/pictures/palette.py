"""Colours from one picture, shapes from another: colour transfer and luminance transfer.

Style transfer uses them before, to give the style picture the content's colours or luminance, or after, to give the
result the content's colours (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer", 1606.05897).
Luminance here is luma, Y of Y'CbCr with ITU-R BT.709's weights; chroma is what remains, (R - Y, G - Y, B - Y).

No result is clipped colour by colour, which would change its hue and luma: a value outside of [0, 1] is brought back by
making its pixel less saturated, after its luma was clipped to [0, 1].
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures.check import check_pictures
from saccade.pictures.colour import luminance

# The variance that rounding to 8 bits adds: a direction of colour that varies less holds nothing to be stretched.
ROUNDING = 1 / 255**2 / 12


def match_colours(pictures: Tensor, reference: Tensor, method: str = "linear") -> Float[Tensor, "n 3 h w"]:
    """`pictures` (N, 3, H, W) with the colours of `reference` (1 or N, 3, h, w), all in [0, 1].

    method:
        "linear": mean and covariance of the three colours become the reference's, by the map
            S^1/2 C^-1/2 (x - mean of x) + mean of the reference, with symmetric roots of their covariances (the "image
            analogies" colour transfer of 1606.05897). A direction of colour without variance, of which a grey picture
            has two, holds nothing to stretch and stays flat.
        "luminance": mean and standard deviation of the luma become the reference's; chroma stays.
        "histogram": each colour's quantiles become the reference's. Equal values take the middle of their ranks.
            Has no gradient.

    Statistics are those before values outside of [0, 1] are brought back, as the module says. Each picture is
    treated for itself. Keeps dtype and device. Raises `SaccadeError` for other shapes, ranges and methods.
    """
    operation = "match colours"
    if method not in METHODS:
        raise SaccadeError(f"Could not {operation}: method is {method!r}, expected one of {', '.join(METHODS)}.")
    exact, target = _checked(pictures, operation), _checked(reference, operation)
    if len(target) not in (1, len(exact)):
        raise SaccadeError(
            f"Could not {operation}: {len(target)} references for {len(exact)} pictures, expected one, or one for each."
        )
    target = target.to(exact).expand(len(exact), -1, -1, -1)
    return _in_range(METHODS[method](exact, target)).to(pictures.dtype)


def with_luminance(colour: Tensor, luminance_of: Tensor) -> Float[Tensor, "n 3 h w"]:
    """The luma of `luminance_of` with the chroma of `colour`, both (N, 3, H, W) in [0, 1]; one of them may have N = 1.

    Luma is exact. So is chroma, except that a pixel that would leave [0, 1] is made less saturated until it fits.
    Keeps the dtype and device of `colour`. Raises `SaccadeError` for other shapes and ranges, and for
    sizes that differ.
    """
    operation = "transfer luminance"
    chroma, luma = _checked(colour, operation), _checked(luminance_of, operation)
    if chroma.shape[2:] != luma.shape[2:] or (len(chroma) != len(luma) and 1 not in (len(chroma), len(luma))):
        raise SaccadeError(
            f"Could not {operation}: colours {tuple(colour.shape)} and luminance {tuple(luminance_of.shape)} do not "
            "belong together, expected the same size. Resize one of them."
        )
    return _in_range(chroma - luminance(chroma) + luminance(luma.to(chroma))).to(colour.dtype)


def _linear(pictures: Tensor, reference: Tensor) -> Tensor:
    colours, mean, covariance = _moments(pictures)
    _, target_mean, target_covariance = _moments(reference)
    stretch = _power(target_covariance, 0.5, above=0.0) @ _power(covariance, -0.5, above=ROUNDING)
    return (stretch.to(colours) @ (colours - mean) + target_mean).view_as(pictures)


def _luminance(pictures: Tensor, reference: Tensor) -> Tensor:
    luma, target = luminance(pictures), luminance(reference)
    mean, variance = luma.mean((2, 3), keepdim=True), luma.var((2, 3), keepdim=True, correction=0)
    scale = torch.where(variance > ROUNDING, variance.clamp(min=ROUNDING).rsqrt(), 0.0)
    scale = scale * target.std((2, 3), keepdim=True, correction=0)
    return pictures - luma + scale * (luma - mean) + target.mean((2, 3), keepdim=True)


def _histogram(pictures: Tensor, reference: Tensor) -> Tensor:
    # Not scikit-image's match_histograms: it gives equal values their highest rank, so that a flat picture would take
    # the brightest value of the reference, and dark areas would be brightened more than bright ones are darkened.
    def match(colour: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        _, inverse, ranks = _ranks(colour)
        values, _, target_ranks = _ranks(target)
        matched: NDArray[np.float64] = np.interp(ranks, target_ranks, values)[inverse]
        return matched

    colours, targets = (t.detach().cpu().double().flatten(2).flatten(0, 1).numpy() for t in (pictures, reference))
    rows = [match(colour, target) for colour, target in zip(colours, targets, strict=True)]
    return torch.from_numpy(np.stack(rows)).to(pictures).view_as(pictures)


def _ranks(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """The distinct values in order, where each of `values` is among them, and their middle ranks in (0, 1)."""
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return distinct, inverse, (counts.cumsum() - counts / 2) / values.size


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": _linear,
    "luminance": _luminance,
    "histogram": _histogram,
}


def _moments(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The colours (N, 3, places), their mean (N, 3, 1) and their covariance (N, 3, 3)."""
    colours = pictures.flatten(2)
    mean = colours.mean(2, keepdim=True)
    centred = colours - mean
    return colours, mean, centred @ centred.mT / colours.shape[2]


def _power(covariance: Tensor, exponent: float, *, above: float) -> Tensor:
    """A power of symmetric matrices (N, 3, 3), of their eigenvalues above a bound; the others become 0."""
    values, vectors = torch.linalg.eigh(covariance.cpu().double())  # 3 x 3: exact, where a device may lack float64
    raised = torch.where(values > above, values.clamp(min=above) ** exponent, 0.0)
    power: Tensor = (vectors * raised[:, None]) @ vectors.mT
    return power


def _in_range(pictures: Tensor) -> Tensor:
    luma = luminance(pictures)
    chroma = pictures - luma
    luma = luma.clamp(0, 1)
    room = torch.where(chroma > 0, 1 - luma, luma)
    share = torch.where(chroma.abs() > room, room / chroma.abs().clamp(min=1e-12), 1.0).amin(1, keepdim=True)
    return (luma + share * chroma).clamp(0, 1)  # what is clamped here is a rounding error


def _checked(pictures: Tensor, operation: str) -> Tensor:
    check_pictures(pictures, operation, dims=(4,))
    return pictures if pictures.dtype == torch.float64 else pictures.float()
