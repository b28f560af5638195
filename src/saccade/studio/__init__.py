"""Pages to look at: the tour."""

from saccade.studio.tour import tour

__all__ = ["tour"]
