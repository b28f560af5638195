"""Of the second part of the tour: many methods asked one question, side by side."""

import warnings
from contextlib import suppress
from html import escape

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.explain import METHODS, MapWarning, draw, explanation_sheet
from saccade.explain.draw import look_of
from saccade.networks import Network
from saccade.pictures import resize
from saccade.studio.page import image, made_by, paragraphs

ASKED = {
    "saliency": "where a pixel, changed a little, would move the score",
    "smooth-grad": "the same, averaged over noisy copies",
    "integrated-gradients": "how the score builds up from black to this picture; the shares add up to it",
    "guided-backprop": "what excites the network on the way back; mostly outlines",
    "lrp": "the score handed back layer by layer, each in proportion",
    "grad-cam": "which places of the last map the class hangs on",
    "occlusion": "how far the score falls when a patch is covered",
    "kernel-shap": "a fair share for each piece of the picture, by game theory",
}
"""The methods on the page, and what each of them asks."""
FEWER = {"smooth-grad": {"samples": 25}, "kernel-shap": {"samples": 250}}


def answers(network: Network, pixels: Float[Tensor, "1 3 h w"], target: int) -> dict[str, Tensor]:
    """The maps of one picture by method; a method that this network does not allow is left out."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MapWarning)  # an empty map is shown as such
        for name in ASKED:
            with suppress(SaccadeError):
                found[name] = METHODS[name].function(network, pixels, target, **FEWER.get(name, {}))[0]
    return found


def answers_html(
    network: Network, photograph: Float[Tensor, "3 side side"], title: str, target: int, found: dict[str, Tensor]
) -> str:
    """The maps as figures, with what each method asks."""
    name = escape(network.class_name(target))
    cells = ""
    for method, asks in ASKED.items():
        if method not in found:
            continue
        drawn = resize(draw(photograph, found[method], look_of(METHODS[method])), 640)
        picture = image(drawn, alt=f"{METHODS[method].title} for “{network.class_name(target)}”", density=2, quality=85)
        cells += (
            f'<figure>{picture}<figcaption><p class="title">{escape(METHODS[method].title)}</p>'
            f"<p>{escape(asks)}</p></figcaption></figure>"
        )
    return (
        "<h3>One question, many answers</h3>"
        + paragraphs(
            f"Why “{name}”, for {escape(title)}? Each method asks in its own way, and they disagree. In red is what "
            "speaks for the answer, in blue what speaks against it; otherwise, brighter is more. A map that looks "
            "right is not proof: guided backpropagation draws fine outlines for a network of random weights, too. "
            "That is why this library scores methods on many pictures beside maps that look at no network at all: "
            "<code>saccade explain scoreboard tinynet tiny-imagenet</code>."
        )
        + f'<div class="cards">{cells}</div>'
        + made_by("saccade explain photo.jpg --method saliency,lrp,grad-cam,occlusion -o sheet.png")
    )


def answers_sheet(photograph: Tensor, said: str, found: dict[str, Tensor]) -> Tensor:
    """The same as a picture for a file."""
    looks = {name: look_of(METHODS[name]) for name in found}
    titles = {name: METHODS[name].title for name in found}
    return explanation_sheet([photograph], [found], looks, captions=[said], titles=titles)
