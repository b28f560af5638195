"""The pages of an explorer: of the network, of a layer, of a unit. See `explorer`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from saccade.imagine.histogram import BINS
from saccade.pictures.html import image, page

STRIP = 10  # units of a layer on the front page
PIXELS = 32  # patches smaller than this show their pixels


@dataclass(frozen=True)
class LayerView:
    """What the pages say of a layer.

    folder: its name on the disk. place: (height, width) of its maps; none for a flat layer. names: of its units, for a
    layer of classes. sees: (height, width) in pixels of what its units see at most, of pictures of that `size`.
    """

    name: str
    folder: str
    channels: int
    place: tuple[int, ...]
    names: tuple[str, ...] = ()
    sees: tuple[int, int] | None = None
    size: tuple[int, int] = (0, 0)

    def title(self, channel: int) -> str:
        return self.names[channel] if self.names else f"Unit {channel}"

    def facts(self) -> str:
        """The size of the layer in words."""
        parts = [f"{self.channels} {self.many}", f"maps of {self.place[1]} × {self.place[0]}" if self.place else ""]
        return ", ".join(part for part in (*parts, self.view()) if part)

    @property
    def one(self) -> str:
        return "class" if self.names else "unit"

    @property
    def many(self) -> str:
        return "classes" if self.names else "units"

    def view(self) -> str:
        """What a unit sees, in words; nothing if that is not known."""
        if self.sees == self.size:
            return "each sees the whole picture"
        if self.sees is None:
            return ""
        return f"each sees {self.sees[1]} × {self.sees[0]} of {self.size[1]} × {self.size[0]} pixels"


@dataclass(frozen=True)
class Patch:
    """A patch (3, h, w), what drives the unit in it as a picture of that size, and words on it."""

    picture: Tensor
    driven: Tensor
    value: float
    words: str


def unit_file(channel: int, suffix: str = "html") -> str:
    """The name of a unit's file within the folder of its layer."""
    return f"{channel:04d}.{suffix}"


def index_page(
    network: str, layers: Sequence[LayerView], shown: Sequence[Sequence[str]], done: Sequence[int], pictures: int
) -> str:
    """The first page.

    shown: for each layer the names of pictures of some units. done: how many of its units are ready. pictures: how many
    were searched for patches.
    """
    rows = []
    for layer, addresses, ready in zip(layers, shown, done, strict=True):
        state = "" if ready == layer.channels else f"<br>{ready} of {layer.channels} ready"
        strip = "".join(f'<img src="{layer.folder}/{a}" alt="" loading="lazy">' for a in addresses)
        rows.append(
            f'<li><a href="{layer.folder}/index.html"><div><h2>{escape(layer.name)}</h2>'
            f'<p>{layer.facts()}{state}</p></div><div class="strip">{strip}</div></a></li>'
        )
    searched = f" Where they answer most was looked for in {pictures:,} pictures." if pictures else ""
    count = "one layer" if len(layers) == 1 else f"{len(layers)} layers"
    total = sum(layer.channels for layer in layers)
    html = (
        f'<header><p class="name">Inside a network</p><h1>{escape(network)}</h1>'
        f'<p class="lead">{total:,} units in {count}, from the picture to the answer.{searched}</p>'
        '<p class="note">On the pages of layers and units the left and right arrow keys walk on, Escape goes up.</p>'
        f'</header><main><ol class="layers">{"".join(rows)}</ol></main>'
    )
    return page(f"Inside {network}", html, description=f"The units of {network}", style_file="explorer.css")


def layer_page(
    network: str, layers: Sequence[LayerView], which: int, done: Sequence[Sequence[str] | None], kinds: Sequence[str]
) -> str:
    """The wall of a layer's units.

    done: for each unit the kinds of pictures that it has, None if its page is not there yet. kinds: "grown", "top", or
    both, which there will be.
    """
    layer = layers[which]
    tiles = []
    for channel, ready in enumerate(done):
        label = escape(layer.names[channel]) if layer.names else str(channel)
        pictures = "".join(
            f'<img class="{kind}" src="{unit_file(channel, f"{kind}.webp")}" '
            f'alt="{escape(layer.title(channel))}, {kind}" loading="lazy" decoding="async">'
            if kind in (ready or ())
            else f'<span class="blank {kind}"></span>'
            for kind in kinds
        )
        tile = f'<a href="{unit_file(channel)}">' if ready is not None else '<span class="soon">'
        tiles.append(f"<li>{tile}{pictures}{label}</{'span' if ready is None else 'a'}></li>")
    words = {"grown": f"Grown for each {layer.one}", "top": f"Where each {layer.one} answers most"}
    choice = "".join(
        f'<input class="choice" type="radio" name="show" id="show-{kind}"{" checked" if kind == kinds[0] else ""}>'
        f'<label for="show-{kind}">{words[kind]}</label>'
        for kind in (kinds if len(kinds) > 1 else ())
    )
    before = f"../{layers[which - 1].folder}/index.html" if which else ""
    after = f"../{layers[which + 1].folder}/index.html" if which + 1 < len(layers) else ""
    walk = _walk(before, layers[which - 1].name, after, layers[(which + 1) % len(layers)].name)
    html = (
        f'<header><nav><a rel="up" href="../index.html">{escape(network)}</a>{walk}</nav>'
        f'<h1>{escape(layer.name)}</h1><p class="lead">{layer.facts()}.</p></header>'
        f'<main>{choice}<ol class="units{" named" if layer.names else ""}">{"".join(tiles)}</ol></main>'
    )
    return _page(f"{layer.name} of {network}", html, f"The units of the layer {layer.name} of {network}")


