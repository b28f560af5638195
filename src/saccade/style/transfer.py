"""Style transfer by optimisation: a picture that has the content of one and the style of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import differentiable
from saccade.engine.precision import choose_precision
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks import load
from saccade.networks.targets import check_input
from saccade.pictures.colour import luminance
from saccade.pictures.geometry import resize
from saccade.pictures.optimise import LBFGS, Adam, Box, Moment, Rule, Stage, optimise
from saccade.pictures.palette import match_colours, with_luminance
from saccade.style.backbones import ANY
from saccade.style.eye import Eye
from saccade.style.masks import check_masks
from saccade.style.objective import Known, Objective
from saccade.style.preset import Layers, Preset
from saccade.style.presets import find_preset
from saccade.style.tiles import Tiled

ROUNDING = 1e-3
"""Of a loss, what 16 bits may change in it."""

LONG = 0.25
"""See `LBFGS`."""

OPERATION = "transfer style"

MANY = 2048 * 2048
"""Pixels from which on a picture is looked at in tiles."""

ENOUGH = 100
"""Steps at a size that is not the last from which on more made neither the look nor the loss better."""

LEAST = 16
"""Pixels that the shorter side of every size but the last must have."""

Colour = Literal["style", "content", "luminance", "linear", "histogram"]


def style_transfer(
    content: Tensor | Sequence[Tensor],
    styles: Tensor | Sequence[Tensor],
    *,
    network: str | nn.Module = "tinynet-robust",
    preset: str | Preset = "saccade",
    size: int | None = None,
    content_weight: float = 1.0,
    style_weight: float = 1.0,
    style_shares: Sequence[float] | None = None,
    style_scale: float | Sequence[float] = 1.0,
    masks: Tensor | None = None,
    style_masks: Sequence[Tensor | None] | None = None,
    erode: int = 0,
    colour: Colour = "style",
    start: Literal["content", "noise"] | float | Tensor = "content",
    optimiser: Literal["lbfgs", "adam"] = "lbfgs",
    steps: int = 100,
    smallest: int = 128,
    content_layers: Sequence[str] | None = None,
    style_layers: Sequence[str] | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    tile: int | None = None,
    seconds: float | None = None,
    loss: float | None = None,
    seed: int = 0,
    callback: Callable[[Moment], None] | None = None,
    stop: Callable[[Moment], bool] | None = None,
    checkpoint: str | Path | None = None,
) -> Any:
    """Repaint pictures in the style of others, from small to large (Gatys et al. 2015, arXiv:1508.06576, and 2017,
    arXiv:1611.07865).

    Each picture is repainted on its own; they share the targets of the styles.

    Args:
        content: pictures (N, 3, H, W) in [0, 1] that keep their content; or several such of different sizes.
        styles: pictures (1, 3, h, w), of any sizes, or one of them.
        network: the eye: a name of the zoo or any network of pictures in [0, 1].
        preset: what is minimised: a name of `PRESETS`, or a `Preset`.
        size: longer side of the result, in pixels; by default that of the content.
        content_weight, style_weight: factors on the preset's weights.
        style_shares: the weight of each style. Without masks the result lies between the styles, and only the ratios
            count.
        style_scale: size of the styles against the content's, for all or for each: 2 makes strokes twice as large. No
            style is enlarged.
        masks: (R, H, W) in [0, 1], one for each style: where it goes; see `saccade.style.masks`.
        style_masks: for each style (1, h, w) in [0, 1] or None: which of its places count.
        erode: pixels of the result by which masks are made narrower, so that no place counts that also sees another
            region; about half the receptive field of the layers.
        colour: "style" takes the colours of the style, "content" puts those of the content back at the end (by
            luminance), "luminance" transfers only brightness, "linear" and "histogram" recolour the style as the
            content before.
        start: "content", "noise", a number between (0.3 is three tenths noise), or a picture of the content's shape.
        optimiser: "lbfgs", or "adam" whose steps are averaged and which needs a fifth of the memory.
        steps: looks at the picture at its full size; for the smaller ones see `plan`.
        smallest: longer side of the first size.
        content_layers, style_layers: dotted names, instead of those of the preset.
        precision: "bf16" runs the network in 16 bits; in the second half of the steps at the full size its values are
            exact, and only the way back is in 16 bits. "auto" does so where the processor is faster with it.
        tile: side of the tiles in which large pictures are looked at, with the same result; by default 1024 from 2048 x
            2048 pixels on, 0 for none.
        seconds: stop after about so long, with what there is. loss: stop when the loss at full size is below.
        seed: of the noise.
        callback: called after each step with a `Moment` (step, steps, score, pictures).
        stop: asked after each step with a `Moment`; True ends the run.
        checkpoint: a file to take an interrupted or stopped run up from, with the same bits on a CPU.

    Returns:
        (N, 3, H', W') in [0, 1], longer side `size`, detached, on the device and of the dtype of `content`; a list of
        such if `content` was one.

    Raises:
        SaccadeError: something given does not fit, or the loss stops being finite.
    """
    several = [content] if isinstance(content, Tensor) else list(content)
    styles = [styles] if isinstance(styles, Tensor) else list(styles)
    for one in (*several, *styles):
        check_input(one, OPERATION)
    scales = [style_scale] * len(styles) if isinstance(style_scale, int | float) else list(style_scale)
    _check(styles, scales, steps, smallest, size, checkpoint is not None and len(several) > 1)
    net = load(network).to(several[0].device) if isinstance(network, str) else network
    chosen = _chosen(find_preset(preset), content_weight, style_weight, content_layers, style_layers)
    half = choose_precision(several[0].device, precision).name == "bf16"
    usual = several[0].dtype if several[0].device.type == "cpu" else None  # its layout is the faster one there
    low = torch.bfloat16 if half else None
    fast, exact = Eye(net, chosen, dtype=low or usual), Eye(net, chosen, dtype=usual, back=low)
    until = time.monotonic() + seconds if seconds is not None else None

    def enough(moment: Moment) -> bool:
        last = moment.step > moment.steps - steps
        below = loss is not None and last and bool((-moment.score < loss).all())
        late = until is not None and time.monotonic() > until
        return below or late or (stop is not None and stop(moment))

    known: Known = {}
    finished = []
    for one in several:
        side = fitted((one.shape[2], one.shape[3]), size)
        whole = _at(one.detach(), side)
        target = luminance(whole).expand_as(whole) if colour == "luminance" else whole
        recoloured = [_recoloured(style.to(whole), whole, colour) for style in styles]
        if colour in ("linear", "histogram"):
            known = {}  # these styles are for this content alone
        current = _Current(target, recoloured, scales, style_shares, masks, style_masks, erode, tile, known)
        stages = []
        for at, count in plan(side, steps, smallest):
            finish = count // 2 if at == side and half else 0
            stages.append(Stage(at, count - finish, partial(current.score, fast)))
            stages.append(Stage(at, finish, partial(current.score, exact)))
        rule: Rule = descent_rule(side, half) if optimiser == "lbfgs" else Adam(0.02, (0.9, 0.99), carried=True)
        with differentiable(net):
            found = optimise(
                partial(current.score, exact),
                _start(start, target, seed),
                stages=[stage for stage in stages if stage.steps],
                rule=rule,
                projections=(Box(0.0, 1.0),) if optimiser == "adam" else (),
                average=0.99 if optimiser == "adam" else 0.0,
                stop=enough,
                seed=seed,
                callback=callback,
                checkpoint=checkpoint,
            ).clamp(0, 1)
        finished.append(with_luminance(whole, found) if colour in ("content", "luminance") else found)
    return finished[0] if isinstance(content, Tensor) else finished


class _Current:
    """The objective at the size of the pictures that are looked at: set up when a size begins, given up at the next."""

    def __init__(
        self,
        content: Tensor,
        styles: Sequence[Tensor],
        scales: Sequence[float],
        shares: Sequence[float] | None,
        masks: Tensor | None,
        style_masks: Sequence[Tensor | None] | None,
        erode: int,
        tile: int | None,
        known: Known,
    ) -> None:
        self.content, self.styles, self.scales, self.shares = content, styles, scales, shares
        self.masks, self.style_masks, self.erode = masks, style_masks, erode
        self.tile, self.known = tile, known
        self.objective: Objective | None = None

    def score(self, eye: Eye, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        side = (pictures.shape[2], pictures.shape[3])
        if self.objective is None or self.objective.eye is not eye or self.objective.size != side:
            self.objective = None  # its memory is free before the next is made
            self.objective = self._made(eye, side)
        return self.objective(pictures)

    def _made(self, eye: Eye, side: tuple[int, int]) -> Objective:
        styles = [_scaled(style, max(side) * scale) for style, scale in zip(self.styles, self.scales, strict=True)]
        tile = self.tile if self.tile is not None else (1024 if side[0] * side[1] >= MANY else 0)
        return (Tiled if tile else Objective)(
            eye,
            _at(self.content, side),
            styles,
            self.shares,
            masks=None if self.masks is None else check_masks(self.masks.to(self.content), side),
            style_masks=self.style_masks,
            erode=round(self.erode * max(side) / max(self.content.shape[2:])),
            known=self.known,
            **({"tile": tile} if tile else {}),
        )


def descent_rule(size: tuple[int, int], half: bool) -> LBFGS:
    """How L-BFGS steps pictures of (height, width); half: the network has 16 bits, at first."""
    rate, noise = 0.02 * (3 * size[0] * size[1]) ** 0.5, ROUNDING if half else 0.0
    return LBFGS(rate, low=0.0, high=1.0, held=False, noise=noise, long=LONG)


def plan(size: tuple[int, int], steps: int, smallest: int = 128) -> list[tuple[tuple[int, int], int]]:
    """The sizes (height, width) to work through and the steps at each: twice as large each time, up to `size`.

    A size has half as many pixels a side as the next. Its steps are as many; where these are few, twice those of the
    next, up to `ENOUGH` and four times those of the last.
    """
    longer = max(size)
    levels = 0
    while longer / 2 ** (levels + 1) >= smallest and min(size) / 2 ** (levels + 1) >= LEAST:
        levels += 1
    return [
        (fitted(size, max(1, round(longer / 2**level))), max(steps, min(steps * min(4, 2**level), ENOUGH)))
        for level in range(levels, -1, -1)
    ]


def fitted(size: tuple[int, int], longer: int | None) -> tuple[int, int]:
    """Height and width with the given longer side, and the same proportions."""
    if longer is None:
        return size
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _at(pictures: Tensor, side: tuple[int, int]) -> Tensor:
    return resize(pictures, side, method="bicubic").clamp(0, 1)


def _scaled(style: Tensor, longer: float) -> Tensor:
    """A style at a size, or as it is where it is smaller."""
    size = (style.shape[2], style.shape[3])
    return _at(style, fitted(size, max(1, round(longer)))) if max(size) > longer else style


def _recoloured(style: Tensor, content: Tensor, colour: Colour) -> Tensor:
    if colour in ("linear", "histogram"):
        return match_colours(style, content[:1], colour)
    if colour == "luminance":
        grey = luminance(style).expand_as(style)
        return match_colours(grey, luminance(content[:1]).expand_as(content[:1]), "linear")
    return style


def _start(start: Literal["content", "noise"] | float | Tensor, content: Tensor, seed: int) -> Tensor:
    """What the picture begins as."""
    if isinstance(start, Tensor):
        check_input(start, OPERATION)
        return _at(start.to(content), (content.shape[2], content.shape[3])).expand_as(content)
    share = {"content": 0.0, "noise": 1.0}.get(start, start) if isinstance(start, str) else float(start)
    if not isinstance(share, float) or not 0 <= share <= 1:
        raise SaccadeError(
            f"Could not {OPERATION}: start is {start!r}, expected content, noise, a share of noise from 0 to 1, or a "
            "picture."
        )
    noise = torch.rand(content.shape[1:], generator=generator(seed)).to(content)  # the same for each picture
    return torch.lerp(content, noise.expand_as(content), share)


def _chosen(
    preset: Preset,
    content_weight: float,
    style_weight: float,
    content_layers: Sequence[str] | None,
    style_layers: Sequence[str] | None,
) -> Preset:
    """The preset with weights multiplied and layers named."""
    if content_layers is not None or style_layers is not None:
        if not content_layers or not style_layers:
            raise SaccadeError(f"Could not {OPERATION}: give both content_layers= and style_layers=, or neither.")
        first = (*preset.style_weights, *[preset.style_weights[-1]] * len(style_layers))[: len(style_layers)]
        preset = replace(
            preset,
            layers={ANY: Layers(tuple(content_layers), tuple(style_layers))},
            content_weights=(preset.content_weights[0],) * len(content_layers),
            style_weights=first,
        )
    return replace(
        preset,
        content_weights=tuple(content_weight * w for w in preset.content_weights),
        style_weights=tuple(style_weight * w for w in preset.style_weights),
    )


def _check(
    styles: Sequence[Tensor], scales: Sequence[float], steps: int, smallest: int, size: int | None, shared: bool
) -> None:
    for style in styles:
        if len(style) != 1:
            raise SaccadeError(f"Could not {OPERATION}: a style is {tuple(style.shape)}, expected (1, 3, h, w).")
    if len(scales) != len(styles) or not styles or not min(scales) > 0:
        raise SaccadeError(
            f"Could not {OPERATION}: {len(styles)} styles have the scales {list(scales)}, expected one above 0 "
            "for each."
        )
    for name, value in (("steps", steps), ("smallest", smallest), ("size", 1 if size is None else size)):
        if value < 1:
            raise SaccadeError(f"Could not {OPERATION}: {name} is {value}, expected 1 or more.")
    if shared:
        raise SaccadeError(
            f"Could not {OPERATION}: several contents cannot share one checkpoint; give them one by one."
        )
