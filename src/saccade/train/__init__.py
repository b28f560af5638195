"""Training: recipes, the loop, evaluation."""

from saccade.train.evaluate import evaluate, evaluate_under_attack
from saccade.train.fit import Fitted, fit
from saccade.train.lr_finder import RateRange, find_rate
from saccade.train.recipe import Recipe
from saccade.train.recipes import RECIPES, find_recipe
from saccade.train.train import Trained, load_splits, make_network, train

__all__ = [
    "RECIPES",
    "Fitted",
    "RateRange",
    "Recipe",
    "Trained",
    "evaluate",
    "evaluate_under_attack",
    "find_rate",
    "find_recipe",
    "fit",
    "load_splits",
    "make_network",
    "train",
]
