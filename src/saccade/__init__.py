"""Saccade: train vision networks, and look into them.

Pictures are float tensors (N, 3, H, W) in [0, 1]; a network is a module from pictures to logits (N, C).
Each room has its own namespace: `saccade.pictures`, `saccade.networks`, `saccade.data`, `saccade.train`, ...
"""

from importlib.metadata import version

from saccade.errors import SaccadeError
from saccade.networks import Network, load

__version__ = version("saccade")
__all__ = ["Network", "SaccadeError", "__version__", "load"]
