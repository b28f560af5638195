"""What a rule is told of the arguments of an operation, and how it refuses them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saccade.networks.bounds.steps import Step

Rule = Callable[..., Step]
"""(of, *arguments of the operation) -> the step it is; `of` is `Tracked`."""


class Unknown(Exception):
    """An operation is known, but not with these arguments."""


@dataclass(frozen=True)
class Tracked:
    """The tensors that depend on the pictures, by identity, and whether batch norm may take the batch's statistics."""

    nodes: dict[int, int]
    batch: bool = False

    def __call__(self, *values: Any) -> tuple[int, ...]:
        """The nodes of tensors, all of which must depend on the pictures."""
        if not all(id(value) in self.nodes for value in values):
            raise Unknown
        return tuple(self.nodes[id(value)] for value in values)

    def constant(self, *values: Any) -> None:
        """Refuse a tensor that depends on the pictures."""
        if any(id(value) in self.nodes for value in values):
            raise Unknown