def unit_page(
    network: str,
    layer: LayerView,
    channel: int,
    *,
    grown: Tensor | None,
    patches: Sequence[Patch] | None,
    histogram: str,
) -> str:
    """A unit: what was grown for it, and the patches to which it answers most (None: none were looked for)."""
    title = layer.title(channel)
    portrait = ""
    if grown is not None:
        height, width = grown.shape[1:]
        portrait = (
            f'<figure><img src="{unit_file(channel, "grown.webp")}" width="{width}" height="{height}" '
            f'alt="a picture grown for {escape(title)}"><figcaption>Grown for this {layer.one}</figcaption></figure>'
        )
    found = "" if patches is None else _found(patches)
    alone = " alone" if patches is None or not (portrait or histogram) else ""
    of = layer.view() and f"; {layer.view()}"
    before = unit_file(channel - 1) if channel else ""
    after = unit_file(channel + 1) if channel + 1 < layer.channels else ""
    walk = _walk(before, str(channel - 1), after, str(channel + 1))
    html = (
        f'<header><nav><a href="../index.html">{escape(network)}</a>'
        f'<a rel="up" href="index.html">{escape(layer.name)}</a>{walk}</nav><h1>{escape(title)}</h1>'
        f'<p class="lead">One of the {layer.channels} {layer.many} of {escape(layer.name)}{of}.</p></header>'
        f'<main class="unit{alone}"><div class="portrait">{portrait}{histogram}</div>{found}</main>'
    )
    return _page(f"{title} in {layer.name}", html, f"{title} of the layer {layer.name} of {network}")


def histogram_figure(counts: Sequence[int], reach: float, what: str) -> str:
    """In how many pictures `what` of a unit is how large. counts: in equal parts of -reach to reach."""
    used = [i for i, count in enumerate(counts) if count]
    first, last = used[0], used[-1] + 1
    width, height = 300, 90
    step, high = width / (last - first), max(counts)
    bars = "".join(
        f'<rect x="{(i - first) * step:.2f}" y="{height * (1 - counts[i] / high):.2f}" '
        f'width="{max(0.5, step - 1):.2f}" height="{height * counts[i] / high:.2f}"/>'
        for i in used
    )
    low, top = ((2 * edge / BINS - 1) * reach for edge in (first, last))
    return (
        f'<figure><svg class="histogram" viewBox="0 0 {width} {height + 16}" role="img" aria-label="histogram">{bars}'
        f'<path d="M0 {height + 0.5}H{width}"/><text x="0" y="{height + 13}">{low:.3g}</text>'
        f'<text x="{width}" y="{height + 13}" text-anchor="end">{top:.3g}</text></svg>'
        f"<figcaption>{escape(what)} in each of {sum(counts):,} pictures</figcaption></figure>"
    )


def _found(patches: Sequence[Patch]) -> str:
    items = []
    for i, patch in enumerate(patches):
        kind = "pixels" if max(patch.picture.shape[1:]) < PIXELS else ""
        pair = image(patch.picture, alt=f"patch {i + 1}", kind=kind) + image(
            patch.driven, alt="what drives it", kind=kind
        )
        items.append(
            f'<li><figure><div class="pair">{pair}</div>'
            f"<figcaption><b>{patch.value:.3g}</b> {escape(patch.words)}</figcaption></figure></li>"
        )
    note = (
        "Left, what it sees of a picture, and its value; right, what in it drives the value up (guided "
        "backpropagation). Grey is nothing, or beyond the edge of the picture."
        if patches
        else "It is zero everywhere in all pictures."
    )
    return (
        f'<section class="found"><h2>Where it answers most</h2><p class="note">{note}</p><ol>{"".join(items)}</ol>'
        "</section>"
    )


def _walk(before: str, before_name: str, after: str, after_name: str) -> str:
    back = f'<a rel="prev" href="{before}">{escape(before_name)}</a>' if before else ""
    on = f'<a rel="next" href="{after}">{escape(after_name)}</a>' if after else ""
    return f'<span class="walk">{back}{on}</span>'


def _page(title: str, html: str, description: str) -> str:
    script = '<script src="../explorer.js"></script>'
    return page(title, html + script, description=description, style_file="../explorer.css")


def folder_name(layer: str) -> str:
    """The name of a layer as that of a folder that needs no escaping in an address."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", layer)
