"""How the style of a feature map is measured and compared. A new statistic is one file, and a line in `STATISTICS`."""

from saccade.style.statistics.gram import Gram
from saccade.style.statistics.means import GramMeanStd, MeanStd
from saccade.style.statistics.moments import Moments, mix, moments
from saccade.style.statistics.normalised import normalise_gradient
from saccade.style.statistics.quantiles import Quantiles
from saccade.style.statistics.sliced import Sliced
from saccade.style.statistics.statistic import Statistic, Summary
from saccade.style.statistics.wasserstein import Wasserstein

STATISTICS: dict[str, Statistic] = {
    "gram": Gram(),
    "gram-mean-std": GramMeanStd(),
    "mean-std": MeanStd(),
    "wasserstein": Wasserstein(),
    "sliced": Sliced(),
}

__all__ = [
    "STATISTICS",
    "Gram",
    "GramMeanStd",
    "MeanStd",
    "Moments",
    "Quantiles",
    "Sliced",
    "Statistic",
    "Summary",
    "Wasserstein",
    "mix",
    "moments",
    "normalise_gradient",
]
