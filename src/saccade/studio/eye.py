"""The first two parts of the tour: what trained networks say about photographs, and on which pixels it hangs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.explain import saliency
from saccade.networks import Network, Prediction, predict, prepare
from saccade.pictures import centre_crop, heat, resize, sample, sheet
from saccade.studio.page import bars, image, made_by, paragraphs, per_cent, section

SHOWN = 384  # side of the photographs on the page
CLIP = 0.005  # share of the pixels that may saturate in a map


@dataclass(frozen=True)
class Photograph:
    """A sample of `saccade.pictures`, in words; `words` are the names of classes that would be right."""

    sample: str
    title: str
    alt: str
    words: tuple[str, ...] = ()


PHOTOGRAPHS = (
    Photograph("chelsea", "Chelsea", "The face of a tabby cat, close up", ("tabby", "Egyptian cat")),
    Photograph("coffee", "Coffee", "A cup of espresso on a red saucer", ("espresso",)),
    Photograph("rocket", "Rocket", "A rocket on its launch pad at dusk", ("projectile", "missile")),
    Photograph("astronaut", "Astronaut", "An astronaut in an orange suit before a flag and a model shuttle"),
    Photograph("motorcycle", "Motorcycle", "A red motorcycle parked in a garage", ("moped",)),
    Photograph("camera", "Cameraman", "A man in a dark coat bends to a camera on a tripod", ("tripod",)),
)


@dataclass(frozen=True, eq=False)
class Look:
    """What one network makes of the photographs.

    pictures: (N, 3, S, S), as the network gets them. answers: its most probable classes of each. maps: (N, S, S), the
    saliency of each first answer.
    """

    network: Network
    pictures: Float[Tensor, "n 3 s s"]
    answers: list[list[Prediction]]
    maps: Float[Tensor, "n s s"]

    def words(self, photograph: Photograph) -> list[str]:
        """The names among the network's classes that would be right for a photograph."""
        known = {part: name for name in self.network.classes or () for part in _plain(name)}
        return [known[word.lower()] for word in photograph.words if word.lower() in known]


def look(network: Network) -> Look:
    """Show the photographs to a network."""
    photographs = [square(photograph) for photograph in PHOTOGRAPHS]
    pictures = torch.cat([prepare(network, picture) for picture in photographs])
    answers = predict(network, photographs, top=3)
    return Look(network, pictures, answers, saliency(network, pictures, [best[0].index for best in answers]))


def see_section(looks: Sequence[Look]) -> str:
    """The part "What it sees": photographs with the most probable classes."""
    side = looks[0].pictures.shape[-1]
    cards = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        words = looks[0].words(photograph)
        small = image(looks[0].pictures[i], alt="", kind="inset pixels", quality=100)  # decorative: the same picture
        answers = ""
        for each, tone in _toned(looks):
            shares = [(best.name, best.probability) for best in each.answers[i]]
            answers += f'<p class="who {tone}">{escape(each.network.name)}</p>' + bars(shares, kind=tone, right=words)
        remark = f"A word that fits: {words[0]}" if words else "It knows no word for this"
        cards.append(
            f'<figure><div class="photo">{image(square(photograph), alt=photograph.alt)}{small}</div>'
            f'<figcaption><p class="title">{escape(photograph.title)}</p><p>{escape(remark)}</p>{answers}</figcaption>'
            "</figure>"
        )
    return section(
        1,
        "What it sees",
        paragraphs(_introduce(looks), _explain_answers(looks, side))
        + f'<div class="cards">{"".join(cards)}</div>'
        + made_by(f'predict(saccade.load("{looks[0].network.name}"), photographs, top=3)'),
    )


def why_section(looks: Sequence[Look], more: str = "") -> str:
    """The part "Why it decides so": the saliency of each first answer, networks side by side; then `more`, HTML."""
    triples = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        cells = [(image(_shown(looks[0], i), alt=photograph.alt, quality=80), escape(photograph.title))]
        for each, tone in _toned(looks):
            best = each.answers[i][0]
            alt = f"Saliency of “{best.name}” in {photograph.title}, for {each.network.name}"
            said = f"{escape(best.name)}, {per_cent(best.probability)}"
            caption = f'<b class="{tone}">{escape(each.network.name)}</b>{said}'
            cells.append((image(_map(each.maps[i]), alt=alt, density=2, quality=85), caption))
        triples.append(
            '<div class="triple">'
            + "".join(f"<figure>{html}<figcaption>{words}</figcaption></figure>" for html, words in cells)
            + "</div>"
        )
    twin = ""
    if len(looks) > 1 and _adversarial(looks[1].network):
        one, two = (f'<b class="{tone}">{escape(each.network.name)}</b>' for each, tone in _toned(looks))
        twin = (
            f"Compare the maps of each picture. A network trained in the usual way, like {one}, also leans on faint "
            "patterns that people do not notice, which is why changes that nobody sees can fool it. "
            f"{two} was trained on pictures changed in just that way and had to learn to do without such patterns: its "
            "maps keep more to the outlines of things."
        )
    return section(
        2,
        "Why it decides so",
        paragraphs(
            "If one pixel were a little brighter or darker, how much would the score of the answer change? One pass "
            "backwards through the network answers that for all pixels at once. Where the map is bright, the answer "
            "hangs on the pixel; where it is black, the pixel could change a little without effect. This is called a "
            "saliency map.",
            twin,
            "Read it with care. It says where the network is sensitive, not whether a pixel speaks for or against the "
            "answer, and a plausible map is no proof of good reasons.",
        )
        + f'<div class="triples">{"".join(triples)}</div>'
        + made_by("saliency(network, pictures, answers)")
        + more,
    )


