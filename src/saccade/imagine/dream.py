"""DeepDream: whatever a layer sees in a photograph, more of it."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.imagine.grow import Callback, grow
from saccade.imagine.objectives import Layer, Objective
from saccade.imagine.recipes import Recipe
from saccade.networks.activations import last_spatial_layer
from saccade.networks.targets import check_input
from saccade.pictures.optimise import Box, Jitter, Normalised


def dream(
    network: nn.Module,
    photographs: Tensor,
    layer: str | Objective | None = None,
    *,
    steps: int = 10,
    rate: float = 0.006,
    jitter: int = 32,
    octaves: int = 4,
    octave_scale: float = 1.4,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Photographs changed so that a layer's activations grow in mean square, from coarse to fine.

    Mordvintsev, Olah, Tyka 2015, "Inceptionism: Going Deeper into Neural Networks". Each step is the gradient over its
    own mean absolute value; each octave adds what it has grown to the photograph in the next size.

    Args:
        network: any that takes pictures (N, 3, H, W) in [0, 1].
        photographs: (N, 3, H, W) in [0, 1].
        layer: a dotted name; by default the last that gives a map. Or any objective, to dream of a class, say.
        steps: in each octave.
        rate: mean absolute change of a pixel value in a step.
        jitter: the picture is rolled by up to so many pixels in each step.
        octaves, octave_scale: how many sizes, and the factor between them.
        seed, batch_size, callback, checkpoint: see `grow`.

    Returns:
        (N, 3, H, W) in [0, 1].

    Raises:
        SaccadeError: the photographs have another shape or type, or there is no such layer.
    """
    check_input(photographs, "dream")
    if layer is None:
        with torch.no_grad():
            layer = last_spatial_layer(network, photographs[:1])
    return grow(
        network,
        Layer(layer) if isinstance(layer, str) else layer,
        recipe=Recipe(
            steps, Normalised(rate, by="mean"), transforms=(Jitter(-jitter, jitter),), projections=(Box(0.0, 1.0),)
        ),
        start=photographs,
        octaves=octaves,
        octave_scale=octave_scale,
        seed=seed,
        batch_size=batch_size,
        callback=callback,
        checkpoint=checkpoint,
    )
