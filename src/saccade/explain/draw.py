"""From numbers to pictures: an attribution drawn, and a sheet of several methods side by side.

Methods return numbers, signed and un-normalised; what is lost in drawing them (the scale, sometimes the sign) is lost
here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.explain.methods import Method
from saccade.explain.reduce import as_map
from saccade.pictures import heat, overlay, resize, sheet

Look = Literal["magnitude", "signed", "overlay", "colour"]
CLIP = 0.005  # share of the pixels that may saturate: gradients have long tails
SIGNED_CLIP = 0.02  # signed maps begin at white, and are pale where a few pixels tower above the rest


def look_of(method: Method) -> Look:
    """How a method's maps are best seen: values that sum to something with their sign, coarse maps over the
    photograph, gradients by their magnitude."""
    if method.family in ("cam", "perturbation"):
        return "overlay"
    return "signed" if method.complete else "magnitude"


def draw(
    picture: Float[Tensor, "3 h w"], attribution: Float[Tensor, "*colours a b"], look: Look = "magnitude"
) -> Float[Tensor, "3 h w"]:
    """One attribution, (3, H, W) or (H, W), as a picture of the size of `picture`, which may be larger.

    look: "magnitude", the largest absolute value over the colours, from black to yellow. "signed", the sum over the
    colours, blue for what speaks against and red for what speaks for. "overlay", a map over the grey photograph;
    signed where it has negative values. "colour", the values of the three colours around grey, as guided
    backpropagation is usually shown.
    """
    size = (picture.shape[1], picture.shape[2])
    if look == "colour":
        if attribution.ndim != 3:
            raise SaccadeError(f"Drawing in colour needs (3, H, W), given {tuple(attribution.shape)}.")
        values = attribution.detach().cpu().float()
        top = values.abs().flatten().kthvalue(max(1, round((1 - CLIP) * values.numel()))).values.clamp_min(1e-30)
        return resize((0.5 + 0.5 * values / top).clamp(0, 1), size)
    if look == "overlay":
        map = as_map(attribution[None])[0]
        return overlay(picture, map, signed=bool((map < 0).any()), clip=CLIP)
    map = as_map(attribution[None], "largest" if look == "magnitude" else "sum")[0]
    clip = SIGNED_CLIP if look == "signed" else CLIP
    return resize(heat(map, signed=look == "signed", clip=clip), size)


def explanation_sheet(
    pictures: Sequence[Float[Tensor, "3 _ _"]],
    attributions: Sequence[Mapping[str, Float[Tensor, "..."]]],
    looks: Mapping[str, Look],
    *,
    captions: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    note: str = "",
    cell: int = 150,
) -> Float[Tensor, "3 h w"]:
    """Pictures in rows, each followed by its attributions, one column a method.

    attributions: for each picture, method name -> (3, H, W) or (H, W). looks: how each method is drawn. captions:
    below each picture. titles: above each column, by default the method's name.
    """
    names = list(looks)
    rows = [
        [picture, *(draw(picture, found[name], looks[name]) for name in names)]
        for picture, found in zip(pictures, attributions, strict=True)
    ]
    below = [[caption, *[""] * len(names)] for caption in captions] if captions is not None else None
    heads = ["", *((titles or {}).get(name, name) for name in names)]
    return sheet(rows, captions=below, column_titles=heads, note=note, cell=cell, smooth=True)