def strip(look: Look) -> str:
    """The photographs in a row, each half as people see it and half as a network feels it."""
    tiles = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        picture, map = resize(_shown(look, i), SHOWN), _map(look.maps[i])
        rows, columns = torch.arange(SHOWN)[:, None], torch.arange(SHOWN)[None]
        tile = torch.where(rows + columns < SHOWN, picture, map)  # along the falling diagonal of the square
        alt = f"{photograph.alt}; the lower right half is its saliency map"
        tiles.append(image(tile, alt=alt, density=2, quality=82))
    return f'<div class="strip">{"".join(tiles)}</div>'


def figures(looks: Sequence[Look]) -> dict[str, Tensor]:
    """The same as sheets, for files: name of the file to picture (3, H, W)."""
    photographs = [_shown(looks[0], i) for i in range(len(PHOTOGRAPHS))]
    answers = ["\n".join(f"{p.name} {per_cent(p.probability)}" for p in best) for best in looks[0].answers]
    maps = [[_map(map) for map in each.maps] for each in looks]
    said = [[best[0].name for best in each.answers] for each in looks]
    return {
        "predictions": sheet([photographs[:3], photographs[3:]], captions=[answers[:3], answers[3:]], cell=200),
        "saliency": sheet(
            [photographs, *maps],
            captions=[[photograph.title for photograph in PHOTOGRAPHS], *said],
            row_labels=["photograph", *(each.network.name for each in looks)],
        ),
    }


def _introduce(looks: Sequence[Look]) -> str:
    """Who answers: the networks with what is known of them."""
    sentences: list[str] = []
    for each, tone in _toned(looks):
        network = each.network
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        trained = network.meta.get("recipe", {}).get("data", "")
        said = f'<b class="{tone}">{escape(network.name)}</b> '
        if sentences and _adversarial(network):
            said += (
                "is its robust twin: the same network, trained on pictures that were changed a little, on purpose, to "
                "mislead it."
            )
        else:
            said += f"is a small convolutional network ({millions:.1f} million numbers to learn)"
            said += f", trained by this project on {_known(trained)}." if trained else "."
        sentences.append(said)
    return " ".join(sentences)


def _explain_answers(looks: Sequence[Look], side: int) -> str:
    classes = len(looks[0].network.classes or ())
    fitting = [i for i, photograph in enumerate(PHOTOGRAPHS) if looks[0].words(photograph)]
    counts = []
    for each, tone in _toned(looks):
        right = sum(each.answers[i][0].name in each.words(PHOTOGRAPHS[i]) for i in fitting)
        counts.append(f'<b class="{tone}">{escape(each.network.name)}</b> gets {right} of {len(fitting)} right')
    two = len(looks) > 1
    knows, gets = ("Both know", "They get") if two else ("It knows", "It gets")
    shares = "share their belief" if two else "shares its belief"
    return (
        f"{knows} {classes} words and, shown a picture, {shares} out among them; the bars are the three words "
        f"believed most. {gets} each photograph as small as the square in its corner, {side} × {side} pixels. For "
        f"{len(fitting)} of the {len(PHOTOGRAPHS)} photographs there is a word that fits: {' and '.join(counts)} at "
        "first guess. For the others there is none; a network like this cannot say so, and names the nearest thing "
        "it knows."
    )


def square(photograph: Photograph) -> Float[Tensor, "3 side side"]:
    """The middle of a photograph, `SHOWN` pixels a side."""
    return centre_crop(resize(sample(photograph.sample), SHOWN), SHOWN)


def _shown(look: Look, i: int) -> Float[Tensor, "3 s s"]:
    """What the network gets of photograph `i`, sharper where it gets little."""
    large = look.pictures.shape[-1] >= 128  # from there on `prepare` leaves a margin
    return look.pictures[i] if large else square(PHOTOGRAPHS[i])


def _map(map: Float[Tensor, "h w"]) -> Float[Tensor, "3 a b"]:
    """A saliency map in colour, enlarged smoothly."""
    return resize(heat(map, clip=CLIP), SHOWN)


def _toned(looks: Sequence[Look]) -> list[tuple[Look, str]]:
    return list(zip(looks, ("one", "two"), strict=False))


def _adversarial(network: Network) -> bool:
    return network.meta.get("recipe", {}).get("adversarial", "none") != "none" or "robust" in network.name


def _known(data: str) -> str:
    return {"tiny-imagenet": "Tiny ImageNet, photographs of 64 × 64 pixels in 200 classes"}.get(data, data)


def _plain(name: str) -> list[str]:
    return [part.strip() for part in name.lower().split(",")]
