"""An attack as a picture: before, after, and what was changed."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.targets import check_input
from saccade.pictures import sheet


def draw_attack(
    network: Network, pictures: Tensor, adversarial: Tensor, *, title: str = "", cell: int = 192
) -> Float[Tensor, "3 height width"]:
    """One row a picture: the original, the adversarial, their difference and ten times it, as the course shows them.

    Below the first two stands what the network says of them, below the third the size of the change. Differences are
    shown around mid-grey, which is no change. Values outside [0, 1] are cut off for the eye only: the network is asked
    about the pictures as they are.

    Args:
        network: knows the names of the classes.
        pictures: the originals, (N, 3, H, W) in [0, 1].
        adversarial: of the same shape; may leave [0, 1] a little.
        title: stands above all.
        cell: the side of a picture in points, see `saccade.pictures.sheet`.

    Returns:
        The drawing, with 2 device pixels a point.

    Raises:
        SaccadeError: the two have different shapes, or are no pictures.
    """
    operation = "draw an attack"
    check_input(pictures, operation)
    if adversarial.shape != pictures.shape:
        shapes = f"the pictures are {tuple(pictures.shape)}, the adversarial ones {tuple(adversarial.shape)}"
        raise SaccadeError(f"Could not {operation}: {shapes}, expected one shape.")
    return draw_change(pictures, adversarial, _said(network, pictures), _said(network, adversarial), title, cell)


def draw_change(
    pictures: Float[Tensor, "n 3 h w"],
    adversarial: Float[Tensor, "n 3 h w"],
    before: Sequence[str],
    after: Sequence[str],
    title: str = "",
    cell: int = 192,
) -> Float[Tensor, "3 height width"]:
    """`draw_attack` with what is said of the pictures before and after."""
    rows, captions = [], []
    for picture, changed, said, now in zip(pictures, adversarial, before, after, strict=True):
        what = changed - picture
        rows.append([one.detach().clamp(0, 1) for one in (picture, changed, 0.5 + what, 0.5 + 10 * what)])
        size = f"L2 length {what.norm().item():.2f}\nlargest {255 * what.abs().max().item():.0f} of 255"
        captions.append([said, now, size, ""])
    titles = ["original", "adversarial", "difference", "difference x 10"]
    return sheet(rows, captions=captions, column_titles=titles, title=title, cell=cell)


def _said(network: Network, pictures: Float[Tensor, "n 3 h w"]) -> list[str]:
    """The class with the highest score of each picture, and its probability."""
    with evaluating(network):
        best = network(pictures).softmax(1).max(1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [f"{network.class_name(index)}\n{probability:.0%}" for index, probability in pairs]
