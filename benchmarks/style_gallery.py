"""python benchmarks/style_gallery.py [--entries NAME ...] [--threads 1]

Repaints the photographs that scikit-image brings with everything `style_transfer` offers: each way with colours, masks,
several styles, sizes from 256 to 2048 pixels, each kind of network. Writes docs/results/style_gallery.md, which shows
them, and keeps each result whole under `runs/style_gallery/`.

Of the archives named by SACCADE_ARCHIVES it reads `art/` (paintings long in the public domain) and the networks
vgg19_thin16x and squeezenet1_0; entries with neither run without. Nothing was chosen among several runs of an entry:
seed 0, the first result.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import ROOT, arguments, prepare, table
from style_plain import network_of, picture_of
from torch import Tensor

from saccade.pictures import read, resize, sample, write
from saccade.pictures.optimise import Moment
from saccade.studio.styled import waves
from saccade.style import style_transfer
from saccade.style.transfer import fitted

SHOWN = 560  # the longer side of what the page shows, in pixels
STYLES = {
    "starry_night": "The Starry Night (van Gogh, 1889)",
    "the_scream": "The Scream (Munch, 1893)",
    "shipwreck": "The Shipwreck of the Minotaur (Turner, about 1810)",
    "brick": "a photograph of bricks",
    "hubble": "the Hubble deep field",
    "bands": "bands drawn by a formula",
}


@dataclass(frozen=True)
class Entry:
    """One result: what it shows, photograph, styles, network, longer side, and what else `style_transfer` is told.

    split: the share of the height that the first of two styles is for; 0 for no masks.
    """

    shows: str
    content: str
    styles: tuple[str, ...]
    network: str = "vgg19_thin16x"
    size: int = 512
    split: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


_COFFEE = Entry("colours of the style", "coffee", ("starry_night",))
ENTRIES = {
    "style": _COFFEE,
    **{
        colour: replace(_COFFEE, shows=shows, settings={"colour": colour})
        for colour, shows in (
            ("content", "colours of the content, put back at the end"),
            ("luminance", "brightness alone is restyled"),
            ("linear", "the style recoloured before, linearly"),
            ("histogram", "the style recoloured before, by histogram"),
        )
    },
    "masks": Entry(
        "two styles, one above and one below",
        "rocket",
        ("starry_night", "the_scream"),
        split=0.62,
        settings={"erode": 8},
    ),
    "two": Entry("halfway between two styles", "astronaut", ("starry_night", "the_scream")),
    "small": Entry("256 pixels", "chelsea", ("the_scream",), size=256),
    "squeezenet": Entry("SqueezeNet 1.0", "chelsea", ("starry_night",), "squeezenet1_0"),
    "tinynet": Entry("tinynet, which ships", "chelsea", ("bands",), "tinynet", 384),
    "robust": Entry("tinynet-robust, which ships", "chelsea", ("bands",), "tinynet-robust", 384),
    "large": Entry("2048 pixels", "rocket", ("shipwreck",), size=2048, settings={"steps": 30}),
}
SMOKE = {"small": Entry("small", "chelsea", ("bands",), "tiny", 48, settings={"steps": 2, "smallest": 32})}


def style_of(name: str) -> Tensor:
    """A style, (1, 3, h, w)."""
    if name == "bands":
        return waves(512)[None]
    return sample(name)[None] if name in ("brick", "hubble") else picture_of(name, 1024)


def made(entry: Entry, file: Path) -> dict[str, Any]:
    """Repaint, and keep the result whole."""
    content = sample(entry.content)[None]
    size = fitted((content.shape[2], content.shape[3]), entry.size)
    content = resize(content, size).clamp(0, 1)
    settings = dict(entry.settings)
    if entry.split:
        above = (torch.arange(size[0]) < entry.split * size[0]).float()[:, None].expand(size)
        settings["masks"] = torch.stack([above, 1 - above])
    losses: list[float] = []

    def told(moment: Moment) -> None:
        losses.append(-float(moment.score))

    begun = time.process_time()
    network = network_of(entry.network)
    styles = [style_of(name) for name in entry.styles]
    found = style_transfer(content, styles, network=network, callback=told, **settings)
    write(found[0], file)
    return {
        "seconds": time.process_time() - begun,
        "looks": len(losses),
        "loss": losses[-1],
        "h": size[0],
        "w": size[1],
    }


def call_of(entry: Entry) -> str:
    """The call that makes an entry."""
    more = [f"network={entry.network!r}", f"size={entry.size}"]
    more += ["masks=masks"] if entry.split else []
    more += [f"{key}={value!r}" for key, value in entry.settings.items()]
    return f"style_transfer({entry.content}, [{', '.join(entry.styles)}], {', '.join(more)})"


def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--entries", nargs="*", help="some of the entries alone")
    options = parser.parse_args(argv)
    results = prepare(options, "style_gallery", __doc__)
    results.command = "python benchmarks/style_gallery.py"
    entries = SMOKE if options.smoke else ENTRIES
    whole = (results.folder if options.smoke else ROOT) / "runs" / "style_gallery"
    whole.mkdir(parents=True, exist_ok=True)
    for name in options.entries or entries:
        entry = entries[name]
        make: Callable[[], dict[str, Any]] = partial(made, entry, whole / f"{name}.png")
        results.measure(name, {"call": call_of(entry)}, make)
        if (whole / f"{name}.png").exists():
            picture = read(whole / f"{name}.png")
            shown = fitted((picture.shape[1], picture.shape[2]), min(SHOWN, max(picture.shape[1:])))
            write(resize(picture[None], shown)[0].clamp(0, 1), results.page.with_suffix("") / f"{name}.jpg", quality=88)
    results.write_page("Style transfer, looked at", page(results.cells, entries))


def page(cells: dict[str, dict[str, Any]], entries: dict[str, Entry]) -> str:
    """The pictures, each with its call, size and cost."""
    parts = [
        "The photographs are scikit-image's. Each picture is the first result, made with the default preset; larger "
        f"ones are shown reduced to {SHOWN} pixels. Time is of the processor, one thread."
    ]
    for name, cell in cells.items():
        if name not in entries:
            continue
        entry, values = entries[name], cell["values"]
        styles = " and ".join(STYLES[style] for style in entry.styles)
        parts.append(f"## {entry.shows[0].upper()}{entry.shows[1:]}")
        parts.append(f"![{entry.content} in the style of {styles}](style_gallery/{name}.jpg)")
        parts.append(f"In the style of {styles}: `{cell['settings']['call']}`")
        size = f"{values['w']} x {values['h']}"
        parts.append(
            table(
                ["pixels", "looks at all sizes", "loss at the end", "seconds"],
                [[size, values["looks"], f"{values['loss']:.4f}", f"{values['seconds']:.0f}"]],
            )
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
