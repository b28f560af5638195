"""RISE: what the network says of a picture seen through random masks, summed up for each pixel.

Petsiuk, Das, Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", arXiv:1806.07421.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills, hidden, rows_of
from saccade.explain.question import Question, Target, Unit, asking, finished


def rise(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    samples: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    fill: Fill = 0.5,
    probabilities: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n h w"]:
    """Mean probability of the target when the pixel is seen: the sum over random masks of the probability times the
    mask, over the expected sum of the masks.

    A mask is a grid of cells that are each kept or hidden by chance, enlarged bilinearly and shifted by chance by up to
    a cell. All pictures are seen through the same masks. The paper takes 4000 masks for VGG-16 and 8000 for ResNet-50.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose probability is followed, see `Target`; a `Unit` or a function gives its own value instead.
        samples: masks.
        cells: along either side of the picture.
        keep: chance of a cell to be kept, inside (0, 1).
        fill: what hidden parts show, see `Fill`.
        probabilities: of the class; False takes its score.
        seed: of the masks; the same gives the same bits on the CPU.
        batch_size: masks at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type, or there is no such target, fill or setting.
    """
    operation = "compute a RISE map"
    if samples < 1 or cells < 1 or not 0 < keep < 1:
        raise SaccadeError(
            f"Could not {operation}: {samples} samples, {cells} cells, keep {keep}; expected at least one sample and "
            "cell, and 0 < keep < 1."
        )
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        x = question.x
        masks = Masks(samples, cells, keep, (x.shape[2], x.shape[3]), seed, like=x)
        instead = fills(question, fill)
        question.learn(len(x) * samples)
        found = torch.zeros_like(x[:, 0], memory_format=torch.contiguous_format)
        for part in chunks(samples, rows_at_once(network, x, batch_size)):
            seen = masks[part]
            for i in range(len(x)):
                said = _say(
                    question, hidden(question, x[i], instead[i], seen), rows_of(question, i, len(seen)), probabilities
                )
                found[i] += torch.tensordot(said.to(x.dtype), seen, 1)
        return finished(found / (samples * keep), operation)


class Masks:
    """`masks[slice]` is (m, H, W), values in [0, 1], each pixel's expectation `keep`.

    Enlarging is bilinear, so it can be done along rows and columns apart: a mask is down @ grid @ across, with the
    lines of interpolation weights that its shift picks out.
    """

    def __init__(
        self, samples: int, cells: int, keep: float, size: tuple[int, int], seed: int, *, like: Tensor
    ) -> None:
        drawn = generator(seed)
        self.grids = (torch.rand(samples, cells, cells, generator=drawn) < keep).to(like)
        self.shifts, self.weights = [], []
        for side in size:
            cell = -(-side // cells)
            self.shifts.append(torch.randint(cell, (samples, 1), generator=drawn) + torch.arange(side))
            line = torch.eye(cells, dtype=torch.float64)[None]
            enlarged = F.interpolate(line, size=(cells + 1) * cell, mode="linear", align_corners=False)[0].T
            self.weights.append(enlarged.to(like))

    def __getitem__(self, part: slice) -> Float[Tensor, "m h w"]:
        down, across = (
            weights[shifts[part].to(weights.device)] for weights, shifts in zip(self.weights, self.shifts, strict=True)
        )
        return down @ self.grids[part] @ across.mT


def _say(
    question: Question, rows: Float[Tensor, "m 3 h w"], which: Int[Tensor, " m"], probabilities: bool
) -> Float[Tensor, " m"]:
    if not probabilities or isinstance(question.target, Unit) or callable(question.target):
        return question.score(rows, which)
    scores = question.scores(rows)
    said: Tensor = question.read(scores, which) - scores.logsumexp(1)
    return said.exp()
