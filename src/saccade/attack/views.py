"""What an attack shows the network in place of a picture, so that the gradient speaks of more than one point.

Each is a function (pictures, random numbers) -> pictures, one or more made of each, differentiable; they chain. The
random numbers are the same for every picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.engine.seeding import generator

View = Callable[[Tensor, torch.Generator], Sequence[Tensor]]


@dataclass(frozen=True)
class Repeats:
    """The picture `count` times: the expectation over the network's own randomness (arXiv:1707.07397, 1907.00895)."""

    count: int = 2

    def __call__(self, x: Tensor, drawn: torch.Generator) -> Sequence[Tensor]:  # noqa: ARG002
        return [x] * self.count


@dataclass(frozen=True)
class Noise:
    """`count` copies with Gaussian noise of deviation `sigma` (arXiv:1906.04584), not clipped."""

    count: int = 5
    sigma: float = 0.5

    def __call__(self, x: Tensor, drawn: torch.Generator) -> Sequence[Tensor]:
        noise = [torch.randn(x.shape[1:], generator=drawn, dtype=torch.float64) for _ in range(self.count)]
        return [x + self.sigma * one.to(x) for one in noise]


@dataclass(frozen=True)
class Scales:
    """The picture, half of it, a quarter of it, ...: `count` brightnesses (arXiv:1908.06281)."""

    count: int = 5

    def __call__(self, x: Tensor, drawn: torch.Generator) -> Sequence[Tensor]:  # noqa: ARG002
        return [x / 2**i for i in range(self.count)]


@dataclass(frozen=True)
class Diverse:
    """With probability `chance` the picture made smaller, to a random side from `smallest` of its own, and padded with
    zeros at random (arXiv:1803.06978, where it is made larger instead: here networks see the size they know)."""

    chance: float = 0.5
    smallest: float = 0.9

    def __call__(self, x: Float[Tensor, "n c h w"], drawn: torch.Generator) -> Sequence[Tensor]:
        chance, size, down, right = torch.rand(4, generator=drawn, dtype=torch.float64).tolist()
        if chance >= self.chance:
            return [x]
        height, width = x.shape[-2:]
        share = self.smallest + (1 - self.smallest) * size
        h, w = max(1, round(share * height)), max(1, round(share * width))
        top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
        small = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)
        return [F.pad(small, (left, width - w - left, top, height - h - top))]


def chained(views: Sequence[View], *keys: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """What all views after one another make of a picture; `keys` name the random numbers."""

    def show(x: Tensor) -> Sequence[Tensor]:
        shown: list[Tensor] = [x]
        for i, view in enumerate(views):
            drawn = generator(*keys, i)
            shown = [copy for one in shown for copy in view(one, drawn)]
        return shown

    return show
