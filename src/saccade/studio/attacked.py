"""Of the second part of the tour: the same photographs under attack, and what becomes of answers and maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.attack import find_attack, pgd
from saccade.explain import saliency
from saccade.networks import Network
from saccade.pictures import heat, resize, sheet
from saccade.studio.eye import CLIP, PHOTOGRAPHS, SHOWN, Look, Photograph
from saccade.studio.page import image, made_by, paragraphs, per_cent

EPS = 3 / 255
SHOWN_UNDER_ATTACK = (0, 1, 4)  # of the photographs
SEEK = 30  # steps towards the smallest change


@dataclass(frozen=True, eq=False)
class Attacked:
    """What PGD within `EPS` (Linf) makes of the photographs of a network, M of them.

    adversarial: (M, 3, S, S), the originals where it failed. names: what the network says before and after, with its
    probability. fooled: (M,), whether that is another class. before, after: (M, S, S), the saliency of the first
    answer, on the photograph and under attack. smallest: (M,), the smallest change found to alter the answer, Linf.
    """

    network: Network
    adversarial: Float[Tensor, "m 3 s s"]
    names: list[tuple[str, str]]
    fooled: Bool[Tensor, " m"]
    before: Float[Tensor, "m s s"]
    after: Float[Tensor, "m s s"]
    smallest: Float[Tensor, " m"]


def under_attack(looks: Sequence[Look]) -> list[Attacked]:
    """Attack some of the photographs of each network."""
    return [_attacked(look, torch.tensor(SHOWN_UNDER_ATTACK)) for look in looks]


def _attacked(look: Look, some: Tensor) -> Attacked:
    network, x = look.network, look.pictures[some]
    labels = torch.tensor([look.answers[i][0].index for i in some.tolist()], device=x.device)
    found = pgd(network, x, labels, eps=EPS, steps=20, stop=False)  # as wrong as possible, not just wrong
    nearest = find_attack("fmn")(network, x, labels, norm="linf", steps=SEEK)
    with torch.no_grad():
        said = [network(z).softmax(1).max(1) for z in (x, found.adversarial)]
    words = [[f"{network.class_name(int(k))}, {per_cent(float(p))}" for p, k in zip(*one, strict=True)] for one in said]
    return Attacked(
        network,
        found.adversarial,
        list(zip(*words, strict=True)),
        found.success,
        look.maps[some],
        saliency(network, found.adversarial, labels),
        torch.where(nearest.success, nearest.norm, torch.inf),
    )


def attacked_html(attacked: Sequence[Attacked]) -> str:
    """The heading "Under attack": for each photograph and network the attacked picture and the maps."""
    cells = ""
    for i, photograph in enumerate(_photographs()):
        for one, tone in zip(attacked, ("one", "two"), strict=False):
            before, after = one.names[i]
            changed = f"now {escape(after)}" if before.rpartition(",")[0] != after.rpartition(",")[0] else "it stands"
            figures = [
                (_picture(one, i), f"{photograph.title}, attacked", f"{escape(before)}; {changed}"),
                (_map(one.before[i]), f"Saliency of {before} before the attack", "its map before"),
                (_map(one.after[i]), f"Saliency of {before} under attack", "and under attack"),
            ]
            cells += '<div class="triple">'
            for number, (picture, alt, words) in enumerate(figures):
                who = f'<b class="{tone}">{escape(one.network.name)}</b>' if number == 0 else ""
                said = f"{alt}, for {one.network.name}"
                cells += (
                    f"<figure>{image(picture, alt=said, density=2, quality=85)}"
                    f"<figcaption>{who}{words}</figcaption></figure>"
                )
            cells += "</div>"
    return (
        "<h3>Under attack</h3>"
        + paragraphs(
            "If a gradient says what moves the answer, someone can move it. Here each photograph was changed so that "
            f"the answer becomes as wrong as possible, by at most {255 * EPS:.0f} of 255 in every value, which is hard "
            f"to see. {_compare(attacked)}"
        )
        + f'<div class="triples">{cells}</div>'
        + made_by("saccade attack photo.jpg --eps 3/255 -o attack.png")
    )


def figures(attacked: Sequence[Attacked]) -> dict[str, Tensor]:
    """The same as a sheet for a file."""
    rows, captions = [], []
    for one in attacked:
        for i in range(len(one.names)):
            rows.append([_picture(one, i), _map(one.before[i]), _map(one.after[i])])
            captions.append([f"{one.network.name}\n{one.names[i][0]}\n{one.names[i][1]}", "", ""])
    titles = ["attacked", "its map before", "its map under attack"]
    return {"attacked": sheet(rows, captions=captions, column_titles=titles, cell=200)}


def _compare(attacked: Sequence[Attacked]) -> str:
    """How much it takes, in words."""
    told = []
    for one, tone in zip(attacked, ("one", "two"), strict=False):
        changes = ", ".join(f"{255 * size:.1f}" for size in one.smallest.tolist())
        told.append(f'<b class="{tone}">{escape(one.network.name)}</b> {changes}')
    few = " and ".join(", ".join(p.title for p in _photographs()).rsplit(", ", 1))
    said = f"The smallest changes that were found to alter the answer, of 255, for {escape(few)}: {'; '.join(told)}."
    alike = [
        f'<b class="{tone}">{escape(one.network.name)}</b> {agreement(one):.2f}'
        for one, tone in zip(attacked, ("one", "two"), strict=False)
        if one.fooled.any()
    ]
    return said + (
        f" Where it fell, its maps before and under attack correlate by {'; '.join(alike)}." if alike else ""
    )


def agreement(one: Attacked) -> float:
    """The mean correlation of the maps before and under attack, of the photographs whose answer fell."""
    pairs = zip(one.before[one.fooled].flatten(1), one.after[one.fooled].flatten(1), strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean())


def _photographs() -> list[Photograph]:
    return [PHOTOGRAPHS[i] for i in SHOWN_UNDER_ATTACK]


def _picture(one: Attacked, i: int) -> Float[Tensor, "3 a b"]:
    return resize(one.adversarial[i].cpu(), SHOWN).clamp(0, 1)


def _map(map: Float[Tensor, "h w"]) -> Float[Tensor, "3 a b"]:
    return resize(heat(map, clip=CLIP), SHOWN)
