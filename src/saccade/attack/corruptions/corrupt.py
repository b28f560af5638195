"""Pictures as noise, weather, lenses and processing leave them."""

from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack.corruptions.levels import check_severity
from saccade.attack.corruptions.table import find_corruption
from saccade.attack.question import check_pictures
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError


def corrupt(
    pictures: Tensor, name: str, *, severity: int = 3, seed: int = 0, first: int = 0
) -> Float[Tensor, "n 3 h w"]:
    """Corrupt pictures by one of the fifteen of `CORRUPTIONS`; Hendrycks and Dietterich 2019, arXiv:1903.12261.

    Severities are those of CIFAR-10-C at 32 pixels and of ImageNet-C at 224; `levels.constants` says what holds for
    other sizes, the shorter side counting. What comes out depends on the seed, the name, the severity, the picture and
    its number, and on nothing else (but roundings in the last place).

    Departures from what was published: frost is drawn, not photographed, and elastic has even severities, so figures of
    these two cannot be compared with published ones; glass scatters pixels at once and not one after another; blurs
    have disc edges and streaks between pixels, and continue the border outside; grey, which pales snow, is that of
    BT.709; nothing is rounded to 8 bits (but for JPEG) or stored as JPEG afterwards. As published, not every severity
    changes pictures more than the one before: those of glass at 32 pixels do not, nor 3 of snow at 224, and frost
    darkens ever more of what it does not cover.

    Args:
        pictures: (N, 3, H, W) in [0, 1], float32 or float64, meant to be of 16 to 512 pixels a side.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is drawn.
        first: the number of the first picture; that of the others follows. Picture 40 of a set is corrupted alike in
            any batch, as long as it is given as number 40.

    Returns:
        Pictures of the same shape, in [0, 1], of their dtype and on their device. Random numbers are drawn on the CPU.

    Raises:
        SaccadeError: no such corruption or severity, or what are no pictures.
    """
    corruption = find_corruption(name)
    operation = f"corrupt pictures by {corruption.name}"
    check_severity(severity, operation)
    x = check_pictures(pictures, operation)
    if x.shape[1] != 3:
        raise SaccadeError(
            f"Could not {operation}: the pictures have {x.shape[1]} channels, expected red, green and blue. Repeat a "
            "grey picture with pictures.expand(-1, 3, -1, -1)."
        )
    drawn = [generator(seed, crc32(corruption.name.encode()), severity, first + i) for i in range(len(x))]
    with torch.no_grad():
        return corruption.function(x, drawn, *corruption.at(severity, min(x.shape[-2:]))).clamp(0, 1)
