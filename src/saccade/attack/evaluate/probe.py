"""What the checks of an evaluation are given, and what they say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.attack.attacks import pgd
from saccade.attack.balls import Norm
from saccade.attack.engine import Result, Search, searching

OPERATION = "check an evaluation"


def too_many(count: int, of: int) -> bool:
    """Whether so many pictures, fooled by an attack that should be no better, cast doubt: more than 2 % of those looked
    at, and more than one unless these are few."""
    return count > max(0.02 * of, min(1.0, 0.1 * of))


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. alarm: it casts doubt on the numbers. said: a sentence with what was measured."""

    name: str
    alarm: bool
    said: str


def checked(name: str, alarm: bool, fact: str, doubt: str) -> Check:
    """What was measured, and where that is alarming, what it means."""
    return Check(name, alarm, f"{fact}: {doubt}" if alarm else f"{fact}.")


@dataclass(frozen=True, eq=False)
class Probe:
    """Some of the pictures of an evaluation, on the device of the network.

    x, labels: the network is right about these. standing, standing_labels: those of all that no attack broke. before,
    after, fooled_labels: those that one did, and what it made of them. total: how many pictures the evaluation has;
    lapsed: of how many an attack's find did not fool the network again. by_scores: how many pictures attacks without
    gradients broke after attacks with gradients had failed, None if there were none such; smaller: how many the search
    for the smallest change broke after the suite had failed, None if it was not made.
    """

    network: nn.Module
    x: Float[Tensor, "k c h w"]
    labels: Int[Tensor, " k"]
    standing: Float[Tensor, "s c h w"]
    standing_labels: Int[Tensor, " s"]
    before: Float[Tensor, "f c h w"]
    after: Float[Tensor, "f c h w"]
    fooled_labels: Int[Tensor, " f"]
    norm: Norm
    eps: float
    seed: int
    batch_size: int | None
    total: int
    lapsed: int
    by_scores: int | None
    smaller: int | None

    @contextmanager
    def search(self, *, batch_size: int | None = None) -> Iterator[Search]:
        """The engine on the pictures that the network is right about."""
        with searching(
            self.network,
            self.x,
            self.labels,
            operation=OPERATION,
            norm=self.norm,
            batch_size=batch_size or self.batch_size,
            random=True,
        ) as search:
            yield search

    def climb(self, x: Tensor, labels: Tensor, *, eps: float, steps: int, start: str = "random") -> Result:
        """Many small steps up the margin."""
        return pgd(
            self.network, x, labels, norm=self.norm, eps=eps, steps=steps, start=start, loss="margin",
            seed=self.seed + 1, batch_size=self.batch_size,
        )  # fmt: skip
