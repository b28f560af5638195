"""Names at the ends of lines, instead of a legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP, LEADING = 8, 13  # points between a line and its name, and between two names


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
    dpi_scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    box = axes.get_window_extent()
    bottom, right, top = (v / dpi_scale for v in (box.y0, box.x1, box.y1))
    spots = [axes.transData.transform((e.x, e.y)) / dpi_scale for e in ends]
    early = [x + GAP + e.width < right for e, (x, _) in zip(ends, spots, strict=True)]
    for inside in (False, True):
        group = [i for i in range(len(ends)) if early[i] == inside and ends[i].name]
        if not group:
            continue
        heights = np.clip([spots[i][1] for i in group], bottom, top)
        places = spread(heights, gap=LEADING, low=bottom, high=top)
        for i, height, place in zip(group, heights, places, strict=True):
            start = spots[i][0]
            _write(axes, ends[i], start, height, (start if inside else right) + GAP, place, halo=inside)


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


def _write(axes: "Axes", end: End, x: float, y: float, at_x: float, at_y: float, *, halo: bool) -> None:
    """The name at (at_x, at_y), and a thin leader from (x, y) where they are not plainly neighbours."""
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
        color=end.colour,
        va="center_baseline",
        annotation_clip=False,
        path_effects=[withStroke(linewidth=3, foreground="white")] if halo else [],
    )
