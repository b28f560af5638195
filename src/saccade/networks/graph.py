"""The steps by which a score was computed, as PyTorch recorded them."""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node


def steps(score: Tensor) -> Iterator[Node]:
    """Every step that led to `score`, each once, those of the pictures and parameters themselves too."""
    ahead = [score.grad_fn]
    seen = set()
    while ahead:
        step = ahead.pop()
        if step is not None and step not in seen:
            seen.add(step)
            ahead += [before for before, _ in step.next_functions]
            yield step
