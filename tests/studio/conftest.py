"""A small tour, made once: two untrained networks with awkward class names, and a short training."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from saccade.networks import Network, build
from saccade.studio import tour
from saccade.studio.residual import RECIPE
from saccade.train import Recipe

CLASSES = ("tabby, tabby cat", "salt & pepper", '<b>"bold"</b>', "espresso")
SMALL = replace(RECIPE, size=16, count=64, epochs=2, batch_size=32)


class Made(NamedTuple):
    """A tour that was made: its page, what was said on the way, with which recipe, from which weights."""

    page: Path
    said: list[str]
    recipe: Recipe
    networks: list[Path]


def small_network(path: Path, name: str, *, seed: int, meta: dict[str, object]) -> Path:
    torch.manual_seed(seed)
    options = {"num_classes": len(CLASSES), "widths": (8, 8), "units": (1, 1)}
    network = Network(
        build("tinynet", **options), classes=CLASSES, input_size=32, name=name, architecture=("tinynet", options)
    )
    network.save(path, meta=meta)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("networks")
    twin = {"recipe": {"adversarial": "linf", "eps": 3 / 255}, "val_accuracy": 0.25}
    with torch.random.fork_rng():
        return [
            small_network(folder / "eye.safetensors", "eye", seed=1, meta={"accuracy": "none & untrained"}),
            small_network(folder / "twin.safetensors", "twin <2>", seed=2, meta=twin),
        ]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, networks: list[Path]) -> Made:
    said: list[str] = []
    page = tour(tmp_path_factory.mktemp("tour") / "new", networks=networks, recipe=SMALL, say=said.append)
    return Made(page, said, SMALL, networks)
