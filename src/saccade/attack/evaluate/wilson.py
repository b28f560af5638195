"""How far a share of some pictures may be from that of all: the Wilson score interval."""

from dataclasses import dataclass
from statistics import NormalDist

from saccade.errors import SaccadeError


@dataclass(frozen=True)
class Share:
    """`count` of `of` pictures."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of 95 %."""
        return wilson(self.count, self.of)

    def as_dict(self) -> dict[str, float]:
        """What JSON can hold."""
        low, high = self.interval
        return {"count": self.count, "of": self.of, "value": self.value, "low": low, "high": high}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}, n={self.of})"


def wilson(count: float, of: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The shares p of all pictures for which `count` of `of` drawn ones would be no surprise.

    Those are the p whose normal approximation does not reject what was seen: |count / of - p| is at most z times
    sqrt(p (1 - p) / of). `count` may be the mean of several. Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Raises `SaccadeError` unless 0 <= count <= of, of > 0 and 0 < confidence < 1.
    """
    if not (0 <= count <= of and of > 0 and 0 < confidence < 1):
        raise SaccadeError(
            f"Could not give an interval: {count} of {of} at a confidence of {confidence}, expected 0 <= count <= of, "
            "one picture or more, and a confidence between 0 and 1."
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = count / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    reach = (square * (share * (1 - share) + square / 4)) ** 0.5 / (1 + square)
    return (0.0 if count == 0 else middle - reach), (1.0 if count == of else middle + reach)
