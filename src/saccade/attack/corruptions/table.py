"""The table of the corruptions: one line each, with the published constants of five severities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from saccade.attack.corruptions import blur, digital, noise, weather
from saccade.attack.corruptions.frost import frost
from saccade.attack.corruptions.levels import Levels, constants
from saccade.networks.registry import unknown


@dataclass(frozen=True)
class Corruption:
    """A corruption, and how strong its severities are.

    group: noise, blur, weather or digital. function: (pictures, generators, *constants) -> pictures, which may leave
    [0, 1]. small, large: its constants at severities 1 to 5, of pictures of 32 and of 224 pixels (`constants` says what
    holds for others). lengths: which of them are in pixels.
    """

    name: str
    group: str
    function: Callable[..., Tensor]
    small: Levels
    large: Levels
    lengths: Sequence[int] = ()

    def at(self, severity: int, side: int) -> tuple[float, ...]:
        """Its constants at a severity, for pictures whose shorter side is `side` pixels."""
        return constants(self.small, self.large, self.lengths, severity, side)


def _one(*values: float) -> Levels:
    """Severities with one constant each."""
    return [(value,) for value in values]


_LIST = [
    Corruption(
        "gaussian-noise",
        "noise",
        noise.gaussian_noise,
        _one(0.04, 0.06, 0.08, 0.09, 0.10),
        _one(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    Corruption("shot-noise", "noise", noise.shot_noise, _one(500, 250, 100, 75, 50), _one(60, 25, 12, 5, 3)),
    Corruption(
        "impulse-noise",
        "noise",
        noise.impulse_noise,
        _one(0.01, 0.02, 0.03, 0.05, 0.07),
        _one(0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    Corruption(
        "defocus-blur",
        "blur",
        blur.defocus_blur,
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
        lengths=(0, 1),
    ),
    Corruption(
        "glass-blur",
        "blur",
        blur.glass_blur,
        [(0.05, 0.5), (0.25, 0.5), (0.4, 0.5), (0.25, 0.71), (0.4, 0.71)],
        [(0.7, 0.71), (0.9, 1.12), (1, 1.94), (1.1, 2.42), (1.5, 3.24)],
        lengths=(0, 1),
    ),
    Corruption(
        "motion-blur",
        "blur",
        blur.motion_blur,
        [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
        lengths=(0, 1),
    ),
    Corruption("zoom-blur", "blur", blur.zoom_blur, _one(1.05, 1.1, 1.15, 1.2, 1.25), _one(1.1, 1.15, 1.2, 1.24, 1.3)),
    Corruption(
        "snow",
        "weather",
        weather.snow,
        [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
        [
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ],
        lengths=(2, 4, 5),
    ),
    Corruption(
        "frost",
        "weather",
        frost,
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
        [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    ),
    Corruption(
        "fog",
        "weather",
        weather.fog,
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
        [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    ),
    Corruption(
        "brightness", "weather", weather.brightness, _one(0.05, 0.1, 0.15, 0.2, 0.3), _one(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    Corruption(
        "contrast", "digital", digital.contrast, _one(0.75, 0.5, 0.4, 0.3, 0.15), _one(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    Corruption(
        "elastic",
        "digital",
        digital.elastic,
        [(0.15, 1, 0.3), (0.25, 1, 0.5), (0.35, 1, 0.7), (0.45, 1, 0.85), (0.55, 1, 1)],
        [(0.6, 2.4, 1), (0.9, 2.4, 2), (1.2, 2.4, 3), (1.5, 2.4, 4), (1.95, 2.4, 5)],
        lengths=(0, 1, 2),
    ),
    Corruption(
        "pixelate",
        "digital",
        digital.pixelate,
        _one(1 / 0.95, 1 / 0.9, 1 / 0.85, 1 / 0.75, 1 / 0.65),
        _one(1 / 0.6, 1 / 0.5, 1 / 0.4, 1 / 0.3, 1 / 0.25),
        lengths=(0,),
    ),
    Corruption("jpeg", "digital", digital.jpeg, _one(80, 65, 58, 50, 40), _one(25, 18, 15, 10, 7)),
]
CORRUPTIONS: dict[str, Corruption] = {one.name: one for one in _LIST}
"""The corruptions by name: Hendrycks and Dietterich 2019, arXiv:1903.12261."""


def find_corruption(name: str) -> Corruption:
    """A corruption by its name (case, spaces and underscores do not matter); raises `SaccadeError` with all there
    are."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    return CORRUPTIONS[plain]
