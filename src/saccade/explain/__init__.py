"""Why a network decides as it does: attributions to the pixels, and honest scores of them."""

from saccade.explain.question import MapWarning, Target, Unit
from saccade.explain.saliency import gradient, input_x_gradient, saliency

__all__ = ["MapWarning", "Target", "Unit", "gradient", "input_x_gradient", "saliency"]
