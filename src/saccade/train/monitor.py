"""The watch over single-step adversarial training, which can lose all robustness within an epoch."""

import copy
from typing import Any

import torch
from torch import nn

from saccade.data.images import ImageSet
from saccade.train.evaluate import evaluate_under_attack, evenly
from saccade.train.recipe import Recipe


class CollapseWarning(UserWarning):
    """Single-step adversarial training stopped giving robustness, and was set back."""


class Monitor:
    """Knows catastrophic overfitting (Wong et al. 2020, arXiv:2001.03994), and what to go back to.

    The network then withstands the single step it is trained with and nothing stronger. Remembered are the best
    accuracy under a strong attack at the end of an epoch and the state of the run there. attack_steps: how many steps
    to train with; after a collapse, three.
    """

    pictures = 200  # a standard error of 3.5 points at most, where a collapse is a fall by half

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.attack_steps = recipe, recipe.attack_steps
        self.best = 0.0
        self.values: dict[str, Any] | None = None

    @property
    def watching(self) -> bool:
        """Whether training trusts a single step."""
        recipe = self.recipe
        return recipe.adversarial != "none" and recipe.defence not in ("free", "ibp") and self.attack_steps == 1

    def measure(self, network: nn.Module, images: ImageSet, device: torch.device) -> tuple[float, float]:
        """Accuracy under ten steps and under one, on some of the pictures."""
        assert self.recipe.adversarial != "none"
        some = evenly(images, self.pictures)
        norm, eps, size = self.recipe.adversarial, self.recipe.eps, self.recipe.final_size
        strong, fast = (
            evaluate_under_attack(network, some, norm=norm, eps=eps, steps=steps, size=size, device=device)
            for steps in (10, 1)
        )
        return strong, fast

    def judge(self, strong: float, fast: float, values: dict[str, Any]) -> dict[str, Any] | None:
        """The state to go back to if training has collapsed, else None; `values` is the present one, copied if best.

        It has collapsed if the accuracy under a strong attack is less than half of what it was and less than half of
        `fast`, that under a single step: where both fall, it is something else.
        """
        if not self.watching:
            return None
        if strong < min(self.best, fast) / 2:
            before, self.values, self.attack_steps = self.values, None, 3
            return before
        if strong > self.best:
            self.best, self.values = strong, copy.deepcopy(values)
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"attack_steps": self.attack_steps, "best": self.best, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.attack_steps, self.best, self.values = state["attack_steps"], state["best"], state["values"]
