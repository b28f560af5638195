"""Training on interval bounds: what is lowered is the loss that no change within the ball can exceed."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.batches import Batches
from saccade.data.images import ImageSet
from saccade.engine.guards import evaluating
from saccade.networks.bounds.ball import wide
from saccade.networks.bounds.intervals import Interval, propagate
from saccade.networks.bounds.lines import lowest_leads
from saccade.networks.bounds.tape import record, record_batch

OPERATION = "train on interval bounds"


def interval_loss(
    network: nn.Module,
    pictures: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    eps: float,
    clean: float,
) -> Float[Tensor, ""]:
    """`clean` times the cross entropy of the pictures, and the rest of 1 times that of the worst logits, mean.

    The worst logits are bounds on the lead of each class over the true one, for pictures within eps (Linf) and [0, 1]:
    Gowal et al. 2018 (arXiv:1810.12715), equation 12, their kappa is `clean`. As in their code, batch norm takes the
    statistics of the unchanged pictures. Rounding is ignored.

    Raises `SaccadeError` if the network has operations without bounds.
    """
    tape, scores = record_batch(network, pictures, OPERATION)
    loss = F.cross_entropy(wide(scores), labels)
    if clean == 1:
        return loss
    box = Interval((pictures - eps).clamp(0, 1), (pictures + eps).clamp(0, 1))
    leads = lowest_leads(tape, propagate(tape, box, 0.0), labels, "ibp")
    return clean * loss + (1 - clean) * F.cross_entropy(-leads, labels)


def interval_start(module: nn.Module) -> None:
    """Random weights under which an interval is as wide behind a layer and its ReLU as before; biases zero.

    Normal with deviation sqrt(2 pi) / fan-in (Shi et al. 2021, arXiv:2103.17268, section 3.2). The usual ones widen it
    by a large factor a layer, so that bounds tell nothing until long training on small eps has shrunk them.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def certified_accuracy(
    network: nn.Module,
    images: ImageSet,
    *,
    eps: float,
    batch_size: int = 250,
    size: int | None = None,
    device: torch.device | str = "cpu",
) -> float:
    """The share of pictures whose interval bounds show that no change within eps (Linf) is misread; rounding ignored.

    Raises `SaccadeError` if the network has operations without bounds.
    """
    proved = 0
    with evaluating(network):
        for pictures, labels in Batches(images, batch_size=batch_size, size=size, device=device).epoch():
            tape = record(network, pictures, "measure certified accuracy")
            ranges = propagate(tape, Interval((pictures - eps).clamp(0, 1), (pictures + eps).clamp(0, 1)), 0.0)
            leads = lowest_leads(tape, ranges, labels, "ibp").scatter(1, labels[:, None], torch.inf)
            proved += int((leads.amin(1) > 0).sum())
    return proved / len(images)
