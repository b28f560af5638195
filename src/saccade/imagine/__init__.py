"""What a network looks for, seen in pictures that are grown for it."""

from saccade.imagine.activation_sheet import activation_sheet
from saccade.imagine.class_picture import class_picture
from saccade.imagine.dream import dream
from saccade.imagine.explorer import explorer
from saccade.imagine.feature_picture import feature_picture
from saccade.imagine.grow import grow
from saccade.imagine.invert import invert
from saccade.imagine.objectives import (
    Alignment,
    Channel,
    Class,
    Direction,
    Diversity,
    FeatureMatch,
    Interpolation,
    Layer,
    Neuron,
    Objective,
)
from saccade.imagine.recipes import RECIPES, Recipe
from saccade.imagine.top_patches import TopPatches, patch_gradients, patches, top_patches
from saccade.imagine.unit_layers import unit_layers

__all__ = [
    "RECIPES",
    "Alignment",
    "Channel",
    "Class",
    "Direction",
    "Diversity",
    "FeatureMatch",
    "Interpolation",
    "Layer",
    "Neuron",
    "Objective",
    "Recipe",
    "TopPatches",
    "activation_sheet",
    "class_picture",
    "dream",
    "explorer",
    "feature_picture",
    "grow",
    "invert",
    "patch_gradients",
    "patches",
    "top_patches",
    "unit_layers",
]
