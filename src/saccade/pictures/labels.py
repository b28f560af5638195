"""Names at the ends of lines, instead of a legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP, LEADING = 8.0, 13.0  # points between a line and its name, and between two names


@dataclass(frozen=True)
class End:
    """Where a line ends, in the units of the axes; `width` is that of the name in points."""

    name: str
    x: float
    y: float
    colour: str
    width: float


def name_ends(axes: "Axes", ends: Sequence[End]) -> None:
    """Write each name to the right of its line's end, in its colour, moved apart where names would overlap.

    Names stand in one column beside the plot, except those of lines that end early enough to be named there.
    """
    box = axes.get_window_extent()
    bottom, right, top = (v * _points(axes) for v in (box.y0, box.x1, box.y1))
    for inside in (False, True):
        group = [e for e in ends if e.name and fits_inside(axes, e) == inside]
        if not group:
            continue
        spots = axes.transData.transform([(e.x, e.y) for e in group]) * _points(axes)
        heights = np.clip(spots[:, 1], bottom, top)
        places = spread(heights, gap=LEADING, low=bottom, high=top)
        for end, x, height, place in zip(group, spots[:, 0], heights, places, strict=True):
            _write(axes, end, x, height, (x if inside else right) + GAP, place, halo=inside)


def fits_inside(axes: "Axes", end: End) -> bool:
    """Whether the line ends so early that there is room for its name before the plot's right edge."""
    x = axes.transData.transform((end.x, end.y))[0]
    return bool((axes.get_window_extent().x1 - x) * _points(axes) > GAP + end.width)


def spread(values: NDArray[np.float64], *, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move `values` as little as possible (least squares) so that all are `gap` apart and in [low, high].

    Pool-adjacent-violators on values minus i * gap. If they cannot all fit, they start at `low` and run over
    `high`.
    """
    order = np.argsort(values, kind="stable")
    pools: list[tuple[float, int]] = []  # mean and count
    for i, value in enumerate(values[order]):
        mean, count = float(value) - i * gap, 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, count = (other * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    flat = np.concatenate([np.full(count, mean) for mean, count in pools])
    out = np.empty(len(values))
    out[order] = np.clip(flat, low, max(low, high - (len(values) - 1) * gap)) + np.arange(len(values)) * gap
    return out


def _points(axes: "Axes") -> float:
    """How many points a device pixel is."""
    figure = axes.get_figure(root=True)
    return 72 / figure.dpi if figure else 1.0


def _write(axes: "Axes", end: End, x: float, y: float, at_x: float, at_y: float, *, halo: bool) -> None:
    """The name at (at_x, at_y), and a thin leader from (x, y) where they are not plainly neighbours."""
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    if abs(at_y - y) > 3 or at_x - x > GAP + 3:
        line = {
            "arrowstyle": "-",
            "color": end.colour,
            "linewidth": 0.7,
            "linestyle": (0, (1, 1.5)),
            "shrinkB": 0,
        }
        axes.annotate(
            "",
            xy=(at_x - 2, at_y),
            xytext=(x + 1, y),
            xycoords="figure points",
            textcoords="figure points",
            annotation_clip=False,
            arrowprops=line,
        )
    axes.annotate(
        end.name,
        xy=(at_x, at_y),
        xycoords="figure points",
        color=tuple(0.8 * v for v in to_rgb(end.colour)),  # letters are thin: darker than their line
        va="center_baseline",
        annotation_clip=False,
        path_effects=[withStroke(linewidth=3, foreground="white")] if halo else [],
    )
