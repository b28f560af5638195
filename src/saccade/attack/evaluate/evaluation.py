"""What an evaluation of robustness holds: the worst case over all attacks, picture by picture, and what to doubt."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.attack.evaluate.curve import Curve
from saccade.attack.evaluate.parts import NEVER
from saccade.attack.evaluate.probe import Check
from saccade.attack.evaluate.wilson import Share


@dataclass(frozen=True)
class Row:
    """One attack: how many pictures it was given, how many of them it was the first to break, the accuracy that was
    left, and what it cost: passes of single pictures, and seconds (added up over processes)."""

    name: str
    title: str
    paper: str
    attacked: int
    broke: int
    left: Share
    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a network stands attacks on N pictures.

    clean, robust: the share it classifies correctly, and that it does so whatever any of the attacks made of them.
    attacks: in turn. curve: accuracy over budgets, if it was asked for. checks: what was looked at to see whether the
    numbers can be trusted. labels, right, said: what the pictures are, and what the network says of them. adversarial,
    says: the pictures that fool it, the original where none was found, and what it says of these. broken_by: the number
    of the attack, or -1. norm: the size of the change. smallest: the size of the smallest change found at any budget;
    infinite without one, 0 where the network was wrong before. lapsed: how often an attack's find did not fool the
    network when it was asked again, and so did not count. forwards, backwards: passes for each picture. seconds:
    of the attacks. settings: all that the numbers depend on.
    """

    clean: Share
    robust: Share
    attacks: tuple[Row, ...]
    curve: Curve | None
    checks: tuple[Check, ...]
    labels: Int[Tensor, " n"]
    right: Bool[Tensor, " n"]
    said: Int[Tensor, " n"]
    says: Int[Tensor, " n"]
    adversarial: Float[Tensor, "n c h w"]
    broken_by: Int[Tensor, " n"]
    norm: Float[Tensor, " n"]
    smallest: Float[Tensor, " n"]
    lapsed: Int[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]
    seconds: float
    settings: dict[str, Any]

    @property
    def fooled(self) -> Bool[Tensor, " n"]:
        """Which pictures were right before and are not any more."""
        return self.broken_by != NEVER

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what casts doubt on the numbers."""
        return tuple(check.said for check in self.checks if check.alarm)

    def quantiles(self, shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)) -> dict[float, float]:
        """Of the pictures that are right before, the size of change by which so many of them are fooled."""
        sizes = self.smallest[self.right].double().sort().values
        last = len(sizes) - 1
        return {share: float(sizes[min(last, math.ceil(share * last))]) for share in shares} if last >= 0 else {}

    def as_dict(self) -> dict[str, Any]:
        """All but the pictures, as what JSON can hold; what is infinite is None."""
        curve = None if self.curve is None else {key: value.tolist() for key, value in vars(self.curve).items()}
        names = [row.name for row in self.attacks]
        return {
            "clean": self.clean.as_dict(),
            "robust": self.robust.as_dict(),
            "attacks": [asdict(row) | {"left": row.left.as_dict()} for row in self.attacks],
            "curve": curve,
            "smallest_changes": {f"{share:g}": _finite(size) for share, size in self.quantiles().items()},
            "checks": [asdict(check) for check in self.checks],
            "warnings": list(self.warnings),
            "pictures": {
                "label": self.labels.tolist(),
                "said": self.said.tolist(),
                "says": self.says.tolist(),
                "broken_by": [names[by] if by != NEVER else None for by in self.broken_by.tolist()],
                "norm": self.norm.tolist(),
                "smallest": [_finite(size) for size in self.smallest.tolist()],
                "forwards": self.forwards.tolist(),
                "backwards": self.backwards.tolist(),
            },
            "forwards": int(self.forwards.sum()),
            "backwards": int(self.backwards.sum()),
            "seconds": self.seconds,
            "settings": self.settings,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
