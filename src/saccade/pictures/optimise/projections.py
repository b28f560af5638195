"""What is done to the values after each step: functions (values, gradient, step) -> values.

`gradient` is the one that the step followed; `step` counts from 0. They act on the values that are stepped, see
`parametrise`: with `Pixels(mean, std)` zero is the mean colour. `Decay`, `Blur` and the two that clip are those of the
deep visualization toolbox (Yosinski and others 2015, arXiv:1506.06579).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.pictures.optimise.blur import gaussian_blur
from saccade.pictures.optimise.parametrise import colours

Projection = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Box:
    """Clamp to [low, high]; a number for all colours, or three."""

    low: float | Sequence[float] = 0.0
    high: float | Sequence[float] = 1.0

    def __call__(self, values: Tensor, gradient: Tensor, step: int) -> Tensor:  # noqa: ARG002
        return torch.minimum(torch.maximum(values, colours(self.low, values)), colours(self.high, values))


@dataclass(frozen=True)
class Ball:
    """Shrink the values of a picture to an L2 norm of at most `radius`."""

    radius: float

    def __call__(self, values: Tensor, gradient: Tensor, step: int) -> Tensor:  # noqa: ARG002
        length: Tensor = values.flatten(1).norm(dim=1).clamp(min=1e-30)
        return values * (self.radius / length).clamp(max=1).view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True)
class Decay:
    """Shrink all values by the part `rate` of themselves."""

    rate: float

    def __call__(self, values: Tensor, gradient: Tensor, step: int) -> Tensor:  # noqa: ARG002
        return values * (1 - self.rate)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of deviation `sigma` (pixels) at the steps 0, `every`, 2 `every`, ..."""

    sigma: float
    every: int = 1

    def __call__(self, values: Tensor, gradient: Tensor, step: int) -> Tensor:  # noqa: ARG002
        return values if step % self.every else gaussian_blur(values, self.sigma)


@dataclass(frozen=True)
class ClipSmallNorm:
    """Set pixels to zero whose norm over the colours is below the `percent`-th percentile of their picture."""

    percent: float

    def __call__(
        self,
        values: Float[Tensor, "n c h w"],
        gradient: Tensor,  # noqa: ARG002
        step: int,  # noqa: ARG002
    ) -> Float[Tensor, "n c h w"]:
        return _keep(values, values.norm(dim=1), self.percent)


@dataclass(frozen=True)
class ClipSmallContribution:
    """The same for pixels that contribute little: whose |sum over colours of gradient * value| is small."""

    percent: float

    def __call__(
        self,
        values: Float[Tensor, "n c h w"],
        gradient: Float[Tensor, "n c h w"],
        step: int,  # noqa: ARG002
    ) -> Float[Tensor, "n c h w"]:
        return _keep(values, (gradient * values).sum(1).abs(), self.percent)


def _keep(values: Tensor, size: Float[Tensor, "n h w"], percent: float) -> Tensor:
    limit = size.flatten(1).quantile(percent / 100, dim=1)
    return values * (size >= limit.view(-1, 1, 1))[:, None]
