"""Pictures in the style of others, by optimisation and by fast networks."""

from saccade.style.losses import (
    content_loss,
    gram_matrix,
    guided_gram_matrix,
    guided_style_loss,
    style_loss,
    tv_loss,
)
from saccade.style.masks import read_masks
from saccade.style.preset import Layers, Preset
from saccade.style.presets import PRESETS
from saccade.style.score import Score, score
from saccade.style.statistics import STATISTICS
from saccade.style.transfer import style_transfer

__all__ = [
    "PRESETS",
    "STATISTICS",
    "Layers",
    "Preset",
    "Score",
    "content_loss",
    "gram_matrix",
    "guided_gram_matrix",
    "guided_style_loss",
    "read_masks",
    "score",
    "style_loss",
    "style_transfer",
    "tv_loss",
]
