"""What no attack can do: bounds of scores over a ball, and certificates."""

from saccade.attack.certify.bounds import interval_bounds
from saccade.attack.certify.certificate import Certificate, certify
from saccade.attack.certify.linear_bounds import linear_bounds
from saccade.networks.bounds.intervals import Interval

__all__ = ["Certificate", "Interval", "certify", "interval_bounds", "linear_bounds"]
