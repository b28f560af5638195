"""Randomised smoothing: what a network says most often under noise, and how far no change can alter that.

Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918. The smoothed network says the class that the network says most
often when normal noise is added to the picture. If that has probability p, no change of L2 norm below
deviation * quantile(p) makes another class more likely. p is not known but counted, so that the answers hold with a
probability, over the draw of the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.question import check_network, check_pictures, check_settings
from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.guards import frozen
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError

ABSTAINED = -1
DRAWN = 64  # noises at once; a constant, as the numbers drawn depend on how many are drawn together


@dataclass(frozen=True)
class Smoothed:
    """What the smoothed network is sure to say of each picture.

    said: a class, or -1 where it abstains. radii: no change of L2 norm below it makes the smoothed network say another
    class, in pixel units, the changed picture in [0, 1] or not; 0 where it abstains. probability: the lower bound on
    how often the network says the class under noise.
    """

    said: Int[Tensor, " n"]
    radii: Float[Tensor, " n"]
    probability: Float[Tensor, " n"]

    def certified(self, labels: Int[Tensor, " n"], radius: float = 0.0) -> Bool[Tensor, " n"]:
        """Which pictures are said to be their label at every change of L2 norm below `radius`."""
        return (self.said == labels.to(self.said.device)) & (self.radii >= radius)


def smoothed(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    *,
    std: float,
    samples: int = 10_000,
    chosen_by: int = 100,
    confidence: float = 0.999,
    seed: int = 0,
    batch_size: int | None = None,
) -> Smoothed:
    """Certify the smoothed network: a first draw of noise chooses the class, a second bounds its probability.

    The bound is Clopper and Pearson's, so each answer is true with at least `confidence`. All pictures see the same
    noise, and so err together if the draw is an unlucky one.

    Args:
        network: pictures (N, C, H, W) to class scores (N, classes), asked beyond [0, 1], too; in eval mode. It should
            have been trained with such noise (`saccade train ... --noise 0.25`).
        pictures: float32 or float64 in [0, 1], on the device of the network.
        std: the deviation of the noise, in pixel units. More allows larger radii and blurs more.
        samples: noises that count. A radius is never more than std * quantile((1 - confidence) ** (1 / samples)).
        chosen_by: noises that choose the class.
        confidence: of each answer.
        seed: of the noise.
        batch_size: the most noisy pictures at once; by default as many as are fast and fit into memory.

    Raises:
        SaccadeError: no such pictures or settings; scores that are not finite, or are not (n, classes).
    """
    operation = "certify by smoothing"
    check_settings(operation, 1, samples=samples, chosen_by=chosen_by)
    x = _checked(network, pictures, std, confidence, operation)
    with frozen(network):
        guess = _counts(network, x, std, chosen_by, (seed, 0), batch_size, operation).argmax(1)
        hits = _counts(network, x, std, samples, (seed, 1), batch_size, operation).gather(1, guess[:, None])[:, 0]
    lower = [lowest_probability(k, samples, confidence=confidence) for k in hits.tolist()]
    radii = [std * NormalDist().inv_cdf(p) if p > 0.5 else 0.0 for p in lower]
    probability, size = (torch.tensor(v, dtype=torch.float64, device=x.device) for v in (lower, radii))
    return Smoothed(torch.where(probability > 0.5, guess, ABSTAINED), size, probability)


def predict_smoothed(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    *,
    std: float,
    samples: int = 1000,
    confidence: float = 0.999,
    seed: int = 0,
    batch_size: int | None = None,
) -> Int[Tensor, " n"]:
    """What the smoothed network says, or -1 where the two classes seen most often may as well be equally likely.

    With at least `confidence` a class that is returned is the one that the network says most often under noise (a test
    of the two counts). Arguments and errors as of `smoothed`.
    """
    operation = "predict by smoothing"
    check_settings(operation, 1, samples=samples)
    x = _checked(network, pictures, std, confidence, operation)
    with frozen(network):
        counts = _counts(network, x, std, samples, (seed, 2), batch_size, operation)
    best = counts.topk(2, dim=1)
    chance = [_as_many_heads(a, a + b) for a, b in best.values.tolist()]
    sure = torch.tensor(chance, dtype=torch.float64, device=x.device) <= 1 - confidence
    return torch.where(sure, best.indices[:, 0], ABSTAINED)


def lowest_probability(hits: int, of: int, *, confidence: float) -> float:
    """The lower end of Clopper and Pearson's one-sided interval for a probability: 1934, doi:10.1093/biomet/26.4.404.

    Were it any lower, `hits` or more of `of` would be seen with less than 1 - confidence.
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    return float(betaincinv(hits, of - hits + 1, 1 - confidence)) if hits else 0.0


def _as_many_heads(heads: int, of: int) -> float:
    """How likely a fair coin is to fall so often on one of its sides, `heads` being at least half."""
    from scipy.special import betainc

    return min(1.0, 2 * float(betainc(heads, of - heads + 1, 0.5)))


def _checked(network: nn.Module, pictures: Tensor, std: float, confidence: float, operation: str) -> Tensor:
    check_network(network, pictures, operation)
    check_settings(operation, 0, std=std)
    if not 0.5 <= confidence < 1:
        raise SaccadeError(f"Could not {operation}: confidence is {confidence}, expected 0.5 or more and below 1.")
    return check_pictures(pictures, operation)


def _counts(
    network: nn.Module,
    x: Tensor,
    std: float,
    samples: int,
    keys: tuple[int, int],
    batch_size: int | None,
    operation: str,
) -> Int[Tensor, "n classes"]:
    """How often each class is said of each picture under noise."""
    dtype = next((p for p in network.parameters() if p.is_floating_point()), x).dtype
    at_once = min(DRAWN, rows_at_once(network, x.to(dtype), batch_size, wanted=DRAWN, pixels=DRAWN * x[0, 0].numel()))
    counts = None
    with torch.no_grad():
        for noise in _noises(samples, x, keys):
            for i in range(len(x)):
                for part in chunks(len(noise), at_once):
                    scores = network((x[i] + std * noise[part]).to(dtype))
                    if scores.ndim != 2 or not torch.isfinite(scores).all():
                        raise SaccadeError(
                            f"Could not {operation}: the network gave scores of shape {tuple(scores.shape)}, or some "
                            "that are not finite, for a noisy picture; expected finite ones (n, classes)."
                        )
                    counts = counts if counts is not None else x.new_zeros(len(x), scores.shape[1], dtype=torch.long)
                    counts[i] += scores.argmax(1).bincount(minlength=scores.shape[1])
    assert counts is not None
    return counts


def _noises(samples: int, x: Tensor, keys: tuple[int, int]) -> Iterator[Tensor]:
    """`samples` normal noises of a picture's shape, some at a time."""
    for number, part in enumerate(chunks(samples, DRAWN)):
        drawn = torch.randn(DRAWN, *x.shape[1:], generator=generator(*keys, number))
        yield drawn[: part.stop - part.start].to(x)
