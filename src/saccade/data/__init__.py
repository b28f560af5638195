"""Data sets: known ones by name, any folder of pictures, and generated scenes; batches of them with augmentation."""

from saccade.data.augment import Augment
from saccade.data.batches import Batches
from saccade.data.catalog import DATASETS, catalogue, load
from saccade.data.images import ImageSet
from saccade.data.scene_grammar import describe, holds
from saccade.data.scenes import Scene, draw_scenes, scene, scenes
from saccade.data.split import split_indices
from saccade.data.statistics import channel_statistics

__all__ = [
    "DATASETS",
    "Augment",
    "Batches",
    "ImageSet",
    "Scene",
    "catalogue",
    "channel_statistics",
    "describe",
    "draw_scenes",
    "holds",
    "load",
    "scene",
    "scenes",
    "split_indices",
]
