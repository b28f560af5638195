"""Honest scores of attributions: one measure a file, none of which is the truth alone."""

from saccade.explain.scores.common import Curve
from saccade.explain.scores.completeness import Completeness, completeness
from saccade.explain.scores.deletion import deletion, insertion
from saccade.explain.scores.infidelity import infidelity
from saccade.explain.scores.pointing import Pointing, pointing
from saccade.explain.scores.randomisation import Randomisation, randomisation
from saccade.explain.scores.road import road
from saccade.explain.scores.sensitivity import sensitivity

__all__ = [
    "Completeness",
    "Curve",
    "Pointing",
    "Randomisation",
    "completeness",
    "deletion",
    "infidelity",
    "insertion",
    "pointing",
    "randomisation",
    "road",
    "sensitivity",
]
