"""How strong a corruption is: the published constants of five severities, for pictures of any size."""

import math
from collections.abc import Sequence

from saccade.errors import SaccadeError

SEVERITIES = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224

Levels = Sequence[Sequence[float]]
"""For each of the five severities its constants, all of them above 0."""


def constants(small: Levels, large: Levels, lengths: Sequence[int], severity: int, side: int) -> tuple[float, ...]:
    """The constants of a severity for pictures whose shorter side is `side` pixels.

    There are two published tables: CIFAR-10-C's for 32 pixels and ImageNet-C's for 224, where the same names mean much
    stronger corruptions. Each is followed at its own size. Between the two, a constant runs from one to the other as a
    power of the side (a straight line where both are drawn as logarithms). Below 32 pixels stays what holds for 32;
    above 224 what is a length grows with the side, so that a larger picture looks as one of 224 pixels does, and the
    rest stays.

    Args:
        small: of pictures of 32 pixels.
        large: of pictures of 224 pixels.
        lengths: which of the constants are in pixels.
        severity: 1 to 5.
        side: in pixels.
    """
    between = min(max(math.log(side / SMALL) / math.log(LARGE / SMALL), 0.0), 1.0)
    wider = max(side / LARGE, 1.0)
    pairs = zip(small[severity - 1], large[severity - 1], strict=True)
    return tuple(
        low ** (1 - between) * high**between * (wider if number in lengths else 1.0)
        for number, (low, high) in enumerate(pairs)
    )


def check_severity(severity: int, operation: str) -> None:
    """Raise `SaccadeError` unless a severity is a whole number from 1 to 5."""
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise SaccadeError(f"Could not {operation}: severity is {severity!r}, expected a whole number from 1 to 5.")
