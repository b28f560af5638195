"""The captioners that come inside the package are what their cards say."""

import json

import pytest

from saccade.caption import (
    CAPTION_RECIPES,
    Captioner,
    CaptionRecipe,
    evaluate_captions,
    load_captions,
    shipped_captioners,
)
from saccade.caption.captioner import SHIPPED
from saccade.caption.pairs import KNOWN
from saccade.engine.fetch import find
from saccade.pictures import sample

NAMES = sorted(shipped_captioners())


def test_the_one_that_is_the_default_is_there() -> None:
    assert "tinynet-flickr8k" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_weights_card_log_and_recipe_belong_together(name: str) -> None:
    captioner = Captioner.load(name)
    assert shipped_captioners()[name].stat().st_size <= 8e6
    assert CaptionRecipe.from_dict(captioner.meta["recipe"]) == CAPTION_RECIPES[name]
    card = (SHIPPED / f"{name}.md").read_text("utf-8")
    for row in captioner.meta["metrics"]["test"].values():
        assert f"{100 * row['CIDEr-D']:.1f} |" in card
    rows = [json.loads(line) for line in (SHIPPED / f"{name}.metrics.jsonl").read_text("utf-8").splitlines()]
    best = max((row for row in rows if "val_cider" in row), key=lambda row: row["val_cider"])
    assert best["val_cider"] == captioner.meta["val_cider"]
    assert best["epoch"] == captioner.meta["epoch"]


@pytest.mark.parametrize("name", NAMES)
def test_sees_more_than_one_sentence_for_all(name: str) -> None:
    rows = Captioner.load(name).meta["metrics"]["test"]
    assert rows["captions"]["CIDEr-D"] > 1.5 * rows["constant"]["CIDEr-D"]
    assert rows["captions"]["CIDEr-D"] > 2 * rows["shuffled"]["CIDEr-D"]


def test_an_astronaut_is_a_person() -> None:
    [[caption]] = Captioner.load("tinynet-flickr8k").caption([sample("astronaut")])
    assert {"man", "woman", "girl", "boy", "person", "child", "people"} & set(caption.words)
    assert caption.attention is not None
    assert caption.attention.sum((1, 2)).tolist() == pytest.approx([1] * len(caption.words), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_card_are_measured_again(name: str) -> None:
    captioner = Captioner.load(name)
    recipe = CaptionRecipe.from_dict(captioner.meta["recipe"])
    if find(KNOWN[recipe.data]) is None:
        pytest.skip(f"{recipe.data} is not among SACCADE_ARCHIVES")
    test = load_captions(recipe.data, split="test", size=recipe.stored, fit=recipe.fit)
    found = evaluate_captions(captioner, test).rows["captions"].cider
    assert found == pytest.approx(captioner.meta["metrics"]["test"]["captions"]["CIDEr-D"], abs=0.005)
