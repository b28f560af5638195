"""The part of the tour on style: one photograph in the style of another picture, by each network and in one pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.networks import Network
from saccade.pictures import resize, sheet
from saccade.studio.eye import PHOTOGRAPHS, square
from saccade.studio.page import image, made_by, paragraphs, section
from saccade.style import style_transfer
from saccade.style.fast.apply import apply_fast
from saccade.style.fast.network import shipped_styles

CONTENT = PHOTOGRAPHS[0]
SIDE = 256  # of the results, in pixels
STEPS = 40  # looks at the picture at its full size
FAST = 3  # as many of the style networks that ship


@dataclass(frozen=True, eq=False)
class Styled:
    """content, style: (3, SIDE, SIDE). repainted: by each network, (3, SIDE, SIDE). fast: name of the style network
    and (3, SIDE, SIDE)."""

    networks: tuple[Network, ...]
    content: Float[Tensor, "3 _ _"]
    style: Float[Tensor, "3 _ _"]
    repainted: tuple[Float[Tensor, "3 _ _"], ...]
    fast: tuple[tuple[str, Float[Tensor, "3 _ _"]], ...]


def waves(side: int) -> Float[Tensor, "3 side side"]:
    """Bands that wind from lower left to upper right, in blue, yellow and red."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    phase = 6 * x + 0.8 * (9 * y).sin() + 0.5 * (14 * x + 5 * y).sin()
    band = (((14 * phase).sin() + 1) / 2) ** 0.7
    tint = ((3 * phase + 4 * y).sin() + 1) / 2
    blue, yellow, red = torch.tensor([[0.05, 0.15, 0.45], [0.95, 0.75, 0.25], [0.75, 0.2, 0.15]])[..., None, None]
    return torch.lerp(blue, torch.lerp(yellow, red, tint), band)


def restyle(
    networks: Sequence[Network], *, steps: int | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Styled:
    """Repaint the photograph; steps: as in `saccade.style.style_transfer`, by default `STEPS`."""
    say(f"Repainting {CONTENT.title} in another style with {' and '.join(each.name for each in networks)}.")
    content = resize(square(CONTENT), SIDE)[None].clamp(0, 1)
    style = waves(SIDE)[None]
    repainted = tuple(style_transfer(content, style, network=each, steps=steps or STEPS)[0] for each in networks)
    fast = tuple((name, apply_fast(name, content)[0]) for name in list(shipped_styles())[:FAST])
    return Styled(tuple(networks), content[0], style[0], repainted, fast)


def styled_section(number: int, styled: Styled) -> str:
    """The part "In the style of"."""
    rows = [
        (CONTENT.alt, escape(CONTENT.title), styled.content),
        ("Wavy bands of blue, yellow and red", "the style, drawn by a formula", styled.style),
    ]
    for network, picture in zip(styled.networks, styled.repainted, strict=True):
        rows.append((f"{CONTENT.title}, repainted with {network.name}", f"by {escape(network.name)}", picture))
    two = (
        "The same losses, minimised through two networks. They agree on what to keep and what to take only as far "
        "as they see alike. "
        if len(styled.networks) > 1
        else ""
    )
    passes = ""
    if styled.fast:
        passes = (
            "<h3>In one pass</h3>"
            + paragraphs(
                "Or train a small network once to repaint any photograph in one style. It needs no steps: these took "
                "a fraction of a second each."
            )
            + _figures(
                [(f"{CONTENT.title} in the style {name}", escape(name), picture) for name, picture in styled.fast]
            )
        )
    return section(
        number,
        "In the style of",
        paragraphs(
            "What a layer sees in a photograph, place by place, is its content; which of its features go together, no "
            "matter where, is its style. Starting from the photograph, the picture was changed until it kept its own "
            f"content and had the style of the other. {two}"
        )
        + _figures(rows)
        + made_by("saccade style photo.jpg painting.jpg -o out.png")
        + passes,
    )


def figures(styled: Styled) -> dict[str, Tensor]:
    """The same as pictures for files: name of the file to (3, H, W)."""
    names = ["content", "style", *(network.name for network in styled.networks), *(name for name, _ in styled.fast)]
    shown = [styled.content, styled.style, *styled.repainted, *(picture for _, picture in styled.fast)]
    return {"styled": sheet([shown], captions=[names])}


def _figures(rows: Sequence[tuple[str, str, Tensor]]) -> str:
    """Pictures side by side: the words that stand for each, its caption (HTML), and (3, H, W)."""
    cells = "".join(
        f"<figure>{image(picture, alt=alt, quality=85)}<figcaption>{caption}</figcaption></figure>"
        for alt, caption, picture in rows
    )
    return f'<div class="cards">{cells}</div>'
