"""Styles by network: one pass a picture instead of hundreds of steps."""

from saccade.style.fast.adain import AdaptiveStyle
from saccade.style.fast.apply import Restyled, apply_fast, restyle_files
from saccade.style.fast.export import export_fast
from saccade.style.fast.network import FastStyle, load_fast, shipped_styles
from saccade.style.fast.stability import Stability, stability
from saccade.style.fast.train import FAST, FastRecipe, train_fast

__all__ = [
    "FAST",
    "AdaptiveStyle",
    "FastRecipe",
    "FastStyle",
    "Restyled",
    "Stability",
    "apply_fast",
    "export_fast",
    "load_fast",
    "restyle_files",
    "shipped_styles",
    "stability",
    "train_fast",
]
