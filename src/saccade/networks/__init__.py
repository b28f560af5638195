"""The networks: `build` one by name, `load` one with its weights, `Network` to wrap any for looking into."""

from saccade.networks.network import IMAGENET_MEAN, IMAGENET_STD, Network
from saccade.networks.predict import Prediction, predict, prepare
from saccade.networks.registry import ARCHITECTURES, build
from saccade.networks.zoo import catalogue, imagenet_classes, load

__all__ = [
    "ARCHITECTURES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Network",
    "Prediction",
    "build",
    "catalogue",
    "imagenet_classes",
    "load",
    "predict",
    "prepare",
]
