"""How steady a style network is on video: under a motion that is known, does the style move along with the picture?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import check_input


@dataclass(frozen=True)
class Stability:
    """Warping errors of one frame to the next, (motions, N): mean absolute differences in pixel values in [0, 1].

    motions: (down, across) in pixels, each way. input: of the photographs themselves, from camera noise alone. output:
    of the restyled frames. drift: (N,) of the restyled frame against itself with noise and no motion.
    """

    motions: tuple[tuple[int, int], ...]
    input: Float[Tensor, "m n"]
    output: Float[Tensor, "m n"]
    drift: Float[Tensor, " n"]

    @property
    def ratio(self) -> float:
        """How many times the flicker of its input the network shows, over all motions and pictures."""
        return float(self.output.mean() / self.input.mean().clamp(min=1e-12))


MOTIONS = ((0, 1), (1, 0), (0, 3), (2, 2), (5, 0), (4, 7))
"""Between frames; 1 to 3 pixels break the phase of layers at half and quarter resolution."""


def stability(
    restyle: Callable[[Tensor], Tensor],
    pictures: Float[Tensor, "n 3 h w"],
    *,
    motions: tuple[tuple[int, int], ...] = MOTIONS,
    noise: float = 0.01,
    border: int = 16,
    seed: int = 0,
) -> Stability:
    """Compare restyled frames of a camera that moves over photographs, warped back by the true motion.

    Two crops of a photograph, shifted by whole pixels, are two frames whose motion is known exactly: nothing is
    interpolated, so all difference comes from the network and the noise. The same measure, on estimated motion, is the
    usual one of video style transfer (Lai et al. 2018, arXiv:1808.00449).

    Args:
        restyle: (N, 3, h, w) -> (N, 3, h, w), such as a style network.
        pictures: in [0, 1], larger than the motions and borders.
        motions: (down, across) in pixels, 0 or more.
        noise: deviation of the normal noise of the camera, in pixel values, new in every frame.
        border: pixels along the edges that are not compared; the network pads there.
        seed: of the noise.

    Raises:
        SaccadeError: no motion is given, or the pictures are too small for them.
    """
    check_input(pictures, "measure the stability of a style")
    if not motions or min(min(motion) for motion in motions) < 0 or border < 0:
        raise SaccadeError(
            f"Could not measure the stability of a style: the motions are {motions} and the border is {border}; "
            "expected pairs of whole numbers of at least 0, and a border of at least 0."
        )
    _, _, h, w = pictures.shape
    tall, wide = h - max(down for down, _ in motions), w - max(across for _, across in motions)
    least = 2 * border + 1
    if any(tall - down < least or wide - across < least for down, across in motions):
        raise SaccadeError(
            f"Could not measure the stability of a style: pictures of {h} x {w} pixels are too small for the motions "
            "and "
            f"a border of {border}. Give larger ones."
        )

    def frame(down: int, across: int, turn: int) -> tuple[Tensor, Tensor]:
        crop = pictures[:, :, down : down + tall, across : across + wide]
        shape = crop.shape[1:]  # the same noise for all pictures: who else is in the batch must not matter
        shaken = crop + noise * torch.randn(shape, generator=generator(seed, turn)).to(crop)
        shaken = shaken.clamp(0, 1)
        with torch.no_grad():
            return shaken, restyle(shaken)

    seen, made = frame(0, 0, 0)
    rows = []
    for turn, (down, across) in enumerate(motions, 1):
        seen_next, made_next = frame(down, across, turn)
        rows.append([_apart(a, b, down, across, border) for a, b in ((seen, seen_next), (made, made_next))])
    still = frame(0, 0, len(motions) + 1)[1]
    inputs, outputs = (torch.stack(column) for column in zip(*rows, strict=True))
    return Stability(tuple(motions), inputs, outputs, _apart(made, still, 0, 0, border))


def _apart(first: Tensor, second: Tensor, down: int, across: int, border: int) -> Float[Tensor, " n"]:
    """Mean absolute difference where both frames show the same, border aside."""
    h, w = first.shape[2] - down, first.shape[3] - across
    here, there = first[:, :, down:, across:], second[:, :, :h, :w]
    inner = (slice(None), slice(None), slice(border, h - border), slice(border, w - border))
    return (here[inner] - there[inner]).abs().flatten(1).mean(1)
