"""Training curves: few marks, names at the ends of lines, colours that everybody can tell apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures.check import check_size
from saccade.pictures.labels import GAP, End, fits_inside, name_ends
from saccade.pictures.text import GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito (2008), "Color Universal Design", without its yellow, which is too pale for a line on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
MARGIN, TEXT, TITLE, TICK_GAP = 16.0, 10.0, 13.0, 6.0  # points, as everything below


@dataclass(frozen=True)
class Curve:
    """One line: values `y` over `x` (default 1, 2, 3, ...), where NaN or infinity leaves a gap.

    `low` and `high` shade a band, such as the range over seeds. Lines of one `colour` (an index into a
    palette of seven; default: the next one) belong together, for example a network's training (dashed) and
    validation (solid).
    """

    y: ArrayLike | Tensor
    x: ArrayLike | Tensor | None = None
    low: ArrayLike | Tensor | None = None
    high: ArrayLike | Tensor | None = None
    colour: int | None = None
    style: Literal["solid", "dashed"] = "solid"


def curves(
    lines: Mapping[str, Curve | ArrayLike | Tensor],
    *,
    title: str = "",
    x_label: str = "epoch",
    y_label: str = "",
    y_range: tuple[float | None, float | None] | None = None,
    percent: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    smooth: int = 1,
    marks: Mapping[str, float] | None = None,
    width: int = 560,
    height: int = 320,
    density: int = 2,
) -> Float[Tensor, "3 h w"]:
    """Plot named lines as a picture (3, height * density, width * density), lengths in points (CSS pixels).

    A value of `lines` is a `Curve` or just the numbers. `smooth` draws the running mean of so many points,
    over the raw line in a fainter tone. `percent` shows fractions as per cent, `marks` puts named vertical
    lines at values of x. Several plots of one size go side by side with `grid([...], gap=0)`.

    Raises `SaccadeError` for no lines, lengths that differ, a line without any finite value, and a
    logarithmic axis with values that are not positive.
    """
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for name, size in (("width", width), ("height", height), ("density", density), ("smooth", smooth)):
        check_size(size, name, "plot curves")
    if not lines:
        raise SaccadeError("Could not plot curves: there are no lines, expected at least one.")
    plotted = [_line(name, value, i, smooth, log_x, log_y) for i, (name, value) in enumerate(lines.items())]
    whole = all((line.x == np.round(line.x)).all() for line in plotted)
    xs = np.concatenate([line.x for line in plotted])
    with rc_context():
        rcdefaults()  # a person's own style must not change the figure
        rcParams.update({"font.family": "DejaVu Sans", "font.size": TEXT})
        figure = Figure(figsize=(width / 72, height / 72), dpi=72 * density, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)  # Any: matplotlib leaves its methods untyped
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        _style(axes, log_x=log_x, log_y=log_y, percent=percent, whole=whole)
        for line in plotted:
            _draw(axes, line, raw=smooth > 1)
        if xs.min() < xs.max():
            axes.set_xlim(xs.min(), xs.max())
        if y_range:
            axes.set_ylim(*y_range)
        axes.set_xlabel(x_label, color=GREY, labelpad=TICK_GAP)
        top = MARGIN + (TITLE * 1.9 if title else 0) + TEXT * 1.7 * (bool(y_label) + bool(marks))
        bottom = MARGIN + TEXT * 2 + (TEXT * 1.7 if x_label else 0)
        ends = [End(p.name, p.x_end, p.y_end, p.colour, _text_width(canvas, p.name)) for p in plotted]
        beside = ends
        for _ in range(2):  # twice: which names stand beside, and the ticks, depend on the room they get
            names = max((GAP + end.width for end in beside if end.name), default=TEXT)
            _place(axes, canvas, top=top, bottom=bottom, right=MARGIN + names)
            beside = [end for end in ends if not fits_inside(axes, end)]
        if title:
            y = 1 - MARGIN / height
            figure.text(MARGIN / width, y, title, size=TITLE, weight="bold", color=INK, va="top")
        if y_label:
            y = 1 - (top - TEXT * (2.6 if marks else 0.9)) / height
            figure.text(MARGIN / width, y, y_label, color=GREY, va="baseline")
        _mark(axes, marks or {})
        name_ends(axes, ends)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255).contiguous()


@dataclass(frozen=True)
class _Line:
    """A `Curve` as arrays of one length and a colour."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    colour: str
    dashed: bool
    shown: NDArray[np.float64]  # y, smoothed

    @property
    def x_end(self) -> float:
        return float(self.x[np.isfinite(self.y)][-1])

    @property
    def y_end(self) -> float:
        return float(self.shown[np.isfinite(self.y)][-1])


