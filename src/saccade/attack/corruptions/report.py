"""How a network stands common corruptions: what a survey of them holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.attack.corruptions.table import CORRUPTIONS
from saccade.attack.evaluate.wilson import Share, wilson


@dataclass(frozen=True)
class MeanShare:
    """The mean of several shares of the same `of` pictures."""

    counts: tuple[int, ...]
    of: int

    @property
    def value(self) -> float:
        return sum(self.counts) / (len(self.counts) * self.of)

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of 95 %, as if each picture had been asked about once.

        How often the network is right about one picture is a number from 0 to 1, and no such number with this mean
        varies more from picture to picture than right and wrong do: the interval is wide enough, and mostly too wide.
        It would be too narrow if all answers about a picture counted as independent.
        """
        return wilson(sum(self.counts) / len(self.counts), self.of)

    def as_dict(self) -> dict[str, float]:
        """What JSON can hold."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "of": self.of, "shares": len(self.counts)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}, n={self.of})"


@dataclass(frozen=True)
class Corrupted:
    """How many of a set of pictures a network classifies correctly, as they are and corrupted.

    clean: as they are. shares: by name of the corruption, then by severity. settings: all that the numbers depend on.
    """

    clean: Share
    shares: Mapping[str, Mapping[int, Share]]
    settings: Mapping[str, Any]

    def mean(self, name: str) -> MeanShare:
        """Over the severities of a corruption."""
        return MeanShare(tuple(share.count for share in self.shares[name].values()), self.clean.of)

    @property
    def mca(self) -> MeanShare:
        """Mean corruption accuracy: over all severities of all corruptions, each counting the same.

        1 minus this is the mean error; the mCE of the paper is another number, as it first divides the errors of each
        corruption by AlexNet's.
        """
        every = [share.count for shares in self.shares.values() for share in shares.values()]
        return MeanShare(tuple(every), self.clean.of)

    @property
    def severities(self) -> Sequence[int]:
        return tuple(next(iter(self.shares.values())))

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "clean": self.clean.as_dict(),
            "mca": self.mca.as_dict(),
            "corruptions": {
                name: {
                    "group": CORRUPTIONS[name].group,
                    "severities": {str(severity): share.as_dict() for severity, share in shares.items()},
                    "mean": self.mean(name).as_dict(),
                }
                for name, shares in self.shares.items()
            },
            "settings": dict(self.settings),
        }

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """A head and rows for a table: corruption, accuracy at each severity, their mean and its interval."""
        rows = []
        for name, shares in self.shares.items():
            mean = self.mean(name)
            low, high = mean.interval
            severities = [f"{share.value:.1%}" for share in shares.values()]
            rows.append([name, *severities, f"{mean.value:.1%}", f"{low:.1%} to {high:.1%}"])
        return ["corruption", *(str(one) for one in self.severities), "mean", "95 % interval"], rows
