"""Spatial attack: the picture turned and shifted a little, by the scores alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.engine import Result, kept, searching
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with Spatial"


def spatial(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    degrees: float = 30.0,
    shift: float = 0.1,
    angles: int = 31,
    shifts: int = 5,
    tries: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """The mildest of a grid of rotations and shifts that fools the network, or of some drawn at random.

    What comes in at the borders is black. Milder is closer to none in the units of the three ranges. Engstrom and
    others 2019, arXiv:1712.02779, where the grid beats gradients, and worst of 10 at random is already strong.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        degrees: the largest rotation, either way.
        shift: the largest shift, as a share of each side, either way.
        angles: rotations of the grid.
        shifts: shifts of the grid, down as many as across.
        tries: draw so many at random, the same for every picture, instead of the grid.
        seed: of those.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` is the l2 of the change of the pixels, its `loss` the margin.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, degrees=degrees, shift=shift)
    check_settings(OPERATION, 1, angles=angles, shifts=shifts)
    if shift >= 1 or (tries is not None and tries < 1):
        raise SaccadeError(
            f"Could not {OPERATION}: shift is {shift} and tries {tries}, expected below 1, and 1 or more."
        )
    if tries is None:
        moves = torch.cartesian_prod(_evenly(angles), _evenly(shifts), _evenly(shifts))
    else:
        moves = torch.rand(tries, 3, generator=generator(seed), dtype=torch.float64) * 2 - 1
    far = moves.norm(dim=1)
    moves = moves[far.argsort(stable=True)]
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l2", batch_size=batch_size
    ) as search:
        rows = search.active
        for angle, down, across in moves.tolist():
            if len(rows) == 0:
                break
            if angle == down == across == 0:
                continue  # the picture itself, which was asked about
            z = transformed(search.x[rows], angle * degrees, down * shift, across * shift)
            (rows,) = kept(~search.offer(z, rows, search.ask(z, rows)), rows)
        return search.result()


def transformed(x: Float[Tensor, "m c h w"], degrees: float, down: float, across: float) -> Float[Tensor, "m c h w"]:
    """Pictures turned against the clock around their middle, then shifted by shares of their sides; bilinear."""
    height, width = x.shape[-2:]
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    # from where each pixel is taken: (across, down) in units of half the sides, first shifted back, then turned back
    back = torch.tensor([[cos, -sin * height / width], [sin * width / height, cos]], dtype=torch.float64)
    offset = -back @ torch.tensor([2 * across, 2 * down], dtype=torch.float64)
    theta = torch.cat([back, offset[:, None]], 1).to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)


def _evenly(count: int) -> Tensor:
    """Numbers from -1 to 1; a single one is 0."""
    return torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
