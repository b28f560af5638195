"""The patches of a data set to which each unit of a layer answers most, and what in them it answers to.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.data import ImageSet
from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.guards import differentiable, evaluating
from saccade.errors import SaccadeError
from saccade.imagine.histogram import Histogram
from saccade.imagine.receptive_field import as_maps, receptive_fields
from saccade.networks.activations import activations
from saccade.networks.relu_rules import Rule, ruled_gradient
from saccade.networks.targets import check_input

GREY = 0.5  # fills a patch where the unit sees beyond the edge of the picture


@dataclass(frozen=True, eq=False)
class TopPatches:
    """Where each channel of a layer answers most, the strongest first; at most one place a picture.

    values: what the channel gives there. pictures: which of the data set, counted from 0. places: row and column in the
    channel's map (0, 0 for flat layers). boxes: what that neuron sees of the picture: top, left, bottom, right in
    pixels, the last two outside. side: height and width of the largest box of the layer. counts: in how many pictures
    the channel's largest value lies in each of 64 equal parts of -reach to reach (see `Histogram`).
    """

    layer: str
    values: Float[Tensor, "channels top"]
    pictures: Int[Tensor, "channels top"]
    places: Int[Tensor, "channels top 2"]
    boxes: Int[Tensor, "channels top 4"]
    side: tuple[int, int]
    counts: Int[Tensor, "channels bins"]
    reach: Float[Tensor, " channels"]


def top_patches(
    network: nn.Module,
    pictures: ImageSet | Tensor,
    layers: Sequence[str],
    *,
    top: int = 9,
    batch_size: int | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> dict[str, TopPatches]:
    """Find, for each channel of each layer, the `top` places of a data set at which it is largest.

    The pictures are read once, a batch at a time: memory does not grow with their number. A picture counts once, with
    its strongest place, so that one picture does not fill the list. Of equal values the earlier picture comes first.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to anything; on any device.
        pictures: an `ImageSet`, or floats (N, 3, H, W) in [0, 1]; of the size that the network takes.
        layers: their dotted names; their outputs are (N, C, h, w), or flat, (N, C).
        top: how many for each channel; fewer if there are fewer pictures.
        callback: called after each batch with the number of pictures seen and of all.

    Returns:
        `TopPatches` by the names of the layers, on the CPU.

    Raises:
        SaccadeError: no pictures, no such layer, or a layer that gives something else.
    """
    operation = "find the top patches"
    count = len(pictures)
    if top < 1 or count < 1:
        raise SaccadeError(
            f"Could not {operation}: the {top} best of {count} pictures were asked for, expected 1 or more."
        )
    if isinstance(pictures, Tensor):
        check_input(pictures, operation)
    first = like_one(network, pictures)
    boxes = receptive_fields(network, first, layers, batch_size=batch_size)
    best: dict[str, _Best] = {}
    histograms: dict[str, Histogram] = {}
    with evaluating(network):
        for part in chunks(count, rows_at_once(network, first, batch_size)):
            numbers = torch.arange(part.start, part.stop)
            outputs = activations(network, _like(network, _take(pictures, numbers)), layers)
            for name, output in outputs.items():
                maps = as_maps(output, name, operation).flatten(2)  # (m, c, places)
                values, places = (found.T.cpu() for found in maps.max(2))
                if not torch.isfinite(values).all():
                    raise SaccadeError(f"Could not {operation}: the layer {name} gives values that are not finite.")
                new = (values, numbers.expand(len(values), -1), places)
                best[name] = _better(best.get(name), new, top)
                histograms.setdefault(name, Histogram(len(values))).add(values)
            if callback is not None:
                callback(part.stop, count)
    return {name: _located(name, best[name], boxes[name], histograms[name]) for name in layers}


def patches(
    pictures: ImageSet | Tensor, found: TopPatches, channel: int, *, fill: float = GREY
) -> Float[Tensor, "top 3 height width"]:
    """What a channel sees at its top places, cut out of the pictures that were searched.

    All of the size `found.side`; where the neuron sees beyond the edge of the picture, there is `fill`.
    """
    return _cut(_take(pictures, found.pictures[channel]), found.boxes[channel], found.side, fill)


def patch_gradients(
    network: nn.Module, pictures: ImageSet | Tensor, found: TopPatches, channel: int, *, rule: Rule = "guided"
) -> Float[Tensor, "top 3 height width"]:
    """What in its top patches drives a channel: the gradient of its value there by the picture, through ruled ReLUs.

    rule: "guided" backpropagation (arXiv:1412.6806) or the "deconvnet" (arXiv:1311.2901). Cut as by `patches`, zero
    beyond the edge; signed, and as large as the gradient is.
    """
    with differentiable(network):
        x = _like(network, _take(pictures, found.pictures[channel])).clone().requires_grad_()
        places = found.places[channel].to(x.device, copy=True)
        maps = as_maps(activations(network, x, [found.layer])[found.layer], found.layer, "explain patches")
        values = maps[torch.arange(len(x)), channel, places[:, 0], places[:, 1]]
        return _cut(ruled_gradient(values, x, rule), found.boxes[channel], found.side, 0.0)


def like_one(network: nn.Module, pictures: ImageSet | Tensor) -> Float[Tensor, "1 3 h w"]:
    """The first picture, as the network is given it."""
    return _like(network, _take(pictures, torch.tensor([0])))


def _take(pictures: ImageSet | Tensor, numbers: Int[Tensor, " m"]) -> Float[Tensor, "m 3 h w"]:
    """Some pictures of a set or tensor, in [0, 1]."""
    if isinstance(pictures, ImageSet):
        return pictures.take(numbers)[0].permute(0, 3, 1, 2).float() / 255
    return pictures[numbers.to(pictures.device)].detach()


def _like(network: nn.Module, pictures: Tensor) -> Tensor:
    """The pictures on the device of the network and of the type of its weights."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), pictures)
    return pictures.to(weight.device, weight.dtype)


