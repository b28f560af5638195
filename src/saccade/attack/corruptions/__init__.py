"""Common corruptions: pictures as noise, lenses, weather and processing leave them, and what networks make of them."""

from saccade.attack.corruptions.corrupt import corrupt
from saccade.attack.corruptions.draw import draw_corruptions
from saccade.attack.corruptions.evaluate import evaluate_corruptions
from saccade.attack.corruptions.report import Corrupted, MeanShare
from saccade.attack.corruptions.table import CORRUPTIONS, Corruption

__all__ = [
    "CORRUPTIONS",
    "Corrupted",
    "Corruption",
    "MeanShare",
    "corrupt",
    "draw_corruptions",
    "evaluate_corruptions",
]
