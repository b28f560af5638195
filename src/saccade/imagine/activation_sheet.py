"""Everything that a layer sees in a photograph, channel by channel, on one sheet.

Yosinski and others 2015, "Understanding Neural Networks Through Deep Visualization", arXiv:1506.06579, section 2.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.activations import activations
from saccade.networks.targets import check_input
from saccade.pictures import heat, sheet


def activation_sheet(
    network: nn.Module,
    picture: Tensor,
    layer: str,
    *,
    channels: int | Sequence[int] | None = None,
    shared: bool = False,
    columns: int | None = None,
    cell: int = 64,
    density: int = 2,
) -> Float[Tensor, "3 height width"]:
    """Draw the maps (h, w) that the channels of a layer give for a photograph, which stands first.

    Maps without negative values go from black over red to yellow, others are signed: blue is negative, white zero, red
    positive. Below each stands the number of its channel and, in grey, its value of largest magnitude.

    Args:
        picture: (3, H, W) or (1, 3, H, W) in [0, 1], on the device of the network.
        layer: its dotted name; its output is (N, C, h, w).
        channels: these; or, as a single number, so many of the strongest (by that value), the strongest first. By
            default all, in their order.
        shared: one scale of colours for all maps, so that weak ones are pale, instead of one for each.
        columns: how many pictures a row; by default about square. cell, density: as in `sheet`.

    Returns:
        A picture (3, height, width) in [0, 1], on the CPU.

    Raises:
        SaccadeError: no picture, no such layer or channel, or a layer without maps.
    """
    operation = f"draw the activations of {layer}"
    x = picture[None] if picture.ndim == 3 else picture
    check_input(x, operation)
    if len(x) != 1:
        raise SaccadeError(f"Could not {operation}: given {len(x)} pictures, expected one.")
    with evaluating(network):
        output = activations(network, x, [layer])[layer]
    if not isinstance(output, Tensor) or output.ndim != 4:
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SaccadeError(f"Could not {operation}: it gives {given}, expected maps (n, channels, h, w).")
    maps = output[0].float().cpu()
    flat = maps.flatten(1)
    extremes = flat.gather(1, flat.abs().argmax(1, keepdim=True))[:, 0]
    chosen = _choose(channels, extremes, operation)
    signed = bool((maps < 0).any())
    high = float(extremes.abs().max())
    scales = [high] * len(chosen) if shared else extremes[chosen].abs().tolist()
    low = None if signed else 0.0
    coloured = [heat(maps[c], signed=signed, low=low, high=s) for c, s in zip(chosen, scales, strict=True)]
    tiles = [x[0].float().cpu(), *coloured]
    captions = ["the picture", *(f"{c}\n{float(extremes[c]):.3g}" for c in chosen)]
    some = f"{len(chosen)} of {len(maps)}" if len(chosen) < len(maps) else f"all {len(maps)}"
    title = f"{layer}: {some} channels, {maps.shape[2]} x {maps.shape[1]}{', one scale' if shared else ''}"
    columns = columns or max(1, int((len(tiles) - 1) ** 0.5) + 1)
    rows = range(0, len(tiles), columns)
    return sheet(
        [tiles[i : i + columns] for i in rows],
        captions=[captions[i : i + columns] for i in rows],
        title=title,
        cell=cell,
        density=density,
    )


def _choose(channels: int | Sequence[int] | None, extremes: Tensor, operation: str) -> list[int]:
    count = len(extremes)
    if channels is None:
        return list(range(count))
    if isinstance(channels, int):
        if channels < 1:
            raise SaccadeError(f"Could not {operation}: {channels} channels were asked for, expected 1 or more.")
        return torch.argsort(extremes.abs(), descending=True, stable=True)[:channels].tolist()
    wrong = [c for c in channels if not 0 <= c < count]
    if wrong or not channels:
        what = f"there is no channel {wrong[0]}" if wrong else "no channel was named"
        raise SaccadeError(f"Could not {operation}: {what}; the layer has {count}, counted from 0.")
    return list(channels)
