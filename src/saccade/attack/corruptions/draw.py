"""All corruptions of a picture, side by side."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from saccade.attack.corruptions.corrupt import corrupt
from saccade.attack.corruptions.table import CORRUPTIONS
from saccade.errors import SaccadeError
from saccade.pictures import sheet
from saccade.pictures.check import check_picture


def draw_corruptions(
    picture: Tensor, *, severities: Sequence[int] = (3,), seed: int = 0, cell: int = 150
) -> Float[Tensor, "3 height width"]:
    """The four groups of corruptions as rows, for each severity, after the picture itself.

    Args:
        picture: (3, H, W) in [0, 1].
        severities: one or more of 1 to 5.
        seed: of what is drawn, see `corrupt`.
        cell: the side of a picture in points, see `saccade.pictures.sheet`.

    Returns:
        The drawing, with 2 device pixels a point.

    Raises:
        SaccadeError: no picture, no severity, or none of 1 to 5.
    """
    x = check_picture(picture, "draw corruptions")
    if not severities:
        raise SaccadeError("Could not draw corruptions: there are no severities, expected one or more of 1 to 5.")
    rows: list[list[Tensor | None]] = []
    captions, labels = [], []
    groups = list(dict.fromkeys(one.group for one in CORRUPTIONS.values()))
    for severity in severities:
        for group in groups:
            names = [name for name, one in CORRUPTIONS.items() if one.group == group]
            made: list[Tensor | None] = [corrupt(x[None], name, severity=severity, seed=seed)[0] for name in names]
            lead = len(made) < 4  # noise has three, and room for the original
            rows.append([x, *made] if lead else made)
            captions.append(["original", *names] if lead else names)
            labels.append(f"{group}\nseverity {severity}")
    return sheet(rows, captions=captions, row_labels=labels, cell=cell)
