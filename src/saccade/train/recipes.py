"""The recipes that come with the library, by name. Their measured accuracy and time stand in docs/results."""

from dataclasses import replace

from saccade.networks.registry import unknown
from saccade.train.recipe import Recipe

# Course part 1: no augmentation, the last 1,000 training pictures for validation, SGD with plain momentum.
_RESNET32 = Recipe(
    "course-resnet32",
    "resnet32",
    "cifar10",
    val=1000,
    epochs=10,
    batch_size=64,
    lr=1e-2,
    nesterov=False,
    weight_decay=1e-4,
    decay_all=True,
    schedule="step",
    warmup=0.0,
    milestones=(6, 8),
    flip="none",
)
_PLAIN32 = replace(_RESNET32, name="course-plain32", network="plain32")

# He et al. 2015, section 4.2, on a 45,000/5,000 split; the learning rate falls at 32,000 and 48,000 of 64,000 steps.
_CIFAR_RESNET20 = Recipe(
    "cifar-resnet20",
    "cifar-resnet20",
    "cifar10",
    epochs=182,
    batch_size=128,
    lr=0.1,
    nesterov=False,
    weight_decay=1e-4,
    decay_all=True,
    schedule="step",
    warmup=0.0,
    milestones=(91, 136),
    translate=4,
)
# The same network in a tenth of the time.
_CIFAR_RESNET20_SHORT = replace(
    _CIFAR_RESNET20,
    name="cifar-resnet20-short",
    epochs=18,
    optimiser="muon",
    muon_lr=0.06,
    lr=0.1,
    nesterov=True,
    weight_decay=5e-4,
    decay_all=False,
    schedule="one-cycle",
    warmup=0.15,
    milestones=(),
    flip="alternating",
)

# airbench94 as it was published: Jordan 2024 (arXiv:2404.00498).
_FAST94_SGD = Recipe(
    "fast94-sgd",
    "fast94",
    "cifar10",
    epochs=10,
    batch_size=1024,
    lr=11.5,
    momentum=0.85,
    weight_decay=0.0153,
    decoupled=True,
    bias_lr=64.0,
    warmup=0.23,
    start_factor=0.2,
    end_factor=0.07,
    flip="alternating",
    translate=2,
    label_smoothing=0.2,
    lookahead=True,
    whiten=True,
    tta="six",
)
# The same network with Muon for its convolutions, as in airbench's own later record, with smaller steps, as no large
# batch is needed to keep a CPU busy, and smaller pictures in the first epochs. docs/results/cifar_accuracy.md has both.
_FAST94 = replace(
    _FAST94_SGD,
    name="fast94",
    sizes=(24, 24, 28, 32),
    epochs=8,
    batch_size=500,
    optimiser="muon",
    muon_lr=0.12,
    lr=6.5,
    schedule="linear",
    warmup=0.0,
    start_factor=0.0,
    end_factor=0.0,
    lookahead=False,
)

_TINYNET = Recipe(
    "tinynet",
    "tinynet",
    "tiny-imagenet",
    val=1000,
    sizes=(32,) * 6 + (48,) * 7 + (64,) * 3,
    epochs=16,
    batch_size=256,
    optimiser="muon",
    muon_lr=0.03,
    lr=0.2,
    warmup=0.1,
    crop=0.45,
    uncropped=1,
    label_smoothing=0.1,
)
_TINYNET_ROBUST = replace(
    _TINYNET,
    name="tinynet-robust",
    start="tinynet",
    sizes=(48,),
    epochs=3,
    uncropped=0,
    muon_lr=0.03,
    lr=0.05,
    adversarial="linf",
    eps=3 / 255,
    label_smoothing=0.0,
)

# Fast adversarial training (Wong et al. 2020, arXiv:2001.03994) of a short, wide residual network: first on smaller
# pictures, where a step costs half, then from there (the folder that the first recipe leaves) on whole ones.
_CIFAR_ROBUST_FIRST = Recipe(
    "cifar-robust-first",
    "cifar-preact8",
    "cifar10",
    sizes=(24, 24, 24, 28, 24, 24, 32),
    epochs=7,
    batch_size=128,
    optimiser="muon",
    muon_lr=0.04,
    lr=0.1,
    warmup=0.2,
    translate=4,
    ema=0.3,
    adversarial="linf",
    eps=8 / 255,
)
_CIFAR_ROBUST = replace(
    _CIFAR_ROBUST_FIRST,
    name="cifar-robust",
    start="runs/cifar-robust-first/final.safetensors",
    sizes=(),
    epochs=3,
    muon_lr=0.03,
    lr=0.05,
    warmup=0.1,
)

# The usual small residual network, trained on what two steps of gradient ascent find (Madry et al. 2017,
# arXiv:1706.06083): another architecture to try attacks on.
_CIFAR_ROBUST_RESNET20 = replace(
    _CIFAR_RESNET20_SHORT,
    name="cifar-robust-resnet20",
    sizes=(24, 24, 24, 24, 24, 28, 32, 32),
    epochs=8,
    ema=0.3,
    adversarial="linf",
    eps=8 / 255,
    attack_steps=2,
)

# Interval bounds (Gowal et al. 2018, arXiv:1810.12715): of what this network classifies right much is proved to stand.
_CIFAR_CERTIFIED = Recipe(
    "cifar-certified",
    "strided",
    "cifar10",
    epochs=40,
    batch_size=128,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.0,
    clip=10.0,
    warmup=0.1,
    translate=2,
    adversarial="linf",
    eps=2 / 255,
    defence="ibp",
    ramp=0.5,
    clean_weight=0.0,
)

_ALL = (
    _PLAIN32,
    _RESNET32,
    _CIFAR_CERTIFIED,
    _CIFAR_RESNET20,
    _CIFAR_RESNET20_SHORT,
    _CIFAR_ROBUST_FIRST,
    _CIFAR_ROBUST,
    _CIFAR_ROBUST_RESNET20,
    _FAST94,
    _FAST94_SGD,
    _TINYNET,
    _TINYNET_ROBUST,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`; raises `SaccadeError` with the names there are."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
