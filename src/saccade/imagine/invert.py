"""What a layer still knows of a photograph: the picture that gives it the same features."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import evaluating
from saccade.imagine.grow import Callback, grow
from saccade.imagine.objectives import FeatureMatch
from saccade.imagine.recipes import Recipe
from saccade.networks.activations import activations
from saccade.networks.targets import check_input
from saccade.pictures.optimise import Adam, Box, Pixels, alpha_norm, noise, total_variation


def invert(
    network: nn.Module,
    photographs: Tensor,
    layer: str,
    *,
    steps: int = 200,
    rate: float = 0.02,
    alpha_weight: float = 0.01,
    tv_weight: float = 0.1,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Pictures grown from noise for the features that a layer has of photographs.

    Mahendran and Vedaldi 2015, arXiv:1412.0035: the squared distance of the features, over the squared length of the
    wanted ones, plus an alpha-norm (alpha = 6) that holds pixels in their range and a total variation over rows and
    columns, beta = 2.

    Args:
        network: any that takes pictures (N, 3, H, W) in [0, 1].
        photographs: (N, 3, H, W) in [0, 1].
        layer: a dotted name.
        steps, rate: of Adam, in pixel values.
        alpha_weight: of the mean over pixels of |2 pixel - 1|^6.
        tv_weight: of the mean over pixels of the squared differences to the next pixels.
        seed, batch_size, callback, checkpoint: see `grow`.

    Returns:
        (N, 3, H, W) in [0, 1].

    Raises:
        SaccadeError: the photographs have another shape or type, or there is no such layer.
    """
    check_input(photographs, "invert features")
    with evaluating(network):
        features = activations(network, photographs, [layer])[layer].clone()
    count = photographs[0].numel()

    def penalty(pictures: Tensor) -> Float[Tensor, " n"]:
        held = alpha_weight * 2.0**6 * alpha_norm(pictures, 6.0)
        return (held + tv_weight * total_variation(pictures)) / count

    pixels = Pixels(0.5)
    size = (photographs.shape[2], photographs.shape[3])
    start = noise(pixels, size, spread=0.1, seed=seed).clamp(0, 1).to(photographs)
    return grow(
        network,
        FeatureMatch(layer, features),
        recipe=Recipe(steps, Adam(rate), pixels, penalty=penalty, projections=(Box(-0.5, 0.5),)),
        start=start.expand(photographs.shape),
        seed=seed,
        batch_size=batch_size,
        callback=callback,
        checkpoint=checkpoint,
    )
