"""Weights averaged over the run."""

from typing import Any

import torch
from torch import nn


class Average:
    """An exponential moving average of a module's weights and float buffers; whole numbers are copied.

    decay: share of the average that stays at each step. It is held back at first, min(decay, (1 + t) / (10 + t)),
    so that a short run is not an average of its random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the present weights in."""
        rate = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[key].lerp_(value, rate)
            else:
                self.values[key].copy_(value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.steps = int(state["steps"])
        for key, value in self.values.items():
            value.copy_(state["values"][key])


class Lookahead:
    """Slow weights that follow the fast ones and pull them back every few steps (Zhang et al. 2019).

    With the growing decay 0.95**5 * (step / steps)**3 of Jordan 2024 (arXiv:2404.00498): free at first, a true
    average of the last steps at the end.
    """

    every = 5

    def __init__(self, module: nn.Module) -> None:
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, steps: int) -> None:
        """Call after step number `step` (from 0) of `steps`; the last one leaves the slow weights in the module."""
        due, last = (step + 1) % self.every == 0, step + 1 == steps
        if not (due or last):
            return
        decay = 0.95**self.every * ((step + 1) / steps) ** 3
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                slow = self.values[key]
                if due:
                    slow.lerp_(value, 1 - decay)
                value.copy_(slow)
