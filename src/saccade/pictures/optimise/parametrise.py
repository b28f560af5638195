"""How a picture is written as the numbers that are stepped.

The same gradient makes another step in other coordinates: in pixels it favours fine grain, in a spectrum scaled by
1/f all frequencies move alike, as they do in photographs (Olah, Mordvintsev, Schubert 2017,
https://distill.pub/2017/feature-visualization; Mordvintsev and others 2018,
https://distill.pub/2018/differentiable-parameterizations).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

# The square root, through its singular vectors, of the covariance of red, green and blue over ImageNet, as published
# with Lucid: a row a colour; the columns are brightness, blue against yellow-red, and green against magenta.
COLOUR_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@runtime_checkable
class Parametrisation(Protocol):
    """Two functions that undo each other."""

    def pictures(self, values: Tensor) -> Tensor:
        """The pictures (N, 3, H, W) that values stand for; differentiable."""
        ...

    def values(self, pictures: Tensor) -> Tensor:
        """The values that stand for pictures; the first axis is N."""
        ...


@dataclass(frozen=True)
class Pixels:
    """Pixels themselves: pictures are `mean + std * values`.

    mean, std: a number for all colours, or three. With those of a network, steps, penalties on values and projections
    work in its normalised space.
    """

    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def pictures(self, values: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        if self.mean == 0.0 and self.std == 1.0:
            return values
        return colours(self.mean, values) + colours(self.std, values) * values

    def values(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return (pictures - colours(self.mean, pictures)) / colours(self.std, pictures)


@dataclass(frozen=True)
class Fourier:
    """Spectrum of the picture scaled by 1/f^`falloff`, in decorrelated colours, squeezed into (0, 1) by a sigmoid.

    Values are (N, 3, H, W // 2 + 1, 2), real and imaginary parts. decorrelate: whether the three axes of colour are
    those of `COLOUR_ROOT` instead of red, green and blue. Pixels nearer to 0 or 1 than `edge` are moved there when
    a picture is written as values, as a sigmoid does not reach them.
    """

    falloff: float = 1.0
    decorrelate: bool = True
    edge: float = 1e-4

    def pictures(self, values: Float[Tensor, "n 3 h f 2"]) -> Float[Tensor, "n 3 h w"]:
        h, w = self._size(values)
        spectrum = torch.view_as_complex(values * self._scale(h, w, values)[..., None])
        planes = torch.fft.irfft2(spectrum, s=(h, w), norm="ortho")
        return torch.einsum("ij,njhw->nihw", self._colours(planes), planes).sigmoid()

    def values(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h f 2"]:
        h, w = pictures.shape[-2:]
        if w % 2:
            raise SaccadeError(
                f"Could not write pictures as spectra: their width is {w}, expected an even number; choose another."
            )
        before = pictures.clamp(self.edge, 1 - self.edge).logit()
        planes = torch.einsum("ij,njhw->nihw", torch.linalg.inv(self._colours(pictures)), before)
        spectrum = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho"))
        return spectrum / self._scale(h, w, pictures)[..., None]

    def _size(self, values: Tensor) -> tuple[int, int]:
        return values.shape[2], 2 * (values.shape[3] - 1)

    def _scale(self, h: int, w: int, like: Tensor) -> Tensor:
        """What a coefficient counts: 1 / (4 f^falloff), f in cycles a pixel, (H, W // 2 + 1)."""
        rows = torch.fft.fftfreq(h, dtype=like.dtype, device=like.device)[:, None]
        columns = torch.fft.rfftfreq(w, dtype=like.dtype, device=like.device)[None]
        frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(h, w))
        scale: Tensor = 0.25 * frequency**-self.falloff
        return scale

    def _colours(self, like: Tensor) -> Tensor:
        if not self.decorrelate:
            return torch.eye(3, dtype=like.dtype, device=like.device)
        root = torch.tensor(COLOUR_ROOT, dtype=like.dtype, device=like.device)
        scaled: Tensor = root / root.norm(dim=0).max()
        return scaled


def noise(
    parametrise: Parametrisation, size: tuple[int, int], *, spread: float, seed: int, count: int = 1
) -> Float[Tensor, "count 3 h w"]:
    """Pictures of `size` (height, width) to start from: their values are normal noise of deviation `spread` around 0.

    Picture j depends on (seed, j) alone. In float32 on the CPU.
    """
    shape = parametrise.values(torch.full((1, 3, *size), 0.5)).shape
    rows = [torch.randn(shape, generator=generator(seed, j)) for j in range(count)]
    return parametrise.pictures(spread * torch.cat(rows))


def colours(value: float | Sequence[float], like: Tensor) -> Tensor:
    """A number, or one a colour, that broadcasts against (N, 3, H, W)."""
    found = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return found if found.ndim == 0 else found.view(3, 1, 1)
