"""Other rules by which a gradient passes a ReLU: those of guided backpropagation and of the deconvnet.

A ReLU sends back the gradient where its input was positive. The deconvnet (Zeiler and Fergus 2013, arXiv:1311.2901)
sends back what is positive of the gradient, wherever the input was; guided backpropagation (Springenberg and others
2014, arXiv:1412.6806) does both. The rule is put into the recorded steps of a score, not into layers: a ReLU counts
however the network calls it, as a layer, as a function, in place, or one for several places.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from saccade.networks.graph import steps

Rule = Literal["guided", "deconvnet"]
_LOWER = {
    "ClampBackward1": "_saved_min",
    "ClampMinBackward0": "_saved_min",
    "HardtanhBackward0": "_saved_min_val",
    "ThresholdBackward0": "_saved_threshold",
}
"""Steps that do as a ReLU does if the number of this name is 0."""


def ruled_gradient(score: Tensor, by: Tensor, rule: Rule) -> Tensor:
    """The gradient of the sum of `score` by `by` through ReLUs that follow `rule`, detached; frees the graph."""
    follow(relus(score), rule)
    (gradient,) = torch.autograd.grad(score.sum(), by)
    found: Tensor = gradient.detach()
    return found


def relus(score: Tensor) -> list[Node]:
    """The steps that led to `score` and cut off what is below 0: ReLU, ReLU6, clamp(min=0), threshold at 0."""
    return [step for step in steps(score) if _is_relu(step)]


def follow(relus: Iterable[Node], rule: Rule) -> None:
    """Let ReLUs send gradients back by `rule`, until their graph is freed."""

    def send_back(by_input: tuple[Any, ...], by_output: tuple[Any, ...]) -> tuple[Any, ...] | None:
        passed = by_input[0] if rule == "guided" else by_output[0]
        if passed is None:
            return None
        return passed.clamp(min=0), *by_input[1:]

    for relu in relus:
        relu.register_hook(send_back)


def _is_relu(step: Node) -> bool:
    name = step.name()
    return name == "ReluBackward0" or (name in _LOWER and bool(getattr(step, _LOWER[name]) == 0))
