"""The shapes and textures of generated scenes, as small tables that the renderer looks up.

A shape is its signed distance (in units of its radius, negative inside) on a grid over [-1.25, 1.25] squared;
a texture is a pattern in [0, 1] that repeats at the borders of its grid. One look-up by nearest neighbour
then draws any shape in any texture, so a batch of different scenes takes the same few array operations as
equal ones.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
GRID, REACH = 256, 1.25

_Coordinates = NDArray[np.float64]
_Shape = Callable[[_Coordinates, _Coordinates], _Coordinates]


def _polygon(*points: tuple[float, float]) -> _Shape:
    """Signed distance to a simple polygon (y points down, as in pictures)."""

    def distance(x: _Coordinates, y: _Coordinates) -> _Coordinates:
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, np.hypot(px - along * ex, py - along * ey))
            if ey:  # a ray to the right crosses this edge
                inside ^= ((ay > y) != (by > y)) & (px < ex * py / ey)
        return np.where(inside, -nearest, nearest)

    return distance


def _circle(x: _Coordinates, y: _Coordinates) -> _Coordinates:
    return np.hypot(x, y) - 0.92


def _ring(x: _Coordinates, y: _Coordinates) -> _Coordinates:
    return np.abs(np.hypot(x, y) - 0.72) - 0.23


def _crescent(x: _Coordinates, y: _Coordinates) -> _Coordinates:
    return np.maximum(np.hypot(x + 0.12, y) - 0.95, 0.78 - np.hypot(x - 0.36, y))


def _heart(x: _Coordinates, y: _Coordinates) -> _Coordinates:
    """The exact distance by Quilez (two quarter circles on a square on its tip), scaled to the unit disc."""
    scale = 1.62
    x, y = np.abs(x) / scale, 0.56 - y / scale
    upper = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    along = 0.5 * np.maximum(x + y, 0)
    lower = np.minimum(np.hypot(x, y - 1), np.hypot(x - along, y - along)) * np.sign(x - y)
    return np.where(x + y > 1, upper, lower) * scale


def _star_points() -> list[tuple[float, float]]:
    angles = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2, 0.45, 1.08)
    return [(float(r * np.sin(a)), float(0.05 - r * np.cos(a))) for r, a in zip(radii, angles, strict=True)]


_C = 0.3  # half the width of the arms of the cross
_SHAPES: dict[str, _Shape] = {
    "circle": _circle,
    "square": _polygon((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),
    "triangle": _polygon((0.0, -0.95), (1.0, 0.75), (-1.0, 0.75)),
    "diamond": _polygon((0.0, -1.1), (0.68, 0.0), (0.0, 1.1), (-0.68, 0.0)),
    "ring": _ring,
    "cross": _polygon(
        *[(-_C, -1.0), (_C, -1.0), (_C, -_C), (1.0, -_C), (1.0, _C), (_C, _C)],
        *[(_C, 1.0), (-_C, 1.0), (-_C, _C), (-1.0, _C), (-1.0, -_C), (-_C, -_C)],
    ),
    "star": _polygon(*_star_points()),
    "heart": _heart,
    "crescent": _crescent,
    "arrow": _polygon(
        *[
            (-1.05, -0.26),
            (0.05, -0.26),
            (0.05, -0.85),
            (1.05, 0.0),
            (0.05, 0.85),
            (0.05, 0.26),
            (-1.05, 0.26),
        ]
    ),
}
SHAPES: tuple[str, ...] = tuple(_SHAPES)
FILLS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
BACKGROUNDS: tuple[str, ...] = ("smooth", "cloudy", "grainy", "striped", "dotted", "checked", "woven")


@cache
def shape_table() -> Array:
    """Signed distances, float32 (shapes * GRID * GRID,), row by row."""
    line = (np.arange(GRID) + 0.5) / GRID * 2 * REACH - REACH
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.concatenate([shape(x, y).ravel() for shape in _SHAPES.values()]).astype(np.float32)


@cache
def fill_table() -> Array:
    """Patterns of shapes, float32 (fills * GRID * GRID,); 8 periods across the grid."""
    return _table([np.zeros((GRID, GRID)), _stripes(8), _dots(8), _checks(8)])


@cache
def background_table() -> Array:
    """Patterns of backgrounds, float32 (backgrounds * GRID * GRID,); 8 periods across the grid, one if
    smooth."""
    line = np.arange(GRID) / GRID
    smooth = np.broadcast_to(0.5 - 0.5 * np.cos(2 * np.pi * line)[:, None], (GRID, GRID))
    return _table([smooth, _noise(1.7), _noise(0.6), _stripes(8), _dots(8), _checks(8), _weave(8)])


@cache
def noise_table() -> Array:
    """White noise of unit variance, float32 (GRID * GRID,)."""
    return np.random.default_rng(2).standard_normal(GRID * GRID).astype(np.float32)


def _table(patterns: list[_Coordinates]) -> Array:
    return np.concatenate([pattern.ravel() for pattern in patterns]).astype(np.float32)


def _wave(periods: int) -> _Coordinates:
    return np.sin(2 * np.pi * periods * (np.arange(GRID) + 0.5) / GRID)


def _soft_step(value: _Coordinates, width: float) -> _Coordinates:
    """0 below -width, 1 above width, straight between: an edge that does not flicker when sampled."""
    return np.clip(0.5 + 0.5 * value / width, 0, 1)


def _stripes(periods: int) -> _Coordinates:
    return np.broadcast_to(_soft_step(_wave(periods)[:, None], 0.5), (GRID, GRID))


def _checks(periods: int) -> _Coordinates:
    wave = _wave(periods)
    return _soft_step(wave[:, None] * wave[None, :], 0.3)


def _dots(periods: int) -> _Coordinates:
    wave = _wave(periods)
    return _soft_step(wave[:, None] + wave[None, :] - 0.55, 0.4)


def _weave(periods: int) -> _Coordinates:
    """Bands over and under each other: in each cell one of two round threads is on top."""
    phase = (np.arange(GRID) * 2 * periods / GRID) % 1
    thread = np.sin(np.pi * phase) ** 0.7
    cell = (np.arange(GRID) * 2 * periods // GRID) % 2
    over = (cell[:, None] + cell[None, :]) % 2 == 0
    return np.where(over, 0.35 + 0.65 * thread[:, None], 0.7 * thread[None, :])


def _noise(falloff: float) -> _Coordinates:
    """Noise whose amplitude falls as frequency ** -falloff, repeating at the borders, spread evenly over [0,
    1]."""
    spectrum = np.fft.rfft2(np.random.default_rng(1).standard_normal((GRID, GRID)))
    frequency = np.hypot(np.fft.fftfreq(GRID)[:, None], np.fft.rfftfreq(GRID)[None, :]) * GRID
    shaped = np.fft.irfft2(spectrum / np.maximum(frequency, 4.0) ** falloff, s=(GRID, GRID))
    scaled: _Coordinates = np.clip(0.5 + 0.25 * shaped / shaped.std(), 0, 1)
    return scaled
