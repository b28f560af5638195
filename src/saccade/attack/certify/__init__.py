"""What no attack can do: bounds of scores over a ball, and certificates."""

from saccade.attack.certify.bounds import interval_bounds
from saccade.attack.certify.certificate import Certificate, certify
from saccade.attack.certify.exact import Verdict, verify
from saccade.attack.certify.linear_bounds import linear_bounds
from saccade.attack.certify.smoothing import Smoothed, predict_smoothed, smoothed
from saccade.attack.certify.survey import Survey, survey
from saccade.networks.bounds.intervals import Interval

__all__ = [
    "Certificate",
    "Interval",
    "Smoothed",
    "Survey",
    "Verdict",
    "certify",
    "interval_bounds",
    "linear_bounds",
    "predict_smoothed",
    "smoothed",
    "survey",
    "verify",
]
