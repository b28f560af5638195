"""LIME: a linear model of the network around one picture, of which superpixels are shown or hidden.

Ribeiro, Singh, Guestrin 2016, "Why Should I Trust You?", arXiv:1602.04938.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import rows_at_once
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking, finished
from saccade.explain.superpixels import Pieces, least_squares, scores_of_choices, spread, superpixels


def lime(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    pieces: Pieces = "slic",
    count: int = 50,
    samples: int = 1000,
    distance: str = "cosine",
    kernel: float = 0.25,
    ridge: float = 1.0,
    fill: Fill = 0.5,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n h w"]:
    """Weight of each superpixel in a linear model of the score, divided evenly among its pixels: the map of a
    superpixel sums to its weight.

    The model is fitted by ridge regression, in closed form, to the scores of the picture and of copies in which each
    superpixel is hidden with chance 1/2. A copy at distance d from the picture counts exp(-d^2 / kernel^2).

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is followed, see `Target`.
        pieces: the superpixels, see `Pieces`.
        count: about how many of them to make.
        samples: pictures scored, the first of which is the picture itself.
        distance: between the vectors of zeros and ones that say what is shown: "cosine", 1 - sqrt(s / m) with s of m
            superpixels shown; or "l2", divided by the root of their length, sqrt(1 - s / m).
        kernel: width, in units of the distance.
        ridge: penalty on the squared weights, next to the sum of squared errors; 0 or more. The constant is free.
        fill: what hidden superpixels show, see `Fill`.
        seed: of the samples; the same gives the same bits on the CPU.
        batch_size: samples at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type, or there is no such target, fill, cut or setting.
    """
    operation = "fit LIME"
    if samples < 2 or kernel <= 0 or ridge < 0 or distance not in ("cosine", "l2"):
        raise SaccadeError(
            f"Could not {operation}: {samples} samples, kernel {kernel}, ridge {ridge}, distance {distance!r}; "
            'expected at least 2, above 0, 0 or more, and "cosine" or "l2".'
        )
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        x = question.x
        cuts = superpixels(x, pieces, count, operation)
        instead = fills(question, fill)
        size = rows_at_once(network, x, batch_size)
        question.learn(len(x) * samples)
        found = torch.empty_like(x[:, 0], memory_format=torch.contiguous_format)
        for i, cut in enumerate(cuts):
            shown = _samples(samples, int(cut.max()) + 1, seed)
            said = scores_of_choices(question, i, shown, cut, instead[i], size)
            share = shown.mean(1)
            far = 1 - share.sqrt() if distance == "cosine" else (1 - share).sqrt()
            found[i] = spread(weighted_ridge(shown, said, torch.exp(-((far / kernel) ** 2)), ridge), cut)
        return finished(found, operation)


def weighted_ridge(
    z: Float[Tensor, "s m"], y: Float[Tensor, " s"], importance: Float[Tensor, " s"], ridge: float
) -> Float[Tensor, " m"]:
    """The w of least sum_k importance_k (y_k - b - z_k w)^2 + ridge |w|^2 over w and b; of several, the shortest."""
    y = y - y[0]  # the constant is free; equal scores are exactly 0 then
    share = importance / importance.sum()
    z, y = z - share @ z, y - share @ y  # about the weighted means, where the best constant is 0
    root = importance.sqrt()
    penalty = ridge**0.5 * torch.eye(z.shape[1], dtype=z.dtype)
    left, right = torch.cat([root[:, None] * z, penalty]), torch.cat([root * y, y.new_zeros(len(penalty))])
    return least_squares(left, right)


def _samples(samples: int, count: int, seed: int) -> Float[Tensor, "s m"]:
    """Which superpixels are shown, 0 or 1: all of them in the first, half of them by chance in the others."""
    shown = (torch.rand(samples, count, dtype=torch.float64, generator=generator(seed)) < 0.5).double()
    shown[0] = 1
    return shown
