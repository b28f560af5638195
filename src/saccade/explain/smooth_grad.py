"""SmoothGrad and its kin: an attribution averaged over noisy copies of the picture.

Smilkov and others 2017, "SmoothGrad: removing noise by adding noise", arXiv:1706.03825.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.question import MapWarning, Target, asking, finished
from saccade.explain.saliency import gradient
from saccade.explain.sums import gradients, rows_at_once, summed_gradient

KINDS = ("mean", "square", "variance")


def smooth_grad(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    method: Callable[..., Tensor] = gradient,
    samples: int = 50,
    level: float = 0.15,
    kind: str = "mean",
    seed: int = 0,
    batch_size: int | None = None,
    **settings: Any,
) -> Float[Tensor, "n ..."]:
    """An attribution of noisy copies of the pictures: its mean, the mean of its square, or its variance.

    The mean is SmoothGrad (Smilkov and others 2017, arXiv:1706.03825), the variance VarGrad (Adebayo and others 2018,
    arXiv:1810.03307), of which the mean square is the sum of the one and the square of the other. Every picture gets
    the same Gaussian noise, scaled to its own range. The noisy copies are not clipped to [0, 1], as in the paper.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: what is explained, see `Target`.
        method: any function of (network, pictures, target, **settings), such as `guided_backprop`.
        samples: noisy copies a picture.
        level: standard deviation of the noise, as a share of the difference between the picture's largest and smallest
            value; the paper advises 0.1 to 0.2.
        kind: "mean"; "square", which is zero or more; or "variance", zero or more, divided by `samples`.
        seed: of the noise.
        batch_size: noisy copies at once, for the gradient; given to `method` if it is another.
        settings: of `method`.

    Returns:
        As `method`: (N, 3, H, W) or (N, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: samples below 1, a negative level, another kind, and whatever `method` refuses.
    """
    operation = "compute SmoothGrad"
    if samples < 1 or level < 0 or kind not in KINDS:
        raise SaccadeError(
            f"Could not {operation}: samples={samples}, level={level}, kind={kind!r} were given, expected 1 sample or "
            f"more, a level of 0 or more, and a kind of {', '.join(KINDS)}."
        )
    with asking(network, pictures, target, operation) as question:
        plain = method is gradient and not settings
        size = rows_at_once(question, samples, batch_size) if plain else 0
        x = question.x
        scale = level * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))

        def points(part: slice, which: slice) -> Tensor:
            drawn = [noise(x, seed, i) for i in range(which.start, which.stop)]
            return x[part] + torch.stack(drawn)[:, None] * scale[part]

        if not plain:
            if batch_size is not None:
                settings["batch_size"] = batch_size
            everyone = slice(0, len(x))
            noisy = (points(everyone, slice(i, i + 1))[0] for i in range(samples))
            found = _gather((_quietly(method, network, copies, target, settings) for copies in noisy), kind)
        elif kind == "mean":
            weights = torch.full((samples,), 1 / samples, dtype=torch.float64)
            found = summed_gradient(question, points, weights, size)
        else:
            each = [gradients(question, points, part, samples, size) for part in chunks(len(x), size)]
            found = torch.cat([_gather((slope for _, slope in slopes), kind) for slopes in each])
        return finished(found, operation)


def _quietly(
    method: Callable[..., Tensor], network: nn.Module, pictures: Tensor, target: Target, settings: dict[str, Any]
) -> Tensor:
    """What `method` finds, without its warnings of maps: only the result of all samples matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MapWarning)
        return method(network, pictures, target, **settings)


def noise(like: Float[Tensor, "n 3 h w"], seed: int, sample: int) -> Float[Tensor, "3 h w"]:
    """Standard normal numbers for the pixels of any one picture, the same on every device."""
    drawn = torch.randn(like.shape[1:], dtype=torch.float64, generator=generator(seed, sample))
    return drawn.to(like)


def _gather(found: Iterator[Tensor], kind: str) -> Tensor:
    """Mean, mean square or variance of tensors, one by one (Welford 1962, which loses nothing to rounding)."""
    count, mean, spread = 0, torch.zeros(()), torch.zeros(())
    for one in found:
        count += 1
        off = one - mean
        mean = mean + off / count
        spread = spread + off * (one - mean)
    if kind == "mean":
        return mean
    return spread / count if kind == "variance" else spread / count + mean.square()
