"""How much a picture varies from pixel to pixel, as different programs count it: functions (N, 3, H, W) -> (N,)."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from saccade.pictures.optimise import total_variation
from saccade.style.preset import Variation


def absolute(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Sum of the absolute differences of neighbours, down and across (Rudin, Osher and Fatemi 1992)."""
    down, across = pictures.diff(dim=2), pictures.diff(dim=3)
    return down.abs().flatten(1).sum(1) + across.abs().flatten(1).sum(1)


def mean_squares(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Mean of the squared differences down + mean of those across; 0 where there are no neighbours."""
    down, across = pictures.diff(dim=2), pictures.diff(dim=3)
    return _squares(down) / max(1, down[0].numel()) + _squares(across) / max(1, across[0].numel())


def nine_point(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """A third of the squared differences to the four neighbours, a twelfth of those to the four on the diagonals, as
    means over pixels and colours.

    The edge is repeated once around the picture. Unlike the others it treats all directions nearly alike. That of
    Crowson's style-transfer-pytorch.
    """
    _, c, h, w = pictures.shape
    around = pad(pictures, (1, 1, 1, 1), mode="replicate")
    straight = _squares(pictures.diff(dim=2)) + _squares(pictures.diff(dim=3))
    falling = around[:, :, 1:, 1:] - around[:, :, :-1, :-1]
    rising = around[:, :, :-1, 1:] - around[:, :, 1:, :-1]
    diagonal = _squares(falling) + _squares(rising)
    return 2 * (straight / (3 * c * h * w) + diagonal / (12 * c * (h + 1) * (w + 1)))


def _squares(differences: Tensor) -> Float[Tensor, " n"]:
    return differences.square().flatten(1).sum(1)


VARIATIONS: dict[Variation, Callable[[Tensor], Tensor]] = {
    "squares": total_variation,
    "absolute": absolute,
    "mean-squares": mean_squares,
    "nine-point": nine_point,
}
