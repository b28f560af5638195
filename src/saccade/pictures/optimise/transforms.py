"""How pictures are moved about before the network sees them, so that what grows does not hang on single pixels.

Functions (pictures, generator) -> pictures, differentiable; all pictures of a batch are moved alike, so none depends
on the others. The gradient moves back by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Pad:
    """A border of `pixels` in one grey."""

    pixels: int
    value: float = 0.5

    def __call__(self, pictures: Float[Tensor, "n 3 h w"], random: torch.Generator) -> Tensor:  # noqa: ARG002
        return pad(pictures, [self.pixels] * 4, value=self.value)


@dataclass(frozen=True)
class Jitter:
    """Roll along width, then height, by whole pixels drawn from `low` to `high`, both included."""

    low: int
    high: int

    def __call__(self, pictures: Float[Tensor, "n 3 h w"], random: torch.Generator) -> Float[Tensor, "n 3 h w"]:
        across, down = torch.randint(self.low, self.high + 1, (2,), generator=random).tolist()
        return pictures.roll((down, across), (2, 3))


@dataclass(frozen=True)
class Crop:
    """Cut `margin` rows and columns off, at a place drawn anew: jitter without the wrap-around, after a `Pad`."""

    margin: int

    def __call__(self, pictures: Float[Tensor, "n 3 h w"], random: torch.Generator) -> Tensor:
        top, left = torch.randint(0, self.margin + 1, (2,), generator=random).tolist()
        h, w = pictures.shape[2] - self.margin, pictures.shape[3] - self.margin
        return pictures[:, :, top : top + h, left : left + w]


@dataclass(frozen=True)
class Scale:
    """Resize by a factor drawn from `low` to `high`, smoothed where it shrinks; the number of pixels changes."""

    low: float
    high: float

    def __call__(self, pictures: Float[Tensor, "n 3 h w"], random: torch.Generator) -> Tensor:
        factor = self.low + (self.high - self.low) * torch.rand((), generator=random).item()
        h, w = (max(1, round(side * factor)) for side in pictures.shape[2:])
        if (h, w) == pictures.shape[2:]:
            return pictures
        return interpolate(pictures, size=(h, w), mode="bilinear", align_corners=False, antialias=factor < 1)


@dataclass(frozen=True)
class Rotate:
    """Turn about the middle by an angle drawn from -`degrees` to `degrees`; the corners show the edge, mirrored."""

    degrees: float

    def __call__(self, pictures: Float[Tensor, "n 3 h w"], random: torch.Generator) -> Float[Tensor, "n 3 h w"]:
        angle = math.radians(self.degrees * (2 * torch.rand((), generator=random).item() - 1))
        n, _, h, w = pictures.shape
        turn = [
            [math.cos(angle), -math.sin(angle) * h / w, 0.0],
            [math.sin(angle) * w / h, math.cos(angle), 0.0],
        ]
        matrix = torch.tensor(turn, dtype=pictures.dtype, device=pictures.device).expand(n, 2, 3)
        grid = affine_grid(matrix, [n, 3, h, w], align_corners=False)
        return grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
