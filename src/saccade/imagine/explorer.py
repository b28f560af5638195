"""An explorer: all units of a network as pages to walk through.

After the Deep Visualization Toolbox (Yosinski and others 2015, "Understanding Neural Networks Through Deep
Visualization", arXiv:1506.06579), as files that any browser opens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from saccade.data import ImageSet
from saccade.engine.chunks import chunks
from saccade.engine.files import write_bytes, write_text
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.imagine.explorer_folder import claim, identity
from saccade.imagine.explorer_pages import (
    STRIP,
    LayerView,
    Patch,
    folder_name,
    histogram_figure,
    index_page,
    layer_page,
    unit_file,
    unit_page,
)
from saccade.imagine.feature_picture import feature_picture
from saccade.imagine.receptive_field import as_maps
from saccade.imagine.top_patches import GREY, TopPatches, like_one, patch_gradients, patches, top_patches
from saccade.imagine.unit_layers import unit_layers
from saccade.networks.activations import activations
from saccade.networks.network import Network
from saccade.networks.targets import check_input
from saccade.pictures import grid, resize, write
from saccade.pictures.html import base_style

Grow = Callable[[str, Sequence[int]], Tensor]
"""Pictures (n, 3, h, w) in [0, 1] for n channels of a layer."""

GROUP = 8  # units that are grown together
SHOWN = 128  # no patch on a page is larger
TILE = 48  # side of a patch on the wall


def explorer(
    network: nn.Module,
    folder: str | Path,
    *,
    layers: Sequence[str] | None = None,
    pictures: ImageSet | Tensor | None = None,
    grow: Grow | Literal["feature"] | None = "feature",
    top: int = 9,
    callback: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write a page for the network, one for each layer with all its units, and one for each unit.

    A unit's page shows the picture grown for it, the patches of `pictures` to which it answers most with what drives it
    in them (guided backpropagation), and how large its largest value is in all of them. The pages need nothing but
    their folder; move or zip it as a whole.

    All is written as soon as it is there. A run that was stopped goes on when called again with the same arguments;
    `layers` may then name further ones.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to scores. A `Network` gives its name and those of its classes.
        folder: made if it is not there.
        layers: dotted names; by default those of `unit_layers`.
        pictures: an `ImageSet`, or floats (N, 3, H, W) in [0, 1]; of the size that the network takes.
        grow: called with a layer and some of its channels, gives a picture (n, 3, h, w) for each. "feature" is
            `feature_picture` at the size that the network was trained for (of 64 x 64 pixels about one second a unit
            on one core for `tinynet`); None grows nothing. For other settings give
            `functools.partial(feature_picture, network, steps=..., size=...)`.
        top: how many patches for each unit.
        callback: called with what is being done ("pictures" or a layer), how many are done, and of how many.

    Returns:
        The path of the first page.

    Raises:
        SaccadeError: neither `pictures` nor `grow`, no such layer, a layer that has no units, or a folder that holds
            the explorer of another network or other pictures.
    """
    operation = "write an explorer"
    if pictures is None and grow is None:
        raise SaccadeError(f"Could not {operation}: expected pictures to search for patches, or grow, or both.")
    if pictures is not None and not len(pictures):
        raise SaccadeError(f"Could not {operation}: the set of pictures is empty.")
    if isinstance(pictures, Tensor):
        check_input(pictures, operation)
    folder = Path(folder)
    probe = _probe(network, pictures)
    if grow == "feature":
        grow = partial(feature_picture, network, size=(probe.shape[2], probe.shape[3]))
    job = _Job(network, folder, pictures, grow, callback or (lambda what, done, total: None))
    views = _views(network, probe, list(layers or unit_layers(network, probe)), operation)
    claim(folder, identity(network, pictures, top=top, grown=grow is not None), operation)
    here = files("saccade.imagine")
    write_text(folder / "explorer.css", base_style() + here.joinpath("explorer.css").read_text("utf-8"))
    write_text(folder / "explorer.js", here.joinpath("explorer.js").read_text("utf-8"))
    found = job.search([view.name for view in views], top)
    if found:
        size = (probe.shape[2], probe.shape[3])
        views = [replace(view, sees=found[view.name].side, size=size) for view in views]
    for which in range(len(views)):
        job.write_wall(views, which)
    job.write_index(views)
    for which, view in enumerate(views):
        for part in chunks(view.channels, GROUP):
            group = range(part.start, part.stop)
            if all(job.path(view, channel).is_file() for channel in group):
                continue
            job.write_units(view, group, found.get(view.name))
            job.write_wall(views, which)
            job.write_index(views)
            job.callback(view.name, part.stop, view.channels)
    return folder / "index.html"


