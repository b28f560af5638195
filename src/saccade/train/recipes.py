"""The recipes that come with the library, by name."""

from saccade.errors import SaccadeError
from saccade.train.recipe import Recipe

_COURSE = Recipe("course", "resnet32", "cifar10", epochs=10, batch_size=64, lr=1e-2, momentum=0.9, nesterov=False,
                 weight_decay=1e-4, decay_all=True, schedule="step", warmup=0.0, milestones=(6, 8), flip="none", val=1000)
_FAST = Recipe("fast94", "fast94", "cifar10", epochs=10, batch_size=1024, lr=11.5, momentum=0.85, weight_decay=0.0153,
               decoupled=True, bias_lr=64.0, schedule="one-cycle", warmup=0.23, start_factor=0.2, end_factor=0.07,
               flip="alternating", translate=2, label_smoothing=0.2, lookahead=True, whiten=True, tta="six")
_TINY = Recipe("tinynet", "tinynet", "tiny-imagenet", epochs=9, batch_size=256, optimiser="muon", lr=0.2,
               muon_lr=0.08, sizes=(32, 32, 32, 32, 48, 48, 48, 64, 64), val=1000, label_smoothing=0.1,
               flip="random", crop=0.45, schedule="one-cycle", warmup=0.1)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (_COURSE, _FAST, _TINY)}


def recipe(name: str) -> Recipe:
    """The recipe called `name`; raises `SaccadeError` with the names there are."""
    if name not in RECIPES:
        raise SaccadeError(f"There is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    return RECIPES[name]
