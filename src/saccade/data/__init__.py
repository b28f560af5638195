"""Data sets: known ones by name, any folder of pictures, and generated scenes; batches of them with
augmentation."""

from saccade.data.augment import Augment
from saccade.data.batches import Batches
from saccade.data.catalog import catalogue, load
from saccade.data.datasets import DATASETS
from saccade.data.images import ImageSet
from saccade.data.scenes import Scene, describe, draw_scenes, holds, scene, scene_masks, scenes
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
    "scene_masks",
    "scenes",
    "split_indices",
]