@dataclass(frozen=True)
class _Job:
    """What is given, and the files that are made of it."""

    network: nn.Module
    folder: Path
    pictures: ImageSet | Tensor | None
    grow: Grow | None
    callback: Callable[[str, int, int], None]

    @property
    def name(self) -> str:
        return self.network.name if isinstance(self.network, Network) else type(self.network).__name__

    @property
    def kinds(self) -> list[str]:
        """The kinds of pictures that there will be of each unit."""
        return ["grown"] * (self.grow is not None) + ["top"] * (self.pictures is not None)

    def path(self, view: LayerView, channel: int, kind: str = "") -> Path:
        return self.folder / view.folder / unit_file(channel, f"{kind}.webp" if kind else "html")

    def search(self, layers: Sequence[str], top: int) -> dict[str, TopPatches]:
        """The top patches of all layers: read from the folder, or searched in one pass and written there."""
        if self.pictures is None:
            return {}
        where = {layer: self.folder / "patches" / f"{folder_name(layer)}.safetensors" for layer in layers}
        missing = [layer for layer in layers if not where[layer].is_file()]
        if missing:
            progress = partial(self.callback, "pictures")
            found = top_patches(self.network, self.pictures, missing, top=top, callback=progress)
            for layer, of_layer in found.items():
                tensors = {f.name: torch.as_tensor(getattr(of_layer, f.name)) for f in fields(of_layer)[1:]}
                write_bytes(where[layer], save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        every = {}
        for layer, file in where.items():
            tensors = load(file.read_bytes())
            height, width = tensors.pop("side").tolist()
            every[layer] = TopPatches(layer, side=(height, width), **tensors)
        return every

    def write_units(self, view: LayerView, group: range, found: TopPatches | None) -> None:
        """The files of some units; the page comes last, and says that a unit is ready."""
        grown = None if self.grow is None else self.grow(view.name, list(group))
        if grown is not None and (grown.ndim != 4 or grown.shape[:2] != (len(group), 3)):
            given = f"grow gives {tuple(grown.shape)} for {len(group)} units of {view.name}"
            raise SaccadeError(f"Could not write an explorer: {given}, expected ({len(group)}, 3, height, width).")
        for i, channel in enumerate(group):
            if self.path(view, channel).is_file():
                continue
            portrait = None if grown is None else grown[i].detach().float().cpu()
            if portrait is not None:
                write(portrait, self.path(view, channel, "grown"), quality=90)
            cut, histogram = None, ""
            if found is not None:
                cut = self.cut(found, channel)
                if cut:  # else it is silent
                    what = "Its largest value" if view.place else "Its value"
                    histogram = histogram_figure(found.counts[channel].tolist(), float(found.reach[channel]), what)
                    write(
                        _tile([patch.picture for patch in cut], found.values.shape[1]), self.path(view, channel, "top")
                    )
            html = unit_page(self.name, view, channel, grown=portrait, patches=cut, histogram=histogram)
            write_text(self.path(view, channel), html)

    def cut(self, found: TopPatches, channel: int) -> list[Patch]:
        """The patches of a unit, and what drives it in them; without those in which it gives nothing."""
        assert self.pictures is not None
        numbers = found.pictures[channel]
        driven = patch_gradients(self.network, self.pictures, found, channel).float().cpu()
        largest = driven.abs().amax((1, 2, 3), keepdim=True)
        driven = 0.5 + 0.5 * driven / largest.where(largest > 0, 1.0)
        seen = patches(self.pictures, found, channel).float().cpu()
        words = [f"picture {number}" for number in numbers.tolist()]
        if isinstance(self.pictures, ImageSet):
            labels = self.pictures.take(numbers)[1].tolist()
            words = [self.pictures.classes[label].split(",")[0] for label in labels]
        rows = zip(seen, driven, found.values[channel].tolist(), words, strict=True)
        return [Patch(_within(a, SHOWN), _within(b, SHOWN), value, said) for a, b, value, said in rows if value != 0]

    def write_wall(self, views: Sequence[LayerView], which: int) -> None:
        """The page of a layer."""
        view = views[which]
        ready = [
            [kind for kind in self.kinds if self.path(view, channel, kind).is_file()]
            if self.path(view, channel).is_file()
            else None
            for channel in range(view.channels)
        ]
        write_text(self.folder / view.folder / "index.html", layer_page(self.name, views, which, ready, self.kinds))

    def write_index(self, views: Sequence[LayerView]) -> None:
        """The first page."""
        shown, done = [], []
        for view in views:
            ready = [channel for channel in range(view.channels) if self.path(view, channel).is_file()]
            pictured = [c for c in ready if self.path(view, c, self.kinds[0]).is_file()]
            some = [pictured[i * len(pictured) // STRIP] for i in range(STRIP)] if pictured else []
            shown.append([unit_file(channel, f"{self.kinds[0]}.webp") for channel in dict.fromkeys(some)])
            done.append(len(ready))
        count = 0 if self.pictures is None else len(self.pictures)
        write_text(self.folder / "index.html", index_page(self.name, views, shown, done, count))


def _probe(network: nn.Module, pictures: ImageSet | Tensor | None) -> Tensor:
    """A picture (1, 3, H, W) such as the network is given."""
    if pictures is None:
        side = (network.input_size if isinstance(network, Network) else None) or 224
        pictures = torch.zeros(1, 3, side, side)
    return like_one(network, pictures)


def _views(network: nn.Module, probe: Tensor, layers: Sequence[str], operation: str) -> list[LayerView]:
    """What there is to say of layers before anything was looked for; one run of the network."""
    with evaluating(network):
        outputs = activations(network, probe, layers)
        scores = network(probe)
    names: tuple[str, ...] = (network.classes or ()) if isinstance(network, Network) else ()
    views = []
    for layer in layers:
        output = outputs[layer]
        channels, place = as_maps(output, layer, operation).shape[1], tuple(output.shape[2:])
        answer = not place and len(names) == channels and torch.equal(output, scores)
        views.append(LayerView(layer, folder_name(layer), channels, place, names if answer else ()))
    if len({view.folder.lower() for view in views}) < len(views):
        raise SaccadeError(f"Could not {operation}: the layers {', '.join(layers)} are not different as folder names.")
    return views


def _within(picture: Tensor, side: int) -> Tensor:
    """The picture, made smaller if its longer side is more than `side`."""
    factor = side / max(picture.shape[1:])
    return picture if factor >= 1 else resize(picture, _scaled(picture, factor)).clamp(0, 1)


def _scaled(picture: Tensor, factor: float) -> tuple[int, int]:
    return max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[2] * factor))


def _tile(found: Sequence[Tensor], top: int) -> Tensor:
    """A unit's patches as one small picture."""
    factor = TILE / max(found[0].shape[1:])
    size = _scaled(found[0], factor)
    tiles = [resize(patch, size, method="nearest" if factor > 1 else "bicubic").clamp(0, 1) for patch in found]
    tiles += [torch.full_like(tiles[0], GREY)] * (top - len(tiles))
    return grid(tiles, gap=1, background=GREY)
