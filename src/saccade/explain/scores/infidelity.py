"""Infidelity: how far the drops that an attribution predicts are from those the network shows.

Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, "On the (In)fidelity and Sensitivity of Explanations", arXiv:1901.09392,
definition 2.1: the mean over perturbations I of (I . attribution - (f(x) - f(x - I)))^2.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking
from saccade.explain.scores.common import Said, checked_map, says, squares


def infidelity(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    attribution: Tensor,
    *,
    kind: Literal["contribution", "slope"],
    perturbation: Literal["square", "gaussian"] = "square",
    fill: Fill = "mean",
    side: float = 0.25,
    sigma: float = 0.2,
    samples: int = 64,
    scaled: bool = False,
    score: Said = "logit",
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, " n"]:
    """Mean squared difference of predicted and true drops of the score, in units of the score squared; low is good.

    Args:
        attribution: (N, 3, H, W), or (N, H, W) for contributions.
        kind: what the values mean. A "contribution" is a share of the score, as in integrated gradients or occlusion:
            the predicted drop is the sum within the removed square. A "slope" is score per unit of pixel value, as in
            a gradient: the predicted drop is the sum of slope times change.
        perturbation: "square" removes a square at a random place; "gaussian" subtracts noise, for slopes only.
        fill: what a removed square becomes, see `Fill`; for contributions, what they were measured against.
        side: of the square, as a share of the shorter side of the picture, in (0, 1].
        sigma: standard deviation of the noise, in pixel units.
        samples: perturbations, the same for every picture.
        scaled: first scale each attribution so that its infidelity is least; only then can methods of different units
            be compared. A method that predicts nothing then gets the mean squared drop itself.
        score, seed, batch_size, network, pictures, target: see `deletion`.

    Returns:
        (N,), zero or more.

    Raises:
        SaccadeError: shapes that do not belong together, values that are not finite, a setting out of range.
    """
    operation = "score by infidelity"
    if kind not in ("contribution", "slope") or perturbation not in ("square", "gaussian"):
        raise SaccadeError(
            f"Could not {operation}: kind={kind!r} and perturbation={perturbation!r} were given, expected contribution "
            "or slope, and square or gaussian."
        )
    if samples < 1 or not 0 < side <= 1:
        raise SaccadeError(
            f"Could not {operation}: samples={samples} and side={side} were given, expected 1 or more, and (0, 1]."
        )
    slope = kind == "slope"
    if perturbation == "gaussian" and not slope:
        raise SaccadeError(f"Could not {operation}: noise removes nothing; for contributions use squares.")
    if slope and attribution.ndim != 4:
        raise SaccadeError(
            f"Could not {operation}: slopes need an attribution (n, 3, height, width), not {tuple(attribution.shape)}."
        )
    with asking(network, pictures, target, operation) as question:
        x = question.x
        maps = checked_map(attribution, "sum", question)
        values = attribution.detach().to(x.device) if slope else maps[:, None]
        h, w = x.shape[2:]
        if perturbation == "square":
            gone = squares(h, w, max(1, round(side * min(h, w))), samples, seed).to(x.device)
            empty = fills(question, fill)
        else:
            noise = torch.randn(samples, *x.shape[1:], dtype=torch.float64, generator=generator(seed, 0x1F1D)).to(x)
        size = rows_at_once(network, x, batch_size)
        question.learn(len(x) * (samples + 1))
        everyone = torch.arange(len(x), device=x.device)
        clean = torch.cat([says(question, x[part], everyone[part], score) for part in chunks(len(x), size)])
        predicted, shown = [], []
        for part in chunks(len(x) * samples, size):
            row = torch.arange(part.start, part.stop, device=x.device)
            which, sample = row // samples, row % samples
            if perturbation == "square":
                inside = gone[sample][:, None]
                changed = torch.where(inside, empty[which], x[which])
                change = x[which] - changed if slope else inside.to(x.dtype)
            else:
                change = sigma * noise[sample]
                changed = x[which] - change
            predicted.append((values[which] * change).flatten(1).sum(1))
            shown.append(clean[which] - says(question, changed, which, score))
        guess, drop = (torch.cat(each).view(len(x), samples) for each in (predicted, shown))
        if scaled:
            size_of_guess = guess.square().sum(1, keepdim=True)
            best = (guess * drop).sum(1, keepdim=True) / torch.where(size_of_guess > 0, size_of_guess, 1.0)
            guess = best * guess
        return (guess - drop).square().mean(1)