def _cut(
    pictures: Float[Tensor, "top 3 h w"], boxes: Int[Tensor, "top 4"], side: tuple[int, int], fill: float
) -> Float[Tensor, "top 3 height width"]:
    (h, w), (height, width) = pictures.shape[2:], side
    cut = pictures.new_full((len(pictures), 3, height, width), fill)
    for i, (top, left, bottom, right) in enumerate(boxes.tolist()):
        # A box that begins at the edge of the picture lost what is missing there; else it lost it at the far edge.
        y = height - (bottom - top) if top == 0 and bottom < h else 0
        x = width - (right - left) if left == 0 and right < w else 0
        cut[i, :, y : y + bottom - top, x : x + right - left] = pictures[i, :, top:bottom, left:right]
    return cut


_Best = tuple[Tensor, Tensor, Tensor]
"""Values, pictures and places, each (channels, n)."""


def _better(old: _Best | None, new: _Best, top: int) -> _Best:
    """The best of two lists; of equal values those of the old one first."""
    values, numbers, places = (torch.cat(pair, 1) for pair in zip(old, new, strict=True)) if old else new
    order = values.argsort(dim=1, descending=True, stable=True)[:, :top]
    return values.gather(1, order), numbers.gather(1, order), places.gather(1, order)


def _located(layer: str, best: _Best, boxes: Int[Tensor, "h w 4"], histogram: Histogram) -> TopPatches:
    values, numbers, places = best
    width = boxes.shape[1]
    where = torch.stack([places // width, places % width], 2)
    height, across = (boxes[..., 2:] - boxes[..., :2]).flatten(0, 1).amax(0).tolist()
    seen = boxes.flatten(0, 1)[places]
    return TopPatches(layer, values, numbers, where, seen, (height, across), histogram.counts, histogram.reach)
