"""Choosing and drawing generated scenes, a batch of them in each array operation.

Every random number is a hash of (seed, split, index of the scene, number of the draw), so a scene is the same
drawn alone or in any batch, and the streams of the splits share no key.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.scene_shapes import (
    BACKGROUNDS,
    FILLS,
    GRID,
    REACH,
    SHAPES,
    Array,
    background_table,
    fill_table,
    noise_table,
    shape_table,
)
from saccade.engine.seeding import mix

Ints = NDArray[np.int64]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.12),
    "orange": (0.98, 0.55, 0.05),
    "yellow": (0.98, 0.90, 0.15),
    "green": (0.10, 0.62, 0.20),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.55, 0.15, 0.70),
    "pink": (0.98, 0.55, 0.75),
}
SIZES: dict[str, tuple[float, float]] = {  # radius as a share of the picture's side; no two ranges touch
    "small": (0.115, 0.14),
    "medium": (0.17, 0.205),
    "large": (0.25, 0.30),
}
SPLITS = ("train", "val", "test")
MOST = 4  # objects in a scene
_CANDIDATES = 12  # places tried for each object
_PALETTE = np.array(list(COLOURS.values()), np.float32)
_RADII = np.array(list(SIZES.values()), np.float32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Plan:
    """What B scenes hold, in the order of painting, up to `MOST` objects each; arrays (B, MOST) unless
    stated.

    present: whether there is such an object. main: the one that gives the label, (B,). centre: (B, MOST, 2)
    as (x, y), in shares of the side, as is radius. angle: of objects, in radians. ground: the background,
    (B,), with its two colours (B, 2, 3), and the affine map of picture to pattern `warp` (B, 2, 3), in
    periods. light: change of brightness over the picture to the right and downwards, (B, 2). noise: where the
    noise table is read, (B, 2).
    """

    present: NDArray[np.bool_]
    main: Ints
    shape: Ints
    colour: Ints
    fill: Ints
    size: Ints
    centre: Array
    radius: Array
    angle: Array
    tints: Array
    stripe: Array
    ground: Ints
    ground_colours: Array
    warp: Array
    light: Array
    noise: Ints


class _Dice:
    """Uniform numbers in [0, 1) for a batch of scenes: SplitMix64 from the key of each."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self.keys, self.drawn = keys[:, None], 0

    def roll(self, *shape: int) -> Array:
        count = int(np.prod(shape))
        counters = np.arange(self.drawn + 1, self.drawn + count + 1, dtype=np.uint64)
        self.drawn += count
        bits = _finalise(self.keys + counters * _GOLDEN)
        numbers: Array = (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
        return numbers.reshape(-1, *shape)

    def pick(self, options: int, *shape: int) -> Ints:
        return (self.roll(*shape) * options).astype(np.int64)

    def between(self, low: float, high: float, *shape: int) -> Array:
        numbers: Array = np.float32(low) + np.float32(high - low) * self.roll(*shape)
        return numbers


def _finalise(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def keys(indices: Ints, *, seed: int, split: str) -> NDArray[np.uint64]:
    """One key for each scene: a bijection of (index, split) for a given seed, so no two scenes share one."""
    counters = indices.astype(np.uint64) * np.uint64(len(SPLITS)) + np.uint64(SPLITS.index(split))
    return _finalise(np.uint64(mix(seed, 0x5CE4E5)) + (counters + np.uint64(1)) * _GOLDEN)


def plan(indices: Ints, *, seed: int, split: str) -> Plan:
    """Choose what the scenes hold."""
    dice = _Dice(keys(indices, seed=seed, split=split))
    rows = np.arange(len(indices))
    count = np.searchsorted([0.25, 0.55, 0.8], dice.roll(), side="right") + 1
    present = np.arange(MOST) < count[:, None]

    # object 0 is the main one: of a larger size class than all others; small only when alone, and then seldom
    size = np.empty((len(indices), MOST), np.int64)
    size[:, 0] = np.where((count == 1) & (dice.roll() < 0.2), 0, 1 + (dice.roll() < 0.6))
    size[:, 1:] = (dice.roll(MOST - 1) * size[:, :1]).astype(np.int64)
    low, high = _RADII[size, 0], _RADII[size, 1]
    radius = low + (high - low) * dice.roll(MOST)
    centre, free = _place(dice.roll(MOST, _CANDIDATES, 2), radius, present)
    present &= free

    ground, ground_colours = _ground_colours(dice)
    colour = _object_colours(dice, ground_colours)
    tints = _tints(dice, colour, ground_colours)

    order = np.argsort(dice.roll(MOST), axis=1)  # of painting

    def ordered(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return values[rows[:, None], order]

    angle = dice.between(-0.4, 0.4, MOST)
    stripe = np.stack([dice.between(1.3, 1.9, MOST), dice.roll(MOST), dice.roll(MOST)], axis=2)
    fields = {
        "present": present,
        "shape": dice.pick(len(SHAPES), MOST),
        "colour": colour,
        "fill": np.maximum(dice.pick(len(FILLS) + 1, MOST) - 1, 0),  # plain twice as often
        "size": size,
        "centre": centre,
        "radius": radius,
        "angle": angle,
        "tints": tints,
        "stripe": stripe,
    }
    return Plan(
        **{name: ordered(values) for name, values in fields.items()},  # type: ignore[arg-type]
        main=np.argmin(order, axis=1),
        ground=ground,
        ground_colours=ground_colours,
        warp=_warp(dice, ground),
        light=dice.between(-0.25, 0.25, 2),
        noise=dice.pick(GRID, 2),
    )


def _place(tries: Array, radius: Array, present: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """For each object the first of the tried places that keeps clear of the earlier ones, and whether there
    is one.

    Clear means: the centres are at least 0.85 of the two radii apart, so shapes may touch and overlap a
    little.
    """
    total = len(radius)
    centre = np.zeros((total, MOST, 2), np.float32)
    free = np.ones((total, MOST), bool)
    for k in range(MOST):
        margin = radius[:, k, None, None] * np.float32(1.02)
        places = margin + (1 - 2 * margin) * tries[:, k]
        clear = np.ones(places.shape[:2], bool)
        for j in range(k):
            gap = np.hypot(*np.moveaxis(places - centre[:, j, None], 2, 0))
            blocked = gap < np.float32(0.85) * (radius[:, j] + radius[:, k])[:, None]
            clear &= ~(blocked & (present[:, j] & free[:, j])[:, None])
        first = clear.argmax(axis=1)
        centre[:, k] = places[np.arange(total), first]
        free[:, k] = clear.any(axis=1)
    return centre, free


def _ground_colours(dice: _Dice) -> tuple[Ints, Array]:
    """A background and two muted colours for it, of clearly different lightness."""
    ground = dice.pick(len(BACKGROUNDS))
    grey = dice.between(0.15, 0.85)[:, None, None]
    tint = dice.between(-0.16, 0.16, 2, 3)
    step = dice.between(0.14, 0.3)[:, None, None] * np.where(dice.roll() < 0.5, -0.5, 0.5)[:, None, None]
    lightness = np.concatenate([grey - step, grey + step], axis=1)
    return ground, np.clip(lightness + tint, 0.02, 0.98).astype(np.float32)


def _object_colours(dice: _Dice, ground_colours: Array) -> Ints:
    """Colours (B, MOST) drawn from those that differ clearly from both of the background."""
    apart = ((ground_colours[:, :, None] - _PALETTE) ** 2).sum(3).min(1)  # (B, colours)
    chance = dice.roll(MOST, len(_PALETTE))
    colour: Ints = np.where(apart[:, None] > 0.12, chance, chance - 1).argmax(axis=2)
    return colour


def _tints(dice: _Dice, colour: Ints, ground_colours: Array) -> Array:
    """Two colours (B, MOST, 2, 3) of each object: its own, varied, and one away from the background."""
    own = np.clip(_PALETTE[colour] + dice.between(-0.05, 0.05, MOST, 3), 0, 1)
    dark = ground_colours.mean(axis=(1, 2), keepdims=True) < 0.5
    other = own + (dark - own) * np.where(dark, np.float32(0.65), np.float32(0.55))
    return np.stack([own, other], axis=2).astype(np.float32)


def _warp(dice: _Dice, ground: Ints) -> Array:
    """The map from picture to background pattern: turned, scaled to 3 to 8 periods a side, shifted."""
    periods = dice.between(3.0, 8.0)
    periods = np.where(ground == BACKGROUNDS.index("smooth"), periods * np.float32(0.5), periods)
    angle = dice.between(0.0, 2 * np.pi)
    cos, sin = np.cos(angle) * periods, np.sin(angle) * periods
    shift = dice.roll(2) * 8
    return np.stack([np.stack([cos, -sin, shift[:, 0]], 1), np.stack([sin, cos, shift[:, 1]], 1)], axis=1).astype(
        np.float32
    )


def draw(scenes: Plan, *, size: int) -> tuple[NDArray[np.uint8], Array]:
    """Pictures (B, S, S, 3), and the coverage in [0, 1] (B, MOST, S, S) of each object as if alone."""
    total = len(scenes.main)
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size).astype(np.float32)
    canvas = _background(scenes, line)
    coverage = np.zeros((total, MOST, size, size), np.float32)
    for k in range(MOST):
        rows = np.flatnonzero(scenes.present[:, k])
        if len(rows):
            alpha, colour = _object(scenes, rows, k, line, size)
            coverage[rows, k] = alpha
            colour -= (under := canvas[rows])
            colour *= alpha[:, None]
            under += colour
            canvas[rows] = under
    _light(canvas, scenes, line, size)
    canvas *= 255
    canvas += 0.5
    np.clip(canvas, 0, 255, out=canvas)
    return np.ascontiguousarray(canvas.astype(np.uint8).transpose(0, 2, 3, 1)), coverage


def _background(scenes: Plan, line: Array) -> Array:
    """Canvas (B, 3, H, W) with the two colours of the background mixed by its pattern."""
    scale = np.float32(GRID / 8)  # the tables hold 8 periods
    index = _look(scenes.warp[:, 0] * scale, line)
    index <<= 8
    index |= _look(scenes.warp[:, 1] * scale, line)
    index += scenes.ground.astype(np.int32)[:, None, None] << 16
    pattern = np.take(background_table(), index, mode="clip")
    first, second = scenes.ground_colours[:, 0], scenes.ground_colours[:, 1]
    return first[:, :, None, None] + (second - first)[:, :, None, None] * pattern[:, None]


def _look(row: Array, line: Array) -> NDArray[np.int32]:
    """Grid coordinates (B, H, W) of an affine map (B, 3), wrapped around."""
    x, y = row[:, 0, None] * line, row[:, 1, None] * line + row[:, 2, None]
    index: NDArray[np.int32] = (x[:, None, :] + y[:, :, None]).astype(np.int32)
    index &= GRID - 1
    return index


def _object(scenes: Plan, rows: Ints, k: int, line: Array, size: int) -> tuple[Array, Array]:
    """Coverage (R, H, W) and colours (R, 3, H, W) of the k-th object of the scenes `rows`."""
    radius = scenes.radius[rows, k]
    cos, sin = np.cos(scenes.angle[rows, k]) / radius, np.sin(scenes.angle[rows, k]) / radius
    x = line - scenes.centre[rows, k, 0, None]
    y = line - scenes.centre[rows, k, 1, None]
    u = (cos[:, None] * x)[:, None, :] + (sin[:, None] * y)[:, :, None]
    v = (-sin[:, None] * x)[:, None, :] + (cos[:, None] * y)[:, :, None]

    to_grid = np.float32(GRID / (2 * REACH))
    inside = np.clip((v + np.float32(REACH)) * to_grid, 0, GRID - 1).astype(np.int32) << 8
    inside |= np.clip((u + np.float32(REACH)) * to_grid, 0, GRID - 1).astype(np.int32)
    inside += scenes.shape[rows, k].astype(np.int32)[:, None, None] << 16
    distance = np.take(shape_table(), inside, mode="clip")
    distance *= (radius * np.float32(-size))[:, None, None]  # to pixels, positive inside
    alpha = np.clip(distance + np.float32(0.5), 0, 1)

    # u and v run over [-1.25, 1.25], the table holds 8 periods: `stripe` periods a radius, and a shift
    periods, shift_u, shift_v = scenes.stripe[rows, k].T * np.array([[GRID / 8], [GRID], [GRID]], np.float32)
    place = (v * periods[:, None, None] + shift_v[:, None, None]).astype(np.int32) & (GRID - 1)
    place <<= 8
    place |= (u * periods[:, None, None] + shift_u[:, None, None]).astype(np.int32) & (GRID - 1)
    place += scenes.fill[rows, k].astype(np.int32)[:, None, None] << 16
    pattern = np.take(fill_table(), place, mode="clip")
    own, other = scenes.tints[rows, k, 0], scenes.tints[rows, k, 1]
    return alpha, own[:, :, None, None] + (other - own)[:, :, None, None] * pattern[:, None]


def _light(canvas: Array, scenes: Plan, line: Array, size: int) -> None:
    """Light from one side and a little noise, as a camera would add, in place."""
    across, down = scenes.light[:, 0, None] * (line - 0.5), scenes.light[:, 1, None] * (line - 0.5)
    canvas *= (1 + across[:, None, :] + down[:, :, None])[:, None]
    wrapped = np.arange(size) & (GRID - 1)
    rows = (wrapped + scenes.noise[:, :1]) & (GRID - 1)
    columns = (wrapped + scenes.noise[:, 1:]) & (GRID - 1)
    noise = np.take(noise_table(), (rows[:, :, None] << 8) + columns[:, None, :], mode="clip")
    canvas += (noise * np.float32(0.02))[:, None]
