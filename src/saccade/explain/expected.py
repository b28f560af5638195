"""Expected gradients: integrated gradients averaged over many baselines, at random places of the way.

Erion and others 2019, arXiv:1906.10670; GradientSHAP in the SHAP library of Lundberg and Lee 2017, arXiv:1705.07874.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.question import Question, Target, asking, finished
from saccade.explain.smooth_grad import noise
from saccade.explain.sums import gradients, rows_at_once


def expected_gradients(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    background: Tensor | None = None,
    samples: int = 50,
    level: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Each pixel's share of the difference between the score and its mean over a background, signed (GradientSHAP).

    Erion and others 2019, arXiv:1906.10670; Lundberg and Lee 2017, arXiv:1705.07874. The mean over samples of the
    gradient somewhere between a baseline and the picture, times their difference. The baselines are taken in turn, in
    a random order, and one place is drawn from each of `samples` equal parts of the way, which has the same expectation
    as drawing both freely, and less scatter. Up to that scatter the values sum to score less mean score of the
    background. Every picture gets the same draws.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: what is explained, see `Target`.
        background: (M, 3, H, W), what pictures may be instead, such as a few of the training set; by default pictures
            of one plain random colour each, one for each sample.
        samples: gradients a picture; at least M, for all of the background to be used.
        level: standard deviation of Gaussian noise on the pictures, as a share of each one's range; none by default.
        seed: of the draws.
        batch_size: samples at once; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), of the device and dtype of `pictures`, in units of the score.

    Raises:
        SaccadeError: the pictures or the background have another shape or type, samples below 1, a negative level, or
            there is no such target.
    """
    operation = "compute expected gradients"
    if samples < 1 or level < 0:
        raise SaccadeError(
            f"Could not {operation}: samples={samples} and level={level} were given, expected 1 or more, and 0 or more."
        )
    with asking(network, pictures, target, operation) as question:
        size = rows_at_once(question, samples, batch_size)
        x = question.x
        draw = generator(seed)
        baselines = _baselines(question, background, samples, draw)
        turns = (samples + len(baselines) - 1) // len(baselines)
        order = torch.cat([torch.randperm(len(baselines), generator=draw) for _ in range(turns)])[:samples]
        places = torch.randperm(samples, generator=draw) + torch.rand(samples, dtype=torch.float64, generator=draw)
        along = (places / samples).to(x)[:, None, None, None, None]
        scale = level * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))

        def ends(part: slice, i: int) -> tuple[Tensor, Tensor]:
            """The baseline and the picture between which sample `i` lies."""
            end = x[part] + noise(x, seed, i) * scale[part] if level > 0 else x[part]
            return baselines[order[i]], end

        def points(part: slice, which: slice) -> Tensor:
            pairs = [ends(part, i) for i in range(which.start, which.stop)]
            return torch.stack([base + at * (end - base) for at, (base, end) in zip(along[which], pairs, strict=True)])

        found = torch.zeros_like(x)
        for part in chunks(len(x), size):
            for i, (_, slope) in enumerate(gradients(question, points, part, samples, size)):
                base, end = ends(part, i)
                found[part] += slope * (end - base) / samples
        return finished(found, operation)


def _baselines(
    question: Question, background: Tensor | None, samples: int, draw: torch.Generator
) -> Float[Tensor, "m 3 h w"]:
    x = question.x
    if background is None:
        colours = torch.rand(samples, 3, 1, 1, dtype=torch.float64, generator=draw)
        return colours.to(x).expand(-1, -1, *x.shape[2:])
    if background.ndim != 4 or background.shape[1:] != x.shape[1:] or len(background) == 0:
        raise SaccadeError(
            f"Could not {question.operation}: the background is {tuple(background.shape)}, expected one or more "
            f"pictures of the same size, (m, {', '.join(str(side) for side in x.shape[1:])})."
        )
    return background.detach().to(x)
