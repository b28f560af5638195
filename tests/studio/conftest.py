"""A small tour, made once: two untrained networks with awkward class names, an untrained captioner, short trainings."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from saccade.caption import Captioner, CaptionRecipe, Vocabulary
from saccade.caption.captioner import make_encoder
from saccade.caption.text import END
from saccade.networks import Network, build
from saccade.studio import tour, words
from saccade.studio.residual import RECIPE
from saccade.train import Recipe

CLASSES = ("tabby, tabby cat", "salt & pepper", '<b>"bold"</b>', "espresso")
SMALL = replace(RECIPE, size=16, count=64, epochs=2, batch_size=32)
SPEAKER = replace(
    words.RECIPE,
    size=32,
    stored=32,
    count=32,
    epochs=2,
    batch_size=16,
    options={"wordvec_dim": 8, "hidden_dim": 16, "attention_dim": 8},
)


class Made(NamedTuple):
    """A tour that was made: its page, what was said on the way, with which recipe, from which weights."""

    page: Path
    said: list[str]
    recipe: Recipe
    networks: list[Path]
    captioner: Path
    speaker: CaptionRecipe


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
def captioner(tmp_path_factory: pytest.TempPathFactory, networks: list[Path]) -> Path:
    """It has learned nothing, and says one word after another."""
    path = tmp_path_factory.mktemp("captioner") / "speaker.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = make_encoder(networks[0])
        options = {"wordvec_dim": 4, "hidden_dim": 8, "attention_dim": 4}
        vocabulary = Vocabulary.build(["a dog saw the cat", "on one very small red boat"], minimum=1)
        untrained = Captioner(encoder, vocabulary, ("show-attend-tell", options), longest=5)
        untrained.decoder.output.bias.data[END] = -9.0  # it goes on speaking
        untrained.save(path, meta={"licence": "none <3>"})
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, networks: list[Path], captioner: Path) -> Made:
    said: list[str] = []
    page = tour(
        tmp_path_factory.mktemp("tour") / "new",
        networks=networks,
        captioner=captioner,
        recipe=SMALL,
        speaker=SPEAKER,
        grow_steps=2,
        say=said.append,
    )
    return Made(page, said, SMALL, networks, captioner, SPEAKER)
