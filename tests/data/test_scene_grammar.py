import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data import Scene, describe, draw_scenes, holds
from saccade.data.scene_draw import COLOURS, SIZES
from saccade.data.scene_grammar import COUNTS, RELATIONS, SceneObject, Thing, parse, related
from saccade.data.scene_shapes import FILLS, SHAPES
from saccade.errors import SaccadeError


def staged(*things: tuple[str, float, float], background: str = "woven") -> Scene:
    """A scene with objects given as ("small striped red ring", x, y)."""
    objects = []
    for words, x, y in things:
        size, texture, colour, shape = words.split()
        objects.append(SceneObject(shape, colour, texture, size, (x, y), (0, 0, 1, 1)))
    empty = torch.zeros(len(objects), 16, 16, dtype=torch.bool)
    return Scene(
        torch.zeros(16, 16, 3, dtype=torch.uint8),
        SHAPES.index(objects[0].shape),
        tuple(objects),
        0,
        empty,
        background,
        (),
    )


STAGE = staged(
    ("large striped blue square", 0.5, 0.7),
    ("small plain red ring", 0.45, 0.2),
    ("small dotted red ring", 0.9, 0.25),
)


@pytest.mark.parametrize(
    "caption",
    [
        "a small red ring above a large striped blue square",  # the example of the documentation
        "A small red ring, above a large striped blue square.",
        "a large blue square below a ring",
        "a dotted ring right of a plain ring",
        "a ring to the left of a ring",
        "a ring",
        "a red shape",
        "two rings",
        "two red shapes",
        "three shapes",
        "there are two small rings",
        "there is one square",
        "one striped shape",
        "a square and a ring",
        "a ring and a ring",
        "a ring on a woven background",
    ],
)
def test_true_sentences(caption: str) -> None:
    assert holds(caption, STAGE)


@pytest.mark.parametrize(
    "caption",
    [
        "a small red ring below a large striped blue square",
        "a striped ring above a blue square",
        "a large red ring",
        "a green shape",
        "one ring",
        "three rings",
        "four shapes",
        "a square and a square",  # there is only one
        "a dotted red ring left of a plain red ring",
        "a ring on a dotted background",
        "a square above a square",
        "a dotted ring right of a square",  # it stands obliquely, more above than to the right
    ],
)
def test_false_sentences(caption: str) -> None:
    parse(caption)
    assert not holds(caption, STAGE)


NOT_OF_THE_GRAMMAR = """a
ring
a blue
a ring above
a red small ring
two ring
a rings
one rings
a ring near a square
two rings above a square
a ring above two squares
five rings
a ring and a square and a star
an elephant"""


@pytest.mark.parametrize("caption", ["", *NOT_OF_THE_GRAMMAR.splitlines()])
def test_other_sentences_are_refused(caption: str) -> None:
    with pytest.raises(SaccadeError, match="Reading the sentence"):
        parse(caption)
    assert not holds(caption, STAGE)


things = st.builds(
    Thing,
    st.none() | st.sampled_from(SHAPES),
    st.none() | st.sampled_from(list(COLOURS)),
    st.none() | st.sampled_from(FILLS),
    st.none() | st.sampled_from(list(SIZES)),
)


@given(things, things, st.sampled_from([*RELATIONS, "and"]))
def test_what_is_said_is_understood(first: Thing, second: Thing, relation: str) -> None:
    claim = parse(f"{first} {relation} {second}")
    assert (claim.first, claim.relation, claim.second, claim.count) == (first, relation, second, None)


@given(things, st.integers(1, 4))
def test_numbers_are_understood(thing: Thing, count: int) -> None:
    claim = parse(f"{COUNTS[count - 1]} {thing.words(plural=count > 1)}")
    assert (claim.first, claim.count, claim.second) == (thing, count, None)


places = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(places, places)
def test_relations_are_opposite_and_exclusive(one: tuple[float, float], other: tuple[float, float]) -> None:
    a, b = (SceneObject("ring", "red", "plain", "small", place, (0, 0, 1, 1)) for place in (one, other))
    opposite = {"above": "below", "below": "above", "left of": "right of", "right of": "left of", None: None}
    assert related(b, a) == opposite[related(a, b)]
    scene = staged(("small plain red ring", *one), ("small plain blue star", *other))
    said = [relation for relation in RELATIONS if holds(f"a ring {relation} a star", scene)]
    assert said == ([] if related(a, b) is None else [related(a, b)])


def own_check(caption: str, scene: Scene) -> bool:
    """A second reading of the grammar, word by word, for the sentences that scenes come with."""
    words = caption.removeprefix("there is ").removeprefix("there are ")
    if found := re.search(r" on a (\w+) background$", words):
        if found.group(1) != scene.background:
            return False
        words = words[: found.start()]

    def fitting(phrase: str) -> list[int]:
        wanted = [re.sub(r"(?<=cross)es$|s$", "", word) if word not in ("cross",) else word for word in phrase.split()]
        wanted = [word for word in wanted if word not in ("a", "an", "shape", *COUNTS)]
        return [
            k
            for k, thing in enumerate(scene.objects)
            if set(wanted) <= {thing.shape, thing.colour, thing.texture, thing.size}
        ]

    for relation in (" above ", " below ", " left of ", " right of ", " and "):
        if relation in words:
            first, second = (fitting(part) for part in words.split(relation))
            for i, j in itertools.product(first, second):
                (x, y), (u, v) = scene.objects[i].centre, scene.objects[j].centre
                holds_here = {
                    " above ": v - y >= 0.12 and v - y > abs(x - u),
                    " below ": y - v >= 0.12 and y - v > abs(x - u),
                    " left of ": u - x >= 0.12 and u - x > abs(y - v),
                    " right of ": x - u >= 0.12 and x - u > abs(y - v),
                    " and ": True,
                }
                if i != j and holds_here[relation]:
                    return True
            return False
    first_word = words.split()[0]
    return len(fitting(words)) == COUNTS.index(first_word) + 1 if first_word in COUNTS else bool(fitting(words))


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return draw_scenes(range(200), size=16)


def test_captions_are_true_several_and_varied(drawn: list[Scene]) -> None:
    for scene in drawn:
        assert scene.captions[0] == describe(scene)
        assert 3 <= len(scene.captions) == len(set(scene.captions)) <= 5
        for caption in scene.captions:
            assert holds(caption, scene)
            assert own_check(caption, scene)
    everything = " ".join(caption for scene in drawn for caption in scene.captions)
    wanted = [*SHAPES, *COLOURS, *FILLS[1:], *SIZES, *RELATIONS, "and", "two", "one", "there are", "background"]
    assert [word for word in wanted if word not in everything] == []


@settings(max_examples=60)
@given(st.integers(0, 199), st.integers(0, 199), st.integers(0, 4))
def test_captions_of_other_scenes_are_judged_alike_by_both_readings(
    drawn: list[Scene], one: int, other: int, which: int
) -> None:
    caption = drawn[other].captions[which % len(drawn[other].captions)]
    assert holds(caption, drawn[one]) == own_check(caption, drawn[one])


def test_a_description_tells_scenes_apart(drawn: list[Scene]) -> None:
    wrong = sum(holds(describe(a), b) for a, b in itertools.permutations(drawn[:30], 2))
    assert wrong < 30 * 29 * 0.01
