"""How far the accuracy of a network falls when its pictures are corrupted."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from saccade.attack.corruptions.corrupt import corrupt
from saccade.attack.corruptions.levels import SEVERITIES, check_severity
from saccade.attack.corruptions.report import Corrupted
from saccade.attack.corruptions.table import CORRUPTIONS, find_corruption
from saccade.attack.engine import searching
from saccade.attack.evaluate.wilson import Share
from saccade.attack.question import check_pictures
from saccade.engine.chunks import chunks
from saccade.errors import SaccadeError
from saccade.networks.targets import Target, class_indices

OPERATION = "evaluate under corruptions"
PIXELS = 2**22
"""Pictures are corrupted so many pixels at once."""


def evaluate_corruptions(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corrupted:
    """Classify pictures as they are, and each corruption of them at each severity; arXiv:1903.12261.

    Picture i is corrupted as `corrupt` does with first=i, whatever the batches are.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64; moved to the device of the network part by part.
        labels: the true class of each picture.
        corruptions: keys of `CORRUPTIONS`.
        severities: of 1 to 5.
        seed: of what is drawn.
        batch_size: the most pictures the network gets at once; by default as many as are fast and fit into memory.
        progress: called with (done, in all), in pictures times corruptions and severities.

    Returns:
        `Corrupted`.

    Raises:
        SaccadeError: no such corruption or severity, none or one twice; what are no pictures or labels; a network in
            train mode.
    """
    names = [find_corruption(name).name for name in corruptions]
    for severity in severities:
        check_severity(severity, OPERATION)
    for what, given in (("corruptions", names), ("severities", list(severities))):
        if not given or len(set(given)) < len(given):
            raise SaccadeError(f"Could not {OPERATION}: {what} are {given}, expected one or more, none of them twice.")
    pictures = check_pictures(pictures, OPERATION)
    device = next((p.device for p in network.parameters()), pictures.device)
    with searching(network, pictures[:1].to(device), 0, operation=OPERATION, batch_size=batch_size) as search:
        classes = search.scores.shape[1]
    y = class_indices(network, labels, count=len(pictures), classes=classes)
    parts = list(chunks(len(pictures), max(1, PIXELS // pictures[0, 0].numel())))
    jobs = [(name, severity) for name in names for severity in severities]
    clean, counts = 0, dict.fromkeys(jobs, 0)
    for part in parts:
        x, truth = pictures[part].to(device), y[part].to(device)
        clean += _right(network, x, truth, batch_size)
        for number, (name, severity) in enumerate(jobs, 1):
            z = corrupt(x, name, severity=severity, seed=seed, first=part.start)
            counts[name, severity] += _right(network, z, truth, batch_size)
            if progress is not None:
                progress(part.start * len(jobs) + number * len(x), len(pictures) * len(jobs))
    count = len(pictures)
    settings = {"corruptions": names, "severities": list(severities), "seed": seed, "pictures": count}
    return Corrupted(
        clean=Share(clean, count),
        shares={name: {severity: Share(counts[name, severity], count) for severity in severities} for name in names},
        settings=settings | {"shape": list(pictures.shape[1:])},
    )


def _right(network: nn.Module, x: Tensor, labels: Tensor, batch_size: int | None) -> int:
    """How many pictures the network classifies correctly."""
    with searching(network, x, labels, operation=OPERATION, batch_size=batch_size) as search:
        return int((~search.success).sum())
