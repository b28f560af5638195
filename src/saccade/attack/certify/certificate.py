"""Certificates: pictures around which no change within eps, however found, makes a network say another class."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.attack.certify.bounds import exact
from saccade.attack.certify.linear_bounds import check_method
from saccade.attack.question import Budget, check_pictures, per_picture
from saccade.engine.guards import evaluating
from saccade.networks.bounds.intervals import Interval
from saccade.networks.bounds.lines import Method, lowest_leads, tighten
from saccade.networks.bounds.tape import record
from saccade.networks.targets import Target, class_indices


@dataclass(frozen=True)
class Certificate:
    """What is proved of each picture.

    certified: every change within eps and [0, 1] leaves the label the highest score. margins: a lower bound on the
    least lead of the label's score over any other, float64; a picture is certified where it is above 0.
    """

    certified: Bool[Tensor, " n"]
    margins: Float[Tensor, " n"]


def certify(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    labels: Target,
    eps: Budget,
    *,
    method: Method = "crown",
    batch_size: int = 16,
) -> Certificate:
    """Prove for as many pictures as the method can that no change of at most eps a value fools the network.

    A certified picture is safe from every attack, also from those that use
    the rounding of the network's own floating point numbers; of one that is not certified nothing is known.

    What rounding can do adds up from layer to layer, and makes the bounds of deep networks in float32 wide whatever
    eps is. `certify(network.double(), ...)` certifies the network as it runs in float64, where it is negligible.

    Args:
        network: as of `interval_bounds`; in eval mode.
        pictures: float32 or float64 in [0, 1].
        labels: the true class of each picture.
        eps: the most that each value may change, in pixel units; one, or one for each picture.
        method: "ibp": intervals, as cheap as two runs; "crown-ibp": lines on top of intervals; "crown": lines
            throughout, the tightest, for small networks.
        batch_size: the most pictures at once.

    Raises:
        SaccadeError: no such pictures, labels or eps, or the network does something for which there are no bounds.
    """
    operation = "certify"
    check_method(method, operation)
    x = check_pictures(pictures, operation)
    radius = per_picture(eps, x, "eps", operation).double()
    copied, x, _, unit = exact(network, x, x, operation)
    low, high = (x - radius).clamp(0, 1), (x + radius).clamp(0, 1)
    margins = []
    with evaluating(copied):
        tape = record(copied, x, operation)
        wanted = class_indices(network, labels, count=len(x), classes=tape.shapes[-1][0]).to(x.device)
        for a, b, true in zip(*(torch.split(v, batch_size) for v in (low, high, wanted)), strict=True):
            ranges = tighten(tape, Interval(a, b), unit, method)
            leads = lowest_leads(tape, ranges, true, method)
            margins.append(leads.scatter(1, true[:, None], torch.inf).amin(1))
    found = torch.cat(margins)
    return Certificate(found > 0, found)
