"""Why a network decides as it does: attributions to the pixels."""

from saccade.explain.saliency import saliency

__all__ = ["saliency"]
