"""The learning rate as a pure function of the step."""

import math
from typing import Protocol, runtime_checkable


@runtime_checkable
class Scheduled(Protocol):
    """The fields of a recipe that say how its learning rate goes."""

    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> float: ...
    @property
    def start_factor(self) -> float: ...
    @property
    def end_factor(self) -> float: ...
    @property
    def milestones(self) -> tuple[float, ...]: ...
    @property
    def epochs(self) -> int: ...


def factor(step: int, steps: int, recipe: Scheduled) -> float:
    """Share of the peak learning rate at `step` of `steps` (counted from 0).

    All but "linear" first rise linearly from `start_factor` to 1 over the warm-up. Then "one-cycle" falls linearly
    towards `end_factor`, "cosine" along half a cosine, "step" is divided by ten at each milestone (epochs), "constant"
    stays. "linear" falls from the first step. What falls would reach its end at step `steps`, after the last.
    """
    rise = recipe.warmup * steps if recipe.schedule != "linear" else 0.0
    if step < rise:
        return recipe.start_factor + (1 - recipe.start_factor) * step / rise
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        epoch = step * recipe.epochs / steps
        passed = sum(epoch >= milestone for milestone in recipe.milestones)
        return float(0.1**passed)
    left = 1 - (step - rise) / (steps - rise)
    if recipe.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return recipe.end_factor + (1 - recipe.end_factor) * left
