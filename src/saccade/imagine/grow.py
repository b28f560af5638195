"""Grow pictures for any objective: the step that class pictures, feature pictures, dreams and inversion share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import rows_at_once
from saccade.engine.guards import differentiable
from saccade.errors import SaccadeError
from saccade.imagine.objectives import Objective, as_objective
from saccade.imagine.recipes import Recipe, find_recipe
from saccade.networks.targets import check_input
from saccade.pictures.optimise import Moment, noise, optimise

Callback = Callable[[Moment], None]


def grow(
    network: nn.Module,
    objective: Objective | Callable[[Tensor], Tensor],
    *,
    recipe: str | Recipe = "modern",
    size: int | tuple[int, int] | None = None,
    count: int = 1,
    variants: int = 1,
    start: Tensor | None = None,
    steps: int | None = None,
    octaves: int = 1,
    octave_scale: float = 1.4,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Grow pictures for which an objective is high, from noise or from `start`.

    Each is grown on its own, by the same random moves: it does not depend on the others, unless the objective couples
    them. The network is run in evaluation mode and left as it was.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        objective: see `saccade.imagine.objectives`; or any function of pictures, (N, 3, H, W) -> (N,).
        recipe: a name of `RECIPES`, or a `Recipe`.
        size: (height, width) or the side of a square, in pixels; by default the size the network was trained for, and
            at least 128.
        count: how many pictures, N, when `start` is not given; a multiple of `variants`.
        variants: pictures i, i + variants, i + 2 * variants, ... start from the same noise, by (seed, i).
        start: pictures (N, 3, H, W) to begin with instead of noise.
        steps: instead of the recipe's.
        octaves, octave_scale: sizes to work through, see `optimise`.
        seed: of the noise and the moves.
        batch_size: how many pictures the network is given at a time; by default as many as are fast and fit.
        callback: called after each step with a `Moment` (step, steps, score, pictures).
        checkpoint: a file to take an interrupted run up from; it is removed at the end.

    Returns:
        (N, 3, H, W) in [0, 1], on the device and of the dtype of the network's weights (of `start`, if given).

    Raises:
        SaccadeError: something given does not fit, or the objective stops being finite.
    """
    objective = as_objective(objective)
    if start is not None:
        check_input(start, "grow pictures")
        h, w = start.shape[2:]
    else:
        h, w = _size(network, size)
    chosen = find_recipe(recipe, network, (h, w))
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    with differentiable(network):
        if start is None:
            if variants < 1 or count < 1 or count % variants:
                raise SaccadeError(f"{count} pictures in {variants} variants were asked for; expected a multiple.")
            made = noise(chosen.parametrise, (h, w), spread=chosen.spread, seed=seed, count=variants)
            weight = next((p for p in network.parameters() if p.is_floating_point()), made)
            start = made.repeat(count // variants, 1, 1, 1).to(weight)
        rows = rows_at_once(network, start, batch_size, wanted=len(start))
        found = optimise(
            objective.of(network, rows_at_once=rows, wake=chosen.wake, runs=chosen.steps * octaves * len(start)),
            start,
            steps=chosen.steps,
            rule=chosen.rule,
            parametrise=chosen.parametrise,
            transforms=chosen.transforms,
            penalty=chosen.penalty,
            projections=chosen.projections,
            octaves=octaves,
            octave_scale=octave_scale,
            seed=seed,
            callback=callback,
            checkpoint=checkpoint,
        )
    return found.clamp(0, 1)


def _size(network: nn.Module, size: int | tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        size = max(128, getattr(network, "input_size", None) or 0)
    h, w = (size, size) if isinstance(size, int) else size
    if min(h, w) < 1:
        raise SaccadeError(f"Could not grow pictures: the size is {h} x {w}, expected 1 or more.")
    return h, w
