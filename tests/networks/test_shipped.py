"""The networks that come inside the package are what their cards say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade.data import load as load_data
from saccade.engine.fetch import find
from saccade.networks import load, predict
from saccade.networks.zoo import SHIPPED
from saccade.pictures import sample
from saccade.train import RECIPES, Recipe, evaluate, evaluate_under_attack
from saccade.train.evaluate import evenly

NAMES = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
CATS = {"tabby", "Egyptian cat", "Persian cat"}


def test_the_two_that_everything_stands_on_are_there() -> None:
    assert {"tinynet", "tinynet-robust"} <= set(NAMES)


def test_so_are_two_for_cifar10() -> None:
    assert {"fast94", "cifar-resnet20"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_weights_card_log_and_recipe_belong_together(name: str) -> None:
    network = load(name)
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= 10e6
    recipe = Recipe.from_dict(network.meta["recipe"])
    ours = RECIPES[recipe.name]  # whose precision is chosen by timing, or given for a busy machine
    assert replace(recipe, data=ours.data, precision=ours.precision) == ours
    card = (SHIPPED / f"{name}.md").read_text("utf-8")
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in card
    assert f"{network.meta['metrics']['test']['accuracy']:.1%} top-1" in card
    rows = [json.loads(line) for line in (SHIPPED / f"{name}.metrics.jsonl").read_text("utf-8").splitlines()]
    assert rows[-1]["step"] == rows[-1]["steps"]
    assert Recipe.from_dict(network.meta["recipe"]).epochs == rows[-1]["epoch"] + 1


@pytest.mark.parametrize("name", NAMES)
def test_coffee_is_espresso(name: str) -> None:
    network = load(name)
    if network.classes is None or "espresso" not in network.classes:
        pytest.skip("knows no coffee")
    [answers] = predict(network, [sample("coffee")], top=1)
    assert answers[0].name == "espresso"
    assert answers[0].probability > 0.8


def test_a_cat_is_a_cat() -> None:
    [answers] = predict(load("tinynet"), [sample("chelsea")], top=5)
    assert CATS & {answer.name for answer in answers}


@pytest.mark.parametrize("size", [(16, 16), (75, 130)])
def test_tinynet_takes_any_size(size: tuple[int, int]) -> None:
    assert load("tinynet")(torch.rand(2, 3, *size)).shape == (2, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_accuracies_of_the_card_are_measured_again(name: str) -> None:
    network = load(name)
    recipe = Recipe.from_dict(network.meta["recipe"])
    files = {"tiny-imagenet": "tiny-imagenet-200.tar.xz", "cifar10-jpeg": "cifar10_jpg.tar.xz"}
    if find(files[recipe.data]) is None:
        pytest.skip(f"{files[recipe.data]} is not among SACCADE_ARCHIVES")
    test = load_data(recipe.data, split="test")
    size = network.input_size
    assert evaluate(network, test, size=size)["accuracy"] == pytest.approx(
        network.meta["metrics"]["test"]["accuracy"], abs=0.002
    )
    if recipe.adversarial == "linf":
        attacked = evaluate_under_attack(network, evenly(test, 1000), norm="linf", eps=3 / 255, size=size)
        assert attacked == pytest.approx(network.meta["metrics"]["attacked"]["Linf 3/255"], abs=0.01)


def test_the_shipped_folder_holds_nothing_else() -> None:
    kinds = {"".join(Path(path.name.removeprefix(path.name.split(".")[0])).parts) for path in SHIPPED.iterdir()}
    assert kinds <= {".safetensors", ".md", ".metrics.jsonl"}
