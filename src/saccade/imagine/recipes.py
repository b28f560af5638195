"""Recipes: how a picture is grown, whatever it is grown for. A new one is a function here, and a line in `RECIPES`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks import IMAGENET_MEAN, IMAGENET_STD, Network
from saccade.pictures.optimise import (
    Adam,
    Blur,
    Box,
    Calibrated,
    ClipSmallContribution,
    ClipSmallNorm,
    Decay,
    Fourier,
    Jitter,
    Normalised,
    Pixels,
    Plain,
    Progress,
    Rotate,
    Rule,
    Scale,
    l2,
    total_variation,
)
from saccade.pictures.optimise.parametrise import Parametrisation
from saccade.pictures.optimise.projections import Projection
from saccade.pictures.optimise.transforms import Transform

Size = tuple[int, int]


@dataclass(frozen=True)
class Recipe:
    """The settings of `saccade.pictures.optimise.optimise`, and the noise it starts from.

    spread: standard deviation of the noise, in the values that are stepped; around zero, which is mid-grey for
    `Fourier()`, and the mean for `Pixels(mean, std)`. wake: see `Objective.of`.
    """

    steps: int
    rule: Rule
    parametrise: Parametrisation = Pixels()  # noqa: RUF009 - frozen
    spread: float = 0.01
    transforms: Sequence[Transform] = ()
    penalty: Callable[[Tensor], Tensor] | None = None
    projections: Sequence[Projection] = ()
    wake: bool = False


def modern(
    network: nn.Module,
    size: Size,
    *,
    steps: int = 128,
    rate: float = 0.04,
    falloff: float = 1.1,
    smooth: float = 0.003,
    degrees: float = 10.0,
) -> Recipe:
    """Spectrum and decorrelated colours, moved about, stepped by Adam (Olah and others 2017, Mordvintsev and others
    2018, see `saccade.pictures.optimise.parametrise`).

    The network sees the picture shrunk to between 0.9 times the size it was trained for, where one object fills it,
    and nearly the size it is grown at, where the details are. smooth: weight of total variation.
    """
    trained = getattr(network, "input_size", None) or min(size)
    ratio = trained / min(size)
    moves = (Jitter(-8, 8), Scale(0.9 * ratio, max(0.8, 1.1 * ratio)), Rotate(degrees))
    charge = (lambda pictures: smooth * total_variation(pictures)) if smooth else None
    return Recipe(steps, Adam(rate), Fourier(falloff), 0.01, moves, charge, wake=True)


def course(
    network: nn.Module,
    size: Size,  # noqa: ARG001
    *,
    steps: int = 100,
    learning_rate: float = 25.0,
    l2_reg: float = 1e-3,
    max_jitter: int = 16,
    blur_every: int = 10,
    normalised: bool = False,
) -> Recipe:
    """Class visualisation as in the course's third notebook (after Simonyan and others 2014, arXiv:1312.6034).

    All of it in the network's normalised space. normalised: whether a step has the L2 length `learning_rate`, or is
    `learning_rate` times the gradient; the course leaves that open.
    """
    mean, std = _normalisation(network)
    return Recipe(
        steps,
        Normalised(learning_rate) if normalised else Plain(learning_rate),
        Pixels(mean, std),
        1.0,
        (Jitter(0, max_jitter),),
        lambda pictures: l2_reg * l2(pictures, mean, std),
        (_whole_range(mean, std), Blur(0.5, blur_every)),
    )


def toolbox(
    network: nn.Module,
    size: Size,  # noqa: ARG001
    *,
    kind: Literal["norm", "decay", "blur", "contribution"] = "blur",
    rate: float | None = None,
) -> Recipe:
    """The four recipes of the deep visualization toolbox (Yosinski and others 2015, arXiv:1506.06579, table 1).

    In its own units: values are 0 to 255 minus the mean colour, the noise has a deviation of 10.

    rate: of a step, the largest one for "norm" and "contribution". The published 100 (1e8 for "contribution") suits
    CaffeNet only: it grows nothing in networks with smaller gradients. By default it follows from the gradients, so
    that a step raises the score by about 2, as published for "norm" and "contribution".
    """
    mean, _ = _normalisation(network)
    std = (1 / 255,) * 3
    by_progress = Progress(2.0, math.inf if rate is None else rate)
    plain = Calibrated(2.0) if rate is None else Plain(rate)
    kinds: dict[str, tuple[int, Rule, tuple[Projection, ...]]] = {
        "norm": (500, by_progress, (Blur(0.5, 4), ClipSmallNorm(50))),
        "decay": (750, plain, (Decay(0.3), ClipSmallNorm(20))),
        "blur": (1000, plain, (Decay(1e-4), Blur(1.0, 4))),
        "contribution": (1000, by_progress, (Blur(0.5, 4), ClipSmallContribution(90))),
    }
    steps, rule, held = kinds[kind]
    return Recipe(steps, rule, Pixels(mean, std), 10.0, projections=(*held, _whole_range(mean, std)))


RECIPES: dict[str, Callable[[nn.Module, Size], Recipe]] = {
    "modern": modern,
    "feature": partial(modern, rate=0.05, falloff=1.0, smooth=0.0),
    "course": course,
    "course-normalised": partial(course, normalised=True),
    "toolbox-norm": partial(toolbox, kind="norm"),
    "toolbox-decay": partial(toolbox, kind="decay"),
    "toolbox-blur": partial(toolbox, kind="blur"),
    "toolbox-contribution": partial(toolbox, kind="contribution"),
}


def find_recipe(recipe: str | Recipe, network: nn.Module, size: Size) -> Recipe:
    """A recipe by its name, made for a network and a size; raises `SaccadeError` with all there are."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise SaccadeError(f"There is no recipe {recipe!r} to grow a picture by; there are {', '.join(RECIPES)}.")
    return RECIPES[recipe](network, size)


def _normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the colours: the network's own, else ImageNet's."""
    if isinstance(network, Network):
        return tuple(network.mean.flatten().tolist()), tuple(network.std.flatten().tolist())
    return IMAGENET_MEAN, IMAGENET_STD


def _whole_range(mean: Sequence[float], std: Sequence[float]) -> Box:
    """The box of normalised values that stand for pixels in [0, 1]."""
    pairs = list(zip(mean, std, strict=True))
    return Box(tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs))
