"""The first two parts of the tour: what trained networks say about photographs, and on which pixels it hangs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.guards import evaluating
from saccade.explain import saliency
from saccade.networks import Network
from saccade.pictures import centre_crop, heat, resize, sample, sheet
from saccade.studio.page import bars, image, made_by, paragraphs, per_cent, section

SIDE = 64  # of the pictures for the networks, where a network does not say which it was trained on
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
    Photograph("chelsea", "Chelsea", "The face of a tabby cat, close up", ("tabby", "Egyptian cat", "tiger cat")),
    Photograph("coffee", "Coffee", "A cup of espresso on a red saucer, seen from above", ("espresso", "coffee mug")),
    Photograph("rocket", "Rocket", "A rocket on its launch pad at dusk, among lattice towers", ("projectile", "missile")),
    Photograph("astronaut", "Astronaut", "An astronaut in an orange suit before a flag and a model shuttle"),
    Photograph("motorcycle", "Motorcycle", "A red motorcycle parked in a garage", ("moped",)),
    Photograph("camera", "Cameraman", "A man in a dark coat bends to a camera on a tripod, in black and white", ("tripod",)),
)


@dataclass(frozen=True, eq=False)
class Look:
    """What one network makes of the photographs.

    pictures: (N, 3, S, S), as the network got them. shares: (N, C), its probabilities. maps: (N, S, S), the saliency of
    its own first answer.
    """

    network: Network
    pictures: Float[Tensor, "n 3 s s"]
    shares: Float[Tensor, "n classes"]
    maps: Float[Tensor, "n s s"]

    def answers(self, i: int, count: int = 3) -> list[tuple[str, float]]:
        """The most probable classes of photograph `i`."""
        best = self.shares[i].topk(min(count, self.shares.shape[1]))
        return [(self.network.class_name(int(k)), float(p)) for p, k in zip(*best, strict=True)]

    def words(self, photograph: Photograph) -> list[str]:
        """The names among the network's classes that would be right for a photograph."""
        known = {part: name for name in self.network.classes or () for part in _plain(name)}
        return [known[word.lower()] for word in photograph.words if word.lower() in known]


def look(network: Network) -> Look:
    """Show the photographs to a network."""
    pictures = torch.stack([_square(photograph, network.input_size or SIDE) for photograph in PHOTOGRAPHS])
    with evaluating(network):
        shares = network(pictures).softmax(1)
    return Look(network, pictures, shares, saliency(network, pictures, shares.argmax(1)))


def see_section(looks: Sequence[Look]) -> str:
    """"What it sees": photographs with the most probable classes."""
    side = looks[0].pictures.shape[-1]
    cards = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        words = looks[0].words(photograph)
        small = image(looks[0].pictures[i], alt="", kind="inset pixels", quality=100)  # decorative: the same picture
        answers = "".join(
            f'<p class="who {tone}">{escape(each.network.name)}</p>' + bars(each.answers(i), kind=tone, right=words)
            for each, tone in zip(looks, ("one", "two"), strict=False)
        )
        remark = f"A word that fits: {words[0]}" if words else "It knows no word for this"
        cards.append(
            f'<figure><div class="photo">{image(_square(photograph, SHOWN), alt=photograph.alt)}{small}</div>'
            f'<figcaption><p class="title">{escape(photograph.title)}</p><p>{escape(remark)}</p>{answers}</figcaption>'
            "</figure>"
        )
    return section(
        1,
        "What it sees",
        paragraphs(_introduce(looks), _explain_answers(looks, side))
        + f'<div class="cards">{"".join(cards)}</div>'
        + made_by(f'saccade.load("{looks[0].network.name}")(pictures).softmax(1)'),
    )


def why_section(looks: Sequence[Look]) -> str:
    """"Why it decides so": the saliency of each first answer, the networks side by side."""
    triples = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        cells = [(image(_square(photograph, SHOWN), alt=photograph.alt, quality=80), escape(photograph.title))]
        for each, tone in zip(looks, ("one", "two"), strict=False):
            name, share = each.answers(i, 1)[0]
            alt = f"Where the score of “{name}” is sensitive: {photograph.title}, {each.network.name}"
            caption = f'<b class="{tone}">{escape(each.network.name)}</b>{escape(name)}, {per_cent(share)}'
            cells.append((image(_map(each.maps[i]), alt=alt, density=2, quality=85), caption))
        triples.append(
            '<div class="triple">'
            + "".join(f"<figure>{html}<figcaption>{words}</figcaption></figure>" for html, words in cells)
            + "</div>"
        )
    twin = ""
    if len(looks) > 1:
        one, two = (f'<b class="{tone}">{escape(each.network.name)}</b>' for each, tone in _toned(looks))
        twin = (
            f"Compare the two maps of each picture. {one} is moved by fine grain all over the picture, which people do "
            f"not notice; that is why changes that nobody sees can fool such a network. {two} was trained on pictures "
            "changed in just that way, and had to learn to rely on what is plain to see: its maps follow outlines "
            "and shapes."
        ) if _adversarial(looks[1].network) else f"The maps of {one} and {two} stand side by side."
    return section(
        2,
        "Why it decides so",
        paragraphs(
            "A network is a function that has a slope in every direction, so one can ask: if this pixel were a little "
            "brighter or darker, how much would the score of the answer change? One pass backwards through the network "
            "answers that for all pixels at once. Bright pixels are those on which the answer hangs, black ones could "
            "change without effect. This is called a saliency map.",
            twin,
            "A map like this says where the network is sensitive, and no more: whether a pixel speaks for or against "
            "the answer is left out, and a sensible map is no proof of sensible reasons.",
        )
        + f'<div class="triples">{"".join(triples)}</div>'
        + made_by("saccade.explain.saliency(network, pictures, target)"),
    )


