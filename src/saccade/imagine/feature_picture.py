"""What a unit inside a network looks for: a picture grown for its activation."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from saccade.imagine.grow import Callback, grow
from saccade.imagine.objectives import Channel, Diversity, Neuron, Objective
from saccade.imagine.recipes import Recipe


def feature_picture(
    network: nn.Module,
    layer: str,
    channel: int | Sequence[int],
    *,
    middle: bool = False,
    diversity: float = 0.0,
    recipe: str | Recipe = "feature",
    size: int | tuple[int, int] | None = None,
    variants: int = 1,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Pictures grown for channels of a layer (Erhan and others 2009; https://distill.pub/2017/feature-visualization).

    All channels are grown in one batch, and the network is run no further than the layer.

    Args:
        network: any that takes pictures (N, 3, H, W) in [0, 1].
        layer: its dotted name.
        channel: counted from 0; or several.
        middle: follow the one neuron in the middle of the channel's map, instead of the map's mean. (For a neuron
            elsewhere grow a picture for `Neuron`.)
        diversity: how much the variants of a channel are pushed apart, see `Diversity`; 0 leaves them to their noise.
            It acts on all pictures of the call, so give one channel.
        variants: how many pictures of each channel, from different noise, side by side.
        recipe, size, steps, seed, batch_size, callback, checkpoint: see `grow`.

    Returns:
        (channels * variants, 3, H, W) in [0, 1].

    Raises:
        SaccadeError: there is no such layer, channel or recipe, or the activation stops being finite.
    """
    channels = [channel] if isinstance(channel, int) else list(channel)
    wanted = [one for one in channels for _ in range(variants)]
    objective: Objective = Neuron(layer, wanted) if middle else Channel(layer, wanted)
    if diversity:
        objective = objective + diversity * Diversity(layer)
    return grow(
        network,
        objective,
        recipe=recipe,
        size=size,
        count=len(wanted),
        variants=variants,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        callback=callback,
        checkpoint=checkpoint,
    )
