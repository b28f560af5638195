"""Recipes: overriding from text with checked types, and the way to JSON and back."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.augment import Augment
from saccade.errors import SaccadeError
from saccade.train.recipe import Recipe
from saccade.train.recipes import RECIPES, find_recipe

BASE = Recipe("base", "tinynet", "cifar10")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_shipped_recipe_survives_json(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert find_recipe(name) is recipe
    assert isinstance(recipe.augment, Augment)


def test_an_unknown_recipe_or_field_is_named():
    with pytest.raises(SaccadeError, match="no recipe 'fastest'"):
        find_recipe("fastest")
    with pytest.raises(SaccadeError, match="no field 'colour'; it may be from another version"):
        Recipe.from_dict({**BASE.as_dict(), "colour": 1})
    with pytest.raises(SaccadeError, match=r"no field 'learning-rate'; its fields are name, .*epochs.*lr"):
        BASE.override({"learning-rate": "1"})


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("epochs", "3", 3),
        ("lr", "1e-3", 1e-3),
        ("lr", "2", 2.0),
        ("nesterov", "false", False),
        ("nesterov", "Yes", True),
        ("lookahead", "1", True),
        ("schedule", "cosine", "cosine"),
        ("batch-size", "64", 64),
        ("weight_decay", "0", 0.0),
        ("sizes", "32,48,64", (32, 48, 64)),
        ("sizes", "32", (32,)),
        ("sizes", "", ()),
        ("milestones", "6,8.5", (6.0, 8.5)),
        ("options", '{"widths": [8, 16]}', {"widths": [8, 16]}),
        ("start", "runs/1/best.safetensors", "runs/1/best.safetensors"),
        ("val", "-1", -1.0),
    ],
)
def test_values_given_as_text(field, text, value):
    changed = BASE.override({field: text})
    found = getattr(changed, field.replace("-", "_"))
    assert found == value
    assert type(found) is type(value)
    name = field.replace("-", "_")
    assert replace(changed, **{name: getattr(BASE, name)}) == BASE  # nothing else changed


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("epochs", "3.5", "a whole number"),
        ("epochs", "many", "a whole number"),
        ("lr", "fast", "a number"),
        ("nesterov", "maybe", "true or false"),
        ("schedule", "triangle", "one of one-cycle, cosine, linear, step, constant"),
        ("sizes", "32,big", "numbers separated by commas"),
        ("options", "[1]", "a JSON object"),
        ("options", "{", "a JSON object"),
    ],
)
def test_wrong_text_says_what_is_expected(field, text, expected):
    with pytest.raises(SaccadeError) as caught:
        BASE.override({field: text})
    assert str(caught.value).startswith(f"--{field} got {text!r}; {expected} is expected.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "0"}, "epochs must be 1 or more"),
        ({"batch_size": "-4"}, "batch_size must be 1 or more"),
        ({"lr": "0"}, "lr must be above zero"),
        ({"lr": "nan"}, "lr must be above zero"),
        ({"momentum": "1"}, r"momentum must be in \[0, 1\)"),
        ({"warmup": "1"}, r"warmup must be in \[0, 1\)"),
        ({"weight_decay": "-1"}, "weight_decay must be 0 or more"),
        ({"mixup": "-1"}, "mixup and cutmix must be 0 or more"),
        ({"label_smoothing": "1"}, r"label_smoothing must be in \[0, 1\)"),
        ({"ema": "-1"}, "ema, clip and patience must be 0 or more"),
        ({"attack_steps": "0"}, "attack_steps must be 1 or more"),
        ({"adversarial": "linf"}, "eps must be above zero where adversarial is set"),
        ({"beta": "-1"}, "beta and awp must be 0 or more"),
        ({"awp": "-1"}, "beta and awp must be 0 or more"),
        ({"defence": "trades"}, "defence trades needs adversarial to be linf or l2"),
        (
            {"defence": "mart", "adversarial": "l2", "eps": "1", "cutmix": "1"},
            "defence mart takes no mixup, cutmix or label_smoothing",
        ),
        (
            {"defence": "free", "adversarial": "l2", "eps": "1", "awp": "0.01"},
            "awp does not go with defence free, which has no second look at a batch",
        ),
        ({"defence": "ibp"}, "defence ibp needs adversarial to be linf or l2"),
        ({"defence": "ibp", "adversarial": "l2", "eps": "1"}, "defence ibp needs adversarial to be linf"),
        ({"noise": "-1"}, "noise must be 0 or more"),
        ({"noise": "0.1", "adversarial": "l2", "eps": "1"}, "noise needs adversarial to be none"),
        ({"ramp": "1.1"}, r"ramp and clean_weight must be in \[0, 1\]"),
        ({"clean_weight": "-0.1"}, r"ramp and clean_weight must be in \[0, 1\]"),
        ({"end_factor": "-0.1"}, "start_factor and end_factor must be 0 or more"),
    ],
)
def test_values_that_make_no_sense(changes, message):
    with pytest.raises(SaccadeError, match=rf"Recipe base: {message}\."):
        BASE.override(changes)


def unchecked(values):
    """What a user without the tests' type checks gets."""
    recipe = object.__new__(Recipe)
    for key, value in values.items():
        object.__setattr__(recipe, key, value)
    recipe.__post_init__()


@pytest.mark.parametrize("field", ["optimiser", "schedule", "flip", "adversarial", "defence", "tta", "precision"])
def test_a_choice_that_there_is_not_is_refused_and_not_read_as_a_default(field):
    with pytest.raises(SaccadeError, match=rf"Recipe base: {field} must be one of .*, got 'other'"):
        unchecked({**BASE.as_dict(), field: "other"})


def test_a_change_of_two_fields_that_only_fit_together():
    changed = BASE.override({"adversarial": "l2", "eps": "0.5", "attack-steps": "3"})
    assert (changed.adversarial, changed.eps, changed.attack_steps) == ("l2", 0.5, 3)


def test_sizes_by_epoch():
    recipe = replace(BASE, sizes=(32, 32, 48))
    assert [recipe.size_at(epoch) for epoch in range(5)] == [32, 32, 48, 48, 48]
    assert BASE.size_at(3) is None
    assert replace(BASE, size=40).size_at(3) == 40


def test_the_last_epochs_are_not_cropped():
    recipe = replace(BASE, epochs=5, crop=0.4, uncropped=2)
    assert [recipe.crop_at(epoch) for epoch in range(5)] == [0.4, 0.4, 0.4, 1.0, 1.0]
    assert replace(recipe, uncropped=0).crop_at(4) == 0.4
    with pytest.raises(SaccadeError, match="uncropped must be 0 or more"):
        replace(recipe, uncropped=-1)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_numbers_survive_json_exactly(data):
    changes = {}
    for field in fields(Recipe):
        if field.type in ("float", float) and field.name not in ("crop",):
            changes[field.name] = data.draw(st.floats(0.001, 0.99))
        elif field.type in ("int", int):
            changes[field.name] = data.draw(st.integers(1, 1000))
    recipe = replace(BASE, **changes)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert BASE.override({key: repr(value) for key, value in changes.items()}) == recipe


def test_a_radius_may_be_given_as_a_fraction() -> None:
    assert find_recipe("tinynet-robust").override({"eps": "8/255"}).eps == 8 / 255