def _line(name: str, value: object, position: int, smooth: int, log_x: bool, log_y: bool) -> _Line:
    curve = value if isinstance(value, Curve) else Curve(value)  # type: ignore[arg-type]
    y = _array(curve.y, name)
    x = np.arange(1, len(y) + 1, dtype=np.float64) if curve.x is None else _array(curve.x, name)
    band = None
    if curve.low is not None and curve.high is not None:
        band = (_array(curve.low, name), _array(curve.high, name))
    lengths = {len(values) for values in (x, y, *(band or ()))}
    if len(lengths) > 1:
        raise SaccadeError(f"Could not plot {name!r}: its values have lengths {sorted(lengths)}, expected one length.")
    if not np.isfinite(y).any() or not np.isfinite(x).all():
        raise SaccadeError(f"Could not plot {name!r}: expected at least one finite value of y, and finite x.")
    if (log_x and x.min() <= 0) or (log_y and y[np.isfinite(y)].min() <= 0):
        raise SaccadeError(f"Could not plot {name!r} on a logarithmic axis: it has values that are not positive.")
    colour = COLOURS[(position if curve.colour is None else curve.colour) % len(COLOURS)]
    return _Line(name, x, y, band, colour, curve.style == "dashed", _running_mean(y, smooth))


def _array(values: ArrayLike | Tensor, name: str) -> NDArray[np.float64]:
    array = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise SaccadeError(
            f"Could not plot {name!r}: its values have shape {array.shape}, expected (n,), n at least 1."
        )
    return np.where(np.isfinite(array), array, np.nan)


def _style(axes: "Axes", *, log_x: bool, log_y: bool, percent: bool, whole: bool) -> None:
    """Only what carries information: a base line, pale horizontal lines, few ticks."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if not log_x:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=whole, steps=[1, 2, 5, 10]))
    if not log_y:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color="#9a9aa2", linewidth=0.8)
    axes.tick_params(axis="x", which="both", color="#9a9aa2", labelcolor=GREY, width=0.8, length=4)
    axes.tick_params(axis="x", which="minor", length=2)
    axes.tick_params(axis="y", which="both", length=0, labelcolor=GREY, pad=TICK_GAP)
    axes.grid(axis="y", color="#e6e6ea", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw(axes: "Axes", line: _Line, *, raw: bool) -> None:
    if line.band:
        axes.fill_between(line.x, *line.band, color=line.colour, alpha=0.16, linewidth=0)
    if raw:
        axes.plot(line.x, line.y, color=line.colour, alpha=0.22, linewidth=0.8)
    dashes: Any = (0, (3.2, 1.6)) if line.dashed else "solid"
    marker = "o" if np.isfinite(line.y).sum() == 1 else ""  # one point makes no line
    axes.plot(
        line.x,
        line.shown,
        color=line.colour,
        linewidth=1.4 if line.dashed else 1.9,
        linestyle=dashes,
        marker=marker,
        markersize=5,
        solid_capstyle="round",
        solid_joinstyle="round",
        clip_on=False,
    )


def _running_mean(y: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of the last `window` values that are finite, at each value that is."""
    finite = np.isfinite(y)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, y, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.maximum(np.arange(len(y)) + 1 - window, 0)
    end = np.arange(len(y)) + 1
    mean = (totals[end] - totals[start]) / np.maximum(counts[end] - counts[start], 1)
    return np.where(finite, mean, np.nan)


def _mark(axes: "Axes", marks: Mapping[str, float]) -> None:
    for name, x in marks.items():
        axes.axvline(x, color="#9a9aa2", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            name,
            (x, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="baseline",
            color=GREY,
            annotation_clip=False,
        )


def _place(axes: "Axes", canvas: Any, *, top: float, bottom: float, right: float) -> None:
    """Give the axes what the margins (in points) leave; the left one follows the measured tick labels."""
    width, height = canvas.figure.get_size_inches() * 72
    ticks = axes.yaxis.get_tightbbox(canvas.get_renderer())
    left = MARGIN + TICK_GAP + (ticks.width * 72 / canvas.figure.dpi if ticks else 0)
    if width - left - right < 40 or height - top - bottom < 40:
        raise SaccadeError(
            f"Could not plot curves: {width:.0f} x {height:.0f} points leave no room beside the names, "
            "expected more. Raise width= or height=."
        )
    axes.set_position((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    canvas.draw()


def _text_width(canvas: Any, words: str) -> float:
    """The width of `words` in points."""
    from matplotlib.text import Text

    box = Text(0, 0, words, figure=canvas.figure).get_window_extent(canvas.get_renderer())
    return float(box.width * 72 / canvas.figure.dpi)