def strip(look: Look) -> str:
    """The photographs in a row, each half as people see it and half as a network feels it."""
    tiles = []
    for i, photograph in enumerate(PHOTOGRAPHS):
        picture, map = _square(photograph, SHOWN), _map(look.maps[i], SHOWN)
        rows, columns = torch.arange(SHOWN)[:, None], torch.arange(SHOWN)[None]
        tile = torch.where(rows + columns < SHOWN, picture, map)  # along the falling diagonal of the square
        tiles.append(image(tile, alt=f"{photograph.alt}; its lower right half is a saliency map", density=2, quality=82))
    return f'<div class="strip">{"".join(tiles)}</div>'


def figures(looks: Sequence[Look]) -> dict[str, Tensor]:
    """The same as sheets, for files: name of the file to picture (3, H, W)."""
    photographs = [_square(photograph, SHOWN) for photograph in PHOTOGRAPHS]
    answers = ["\n".join(f"{name} {per_cent(share)}" for name, share in looks[0].answers(i)) for i in range(6)]
    maps: list[list[Tensor | None]] = [[_map(each.maps[i], SHOWN) for i in range(6)] for each in looks]
    said = [[f"{each.answers(i, 1)[0][0]}" for i in range(6)] for each in looks]
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
    sentences = []
    for each, tone in _toned(looks):
        network = each.network
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        trained = network.meta.get("recipe", {}).get("data", "")
        said = f'<b class="{tone}">{escape(network.name)}</b> '
        if sentences and _adversarial(network):
            said += "is its twin: the same network, trained on pictures that were changed a little, on purpose, to mislead it."
        else:
            said += f"is a small convolutional network ({millions:.1f} million numbers to learn)"
            said += f", trained by this project on {_known(trained)}." if trained else "."
        sentences.append(said)
    return " ".join(sentences)


def _explain_answers(looks: Sequence[Look], side: int) -> str:
    classes = looks[0].shares.shape[1]
    fitting = [i for i, photograph in enumerate(PHOTOGRAPHS) if looks[0].words(photograph)]
    counts = []
    for each, tone in _toned(looks):
        right = sum(each.answers(i, 1)[0][0] in looks[0].words(PHOTOGRAPHS[i]) for i in fitting)
        counts.append(f'<b class="{tone}">{escape(each.network.name)}</b> gets {right} of {len(fitting)} right')
    return (
        f"It knows {classes} words and shares its belief out among them; the bars show the three it believes most. It "
        f"gets each photograph as small as the square in its corner, {side} × {side} pixels. "
        f"For {len(fitting)} of these {len(PHOTOGRAPHS)} photographs one of the words fits, and "
        f"{' and '.join(counts)} at first guess. For the others no word fits. It cannot say so, and chooses the nearest "
        "thing it knows."
    )


def _square(photograph: Photograph, side: int) -> Float[Tensor, "3 side side"]:
    """The middle of a photograph."""
    return centre_crop(resize(sample(photograph.sample), side), side)


def _map(map: Float[Tensor, "h w"], side: int = 0) -> Float[Tensor, "3 a b"]:
    """A saliency map in colour, enlarged smoothly."""
    painted = heat(map, clip=CLIP)
    return resize(painted, side or 4 * SIDE).clamp(0, 1)


def _toned(looks: Sequence[Look]) -> list[tuple[Look, str]]:
    return list(zip(looks, ("one", "two"), strict=False))


def _adversarial(network: Network) -> bool:
    return network.meta.get("recipe", {}).get("adversarial", "none") != "none" or "robust" in network.name


def _known(data: str) -> str:
    return {"tiny-imagenet": "Tiny ImageNet, photographs of 64 × 64 pixels in 200 classes"}.get(data, data)


def _plain(name: str) -> list[str]:
    return [part.strip() for part in name.lower().split(",")]
