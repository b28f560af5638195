"""The table of the methods: one line each. A new one is a file, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.question import Target
from saccade.explain.saliency import gradient, input_x_gradient, saliency


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    function: (network, pictures, target, **settings) -> (N, 3, H, W) if `colours`, else (N, H, W). paper: arXiv number
    or another reference. complete: "score" if the values sum to the score, "difference" to that from a baseline's.
    sampled: draws random numbers, and takes `seed=`. note: what its user must know.
    """

    name: str
    title: str
    function: Callable[..., Tensor]
    paper: str
    family: Literal["gradient", "cam", "perturbation", "propagation"]
    colours: bool = True
    complete: Literal["", "score", "difference"] = ""
    sampled: bool = False
    layered: bool = False
    note: str = ""


_LIST = [
    Method("gradient", "gradient", gradient, "arXiv:1312.6034", "gradient"),
    Method("saliency", "saliency", saliency, "arXiv:1312.6034", "gradient", colours=False),
    Method("input-x-gradient", "gradient x input", input_x_gradient, "arXiv:1605.01713", "gradient"),
]
METHODS = {method.name: method for method in _LIST}


def find_method(name: str) -> Method:
    """A method by its name (case, spaces and underscores do not matter); raises `SaccadeError` with all there are."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain not in METHODS:
        raise SaccadeError(f"There is no method {name!r}; there are {', '.join(METHODS)}.")
    return METHODS[plain]


def attribute(network: nn.Module, pictures: Tensor, target: Target, method: str, **settings: Any) -> Tensor:
    """Any method by its name: see `METHODS`, and the function of that method for its settings."""
    return find_method(method).function(network, pictures, target, **settings)
