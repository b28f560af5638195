"""Superpixels: pieces of a picture that are shown or hidden as a whole, the features of LIME and KernelSHAP."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.engine.chunks import chunks
from saccade.errors import SaccadeError
from saccade.explain.hiding import hidden, rows_of
from saccade.explain.question import Question

Pieces = str | Tensor
"""How a picture is cut up: "slic" follows its colours (Achanta and others 2012, doi:10.1109/TPAMI.2012.120), "grid"
makes equal rectangles; or an integer tensor with a number for each piece, (N, H, W), or (H, W) for all pictures."""


def superpixels(pictures: Float[Tensor, "n 3 h w"], pieces: Pieces, count: int, operation: str) -> Int[Tensor, "n h w"]:
    """The piece to which each pixel belongs, numbered from 0 without gaps in each picture.

    count: about how many pieces "slic" and "grid" make. Raises `SaccadeError` for what is no `Pieces`.
    """
    n, _, height, width = pictures.shape
    if isinstance(pieces, Tensor):
        if pieces.is_floating_point() or pieces.shape not in ((height, width), (n, height, width)):
            raise SaccadeError(
                f"Could not {operation}: the pieces are {pieces.dtype} of shape {tuple(pieces.shape)}, expected "
                f"integers of shape {(height, width)} or {(n, height, width)}."
            )
        cut = pieces.expand(n, height, width)
    elif count < 1:
        raise SaccadeError(f"Could not {operation}: {count} pieces, expected at least 1.")
    elif pieces == "slic":
        cut = torch.stack([_slic(picture, min(count, height * width)) for picture in pictures])
    elif pieces == "grid":
        cut = _grid(height, width, count).expand(n, height, width)
    else:
        raise SaccadeError(
            f'Could not {operation}: pieces is {pieces!r}, expected "slic", "grid" or an integer tensor.'
        )
    numbered = [torch.unique(one, return_inverse=True)[1] for one in cut]
    return torch.stack(numbered).to(pictures.device)


def scores_of_choices(
    question: Question,
    i: int,
    shown: Float[Tensor, "s m"],
    cut: Int[Tensor, "h w"],
    fill: Float[Tensor, "3 h w"],
    size: int,
) -> Float[Tensor, " s"]:
    """What the network says of picture `i` when only some pieces are shown (1, others 0): float64, on the CPU.

    size: rows at a time.
    """
    x, said = question.x, []
    shown = shown.to(x)
    for part in chunks(len(shown), size):
        rows = hidden(question, x[i], fill, shown[part][:, cut])
        said.append(question.score(rows, rows_of(question, i, len(rows))))
    return torch.cat(said).cpu().double()


def spread(weight: Float[Tensor, " m"], cut: Int[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The weight of each piece, divided evenly among its pixels: the map's sum is that of the weights. On the CPU."""
    cut = cut.cpu()
    each: Tensor = weight / torch.bincount(cut.flatten())
    return each[cut]


def _slic(picture: Float[Tensor, "3 h w"], count: int) -> Tensor:
    from skimage.segmentation import slic  # imported late: it takes a second

    image = picture.clamp(0, 1).permute(1, 2, 0).cpu().double().numpy()
    # Its variant that adapts to the contrast around each piece: with one compactness for all pictures, one of much
    # texture or noise ends up as a single piece.
    cut: Tensor = torch.from_numpy(slic(image, n_segments=count, slic_zero=True, start_label=0))
    return cut


def _grid(height: int, width: int, count: int) -> Tensor:
    """Rectangles that are as square as their number allows."""
    rows = min(height, max(1, round((count * height / width) ** 0.5)))
    columns = min(width, max(1, round(count / rows)))
    down, across = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    cut: Tensor = down[:, None] * columns + across
    return cut


def least_squares(left: Float[Tensor, "s m"], right: Float[Tensor, " s"]) -> Float[Tensor, " m"]:
    """The shortest v of least |left v - right|^2; not a number where the scores are none, so that the map says so."""
    if not torch.isfinite(right).all():
        return right.new_full((left.shape[1],), torch.nan)
    found: Tensor = torch.linalg.lstsq(left, right[:, None], driver="gelsd").solution[:, 0]
    return found
