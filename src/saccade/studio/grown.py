"""The part of the tour on what networks look for: pictures grown for classes, a dream, and what a layer keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.imagine import class_picture, dream, invert, unit_layers
from saccade.networks import Network
from saccade.pictures import resize, sheet
from saccade.studio.eye import PHOTOGRAPHS, square
from saccade.studio.page import image, made_by, paragraphs, section

CLASSES = ("goldfish", "tabby", "espresso", "monarch", "king penguin", "jellyfish", "ladybug", "mushroom")
SIDE = 96  # of a class picture, in pixels
DREAMT, INVERTED = PHOTOGRAPHS[0], PHOTOGRAPHS[1]
DEPTHS = 4  # layers whose features are inverted


@dataclass(frozen=True, eq=False)
class Grown:
    """names: the classes. pictures: for each network, (classes, 3, SIDE, SIDE). dreamt: (3, H, W), by the last network.
    kept: layer and (3, H, W) grown from its features, from the picture to the answer."""

    networks: tuple[Network, ...]
    names: tuple[str, ...]
    pictures: tuple[Float[Tensor, "n 3 _ _"], ...]
    dreamt: Float[Tensor, "3 _ _"]
    dreamer: str
    kept: tuple[tuple[str, Float[Tensor, "3 _ _"]], ...]


def grow_all(
    networks: Sequence[Network], *, steps: int | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Grown:
    """Grow everything; steps: of each picture, by default as the recipes say."""
    numbers = _classes(networks[0])
    say(f"Growing pictures of {len(numbers)} classes for {' and '.join(each.name for each in networks)}.")
    pictures = tuple(class_picture(network, numbers, size=SIDE, steps=steps) for network in networks)
    eye = networks[-1]  # of two, the robust one
    photograph = resize(square(DREAMT), 224)[None].clamp(0, 1)
    layers = [name for name in unit_layers(eye, photograph) if name != "classifier"]
    dreamer = layers[max(0, len(layers) - 3)]
    dreamt = dream(eye, photograph, dreamer, steps=min(10, steps or 10))[0]
    small = resize(square(INVERTED), SIDE)[None].clamp(0, 1)
    depths = [layers[round(i * (len(layers) - 1) / (DEPTHS - 1))] for i in range(DEPTHS)]
    kept = tuple((name, invert(eye, small, name, steps=steps or 150)[0]) for name in dict.fromkeys(depths))
    return Grown(tuple(networks), tuple(networks[0].class_name(n) for n in numbers), pictures, dreamt, dreamer, kept)


def grown_section(number: int, grown: Grown) -> str:
    """The part "What it looks for"."""
    rows = ""
    for network, tone, pictures in zip(grown.networks, ("one", "two"), grown.pictures, strict=False):
        tiles = "".join(
            f"<li>{image(resize(picture, 2 * SIDE), alt=f'Grown for “{name}” by {network.name}', density=2)}"
            f"<p>{escape(name)}</p></li>"
            for picture, name in zip(pictures, grown.names, strict=True)
        )
        rows += f'<p class="who {tone}">{escape(network.name)}</p><ul class="scenes">{tiles}</ul>'
    eye = escape(grown.networks[-1].name)
    last = " and ".join(escape(network.name) for network in grown.networks)
    two = (
        "The second network was trained under attack, and its pictures show things a person would recognise; the first "
        "is content with textures and parts. "
        if len(grown.networks) > 1
        else ""
    )
    dreams = (
        f"<figure>{image(square(DREAMT), alt=DREAMT.alt, quality=80)}<figcaption>{escape(DREAMT.title)}</figcaption>"
        f"</figure><figure>{image(grown.dreamt, alt=f'{DREAMT.title}, dreamt')}<figcaption>what "
        f"<code>{escape(grown.dreamer)}</code> makes of it</figcaption></figure>"
    )
    kept = "".join(
        f"<li>{image(resize(picture, 2 * SIDE), alt=f'Grown from the features of {name}', density=2)}"
        f"<p>{escape(name)}</p></li>"
        for name, picture in grown.kept
    )
    return section(
        number,
        "What it looks for",
        paragraphs(
            "Start from noise, and change the picture step by step so that the score of one class rises: the gradient "
            f"that explained an answer now makes a picture. These were grown just now for {last}. {two}"
        )
        + rows
        + made_by("saccade imagine class goldfish,espresso -o pictures.png")
        + "<h3>A dream</h3>"
        + paragraphs("The same from a photograph: whatever the network sees a trace of, it is given more of.")
        + f'<div class="triples"><div class="triple">{dreams}</div></div>'
        + made_by("saccade imagine dream photo.jpg")
        + "<h3>What is kept on the way</h3>"
        + paragraphs(
            f"From left to right, deeper and deeper into {eye}: each picture was grown from noise until a layer saw in "
            f"it what it sees in the photograph of {escape(INVERTED.title.lower())}. What differs from the photograph "
            "no longer matters to the network."
        )
        + f'<ul class="scenes">{kept}</ul>'
        + made_by("saccade imagine invert photo.jpg"),
    )


def figures(grown: Grown) -> dict[str, Tensor]:
    """The same as pictures for files: name of the file to (3, H, W)."""
    names = list(grown.names)
    layers = [name for name, _ in grown.kept]
    return {
        "class_pictures": sheet(
            [list(pictures) for pictures in grown.pictures],
            captions=[names] * len(grown.pictures),
            row_labels=[network.name for network in grown.networks],
        ),
        "dream": grown.dreamt,
        "inversion": sheet([[square(INVERTED), *(picture for _, picture in grown.kept)]], captions=[["", *layers]]),
    }


def _classes(network: Network) -> list[int]:
    """Those of `CLASSES` that the network knows; its first ones if there are none."""
    found = []
    for name in CLASSES:
        try:
            found.append(network.class_index(name))
        except SaccadeError:
            continue
    count = len(network.classes or ()) or 1
    return found or list(range(min(len(CLASSES), count)))
