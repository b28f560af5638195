"""KernelSHAP: Shapley values of superpixels, by a regression on the scores of some of their coalitions.

Lundberg, Lee 2017, "A Unified Approach to Interpreting Model Predictions", arXiv:1705.07874, section 4.1. Pairs of a
coalition and its complement: Covert, Lee 2021, arXiv:2012.01536.
"""

from itertools import combinations
from math import comb

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import rows_at_once
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills
from saccade.explain.question import Target, asking, finished
from saccade.explain.superpixels import Pieces, least_squares, scores_of_choices, spread, superpixels


def kernel_shap(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    pieces: Pieces = "slic",
    count: int = 50,
    samples: int = 1000,
    fill: Fill = 0.5,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, "n h w"]:
    """Shapley value of each superpixel, divided evenly among its pixels: the map of a superpixel sums to its value, the
    whole map to the score of the picture less that of the fill.

    The values are exact if there are as many samples as coalitions, 2 ** superpixels; else the coalitions of few and of
    almost all superpixels are scored, as far as `samples` reaches, and pairs of the others are drawn by chance.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is shared out, see `Target`.
        pieces: the superpixels, see `Pieces`.
        count: about how many of them to make.
        samples: pictures scored at most, with nothing hidden and all hidden among them; 4 or more.
        fill: what hidden superpixels show, see `Fill`.
        seed: of the samples; the same gives the same bits on the CPU.
        batch_size: samples at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the pictures have another shape or type, or there is no such target, fill or cut, or less than 4
            samples.
    """
    operation = "compute KernelSHAP"
    if samples < 4:
        raise SaccadeError(f"Could not {operation}: {samples} samples, expected at least 4.")
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        x = question.x
        cuts = superpixels(x, pieces, count, operation)
        instead = fills(question, fill)
        size = rows_at_once(network, x, batch_size)
        question.learn(len(x) * samples)
        found = torch.empty_like(x[:, 0], memory_format=torch.contiguous_format)
        for i, cut in enumerate(cuts):
            shown, weight = coalitions(int(cut.max()) + 1, samples - 2, seed)
            nothing, whole = torch.zeros_like(shown[:1]), torch.ones_like(shown[:1])
            said = scores_of_choices(question, i, torch.cat([nothing, whole, shown]), cut, instead[i], size)
            found[i] = spread(shapley_regression(shown, weight, said[2:] - said[0], said[1] - said[0]), cut)
        return finished(found, operation)


def coalitions(players: int, samples: int, seed: int) -> tuple[Float[Tensor, "s m"], Float[Tensor, " s"]]:
    """At most `samples` coalitions other than none and all, 0 or 1 for each player, and their weights.

    Sizes s and players - s are taken together. From the outermost inward, all coalitions of such sizes are taken as
    long as they are no more than chance would draw, each with the weight of the Shapley kernel; the sizes left are
    drawn in complementary pairs in proportion to their kernel and share its weight.
    """
    halves = range(1, players // 2 + 1)
    kernel = {s: (players - 1) / (s * (players - s)) * (1 if 2 * s == players else 2) for s in halves}  # of both sizes
    rows: list[list[int]] = []  # the players shown
    weights: list[float] = []
    left = list(halves)
    while left:
        s = left[0]
        many = comb(players, s) * (1 if 2 * s == players else 2)
        if many > (samples - len(rows)) * kernel[s] / sum(kernel[t] for t in left) * (1 + 1e-9):
            break
        for size in sorted({s, players - s}):
            rows += [list(some) for some in combinations(range(players), size)]
        weights += [kernel[s] / many] * many
        left.pop(0)
    shown = torch.zeros(len(rows), players, dtype=torch.float64)
    for row, some in zip(shown, rows, strict=True):
        row[some] = 1
    weight = torch.tensor(weights, dtype=torch.float64)
    pairs = (samples - len(rows)) // 2 if left else 0
    if pairs:
        drawn = generator(seed)
        chance = torch.tensor([kernel[s] for s in left], dtype=torch.float64)
        sizes = torch.tensor(left)[torch.multinomial(chance, pairs, replacement=True, generator=drawn)]
        order = torch.rand(pairs, players, dtype=torch.float64, generator=drawn).argsort(1).argsort(1)
        some_of = (order < sizes[:, None]).double()
        shown = torch.cat([shown, some_of, 1 - some_of])
        weight = torch.cat([weight, chance.sum().expand(2 * pairs) / (2 * pairs)])
    return shown, weight


def shapley_regression(
    shown: Float[Tensor, "s m"], weight: Float[Tensor, " s"], gain: Float[Tensor, " s"], whole: Float[Tensor, ""]
) -> Float[Tensor, " m"]:
    """The values v, of sum `whole`, that minimise sum_k weight_k (gain_k - shown_k v)^2; the most equal of several.

    gain: score of each coalition less that of none; whole: of all less none.
    """
    players = shown.shape[1]
    equal = (whole / players).expand(players)
    if players == 1 or not len(shown):
        return equal.clone()
    # v = equal + basis u, the columns of `basis` being orthonormal and of sum 0: what is left is a plain regression.
    basis: Tensor = torch.linalg.svd(shown.new_ones(1, players)).Vh[1:].T
    root = weight.sqrt()[:, None]
    rest = least_squares(root * shown @ basis, root[:, 0] * (gain - shown @ equal))
    return equal + basis @ rest
