"""Small pictures and a small network for the tests of training."""

from collections.abc import Callable

import pytest
import torch

from saccade.data.images import ImageSet
from saccade.networks.network import Network
from saccade.networks.tiny import TinyNet
from saccade.train.recipe import Recipe


def make_images(count: int, *, classes: int = 4, side: int = 12, seed: int = 0, name: str = "squares") -> ImageSet:
    """Noise with a bright square whose place tells the class: learnt in a few steps."""
    g = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 120, (count, side, side, 3), generator=g, dtype=torch.uint8)
    labels = torch.randint(0, classes, (count,), generator=g)
    half = side // 2
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        top, left = half * (label // 2 % 2), half * (label % 2)
        picture[top : top + half, left : left + half] += 100 + label // 4 * 10
    return ImageSet(name, pictures, labels, tuple(f"class {i}" for i in range(classes)))


def make_network(*, classes: int = 4, seed: int = 0) -> Network:
    """2,000 parameters with batch norm."""
    keywords = {"num_classes": classes, "widths": (8, 12), "units": (1, 1)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TinyNet(**keywords)
    names = tuple(f"class {i}" for i in range(classes))
    return Network(module, mean=(0.3, 0.3, 0.3), std=(0.2, 0.2, 0.2), classes=names, architecture=("tinynet", keywords))


def make_recipe(**changes: object) -> Recipe:
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.05, "flip": "none", "precision": "fp32", **changes}
    return Recipe("test", "tinynet", "squares", **settings)  # type: ignore[arg-type]


@pytest.fixture
def images() -> Callable[..., ImageSet]:
    return make_images


@pytest.fixture
def network() -> Callable[..., Network]:
    return make_network


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    return make_recipe
