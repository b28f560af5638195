"""Sentences about generated scenes: saying true ones, and checking whether any is true.

    sentence = (thing | thing relation thing | thing "and" thing | count things) ["on a" ground "background"]
             | "there" ("is" | "are") count things
    thing    = "a" [size] [texture] [colour] shape
    relation = "above" | "below" | "left of" | "right of"
    count    = "one" | "two" | "three" | "four"

A shape is a word of `SHAPES` or "shape", which is any. A thing without a size, texture or colour may have
any. "a" says that there is at least one, a number says how many there are exactly, and two things are two
different objects. One object is above another if its centre is higher by at least 0.12 of the side and by
more than it is to the side; likewise the other relations, so at most one of the four holds between two
objects.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.data.scene_draw import COLOURS, SIZES
from saccade.data.scene_shapes import BACKGROUNDS, FILLS, SHAPES
from saccade.errors import SaccadeError

RELATIONS = ("above", "below", "left of", "right of")
COUNTS = ("one", "two", "three", "four")
_APART = 0.12
_PLURALS = {**{shape: f"{shape}s" for shape in SHAPES}, "cross": "crosses", "shape": "shapes"}
_SINGULARS = {plural: shape for shape, plural in _PLURALS.items()}


@dataclass(frozen=True)
class SceneObject:
    """One shape. centre: (x, y) as shares of the side. box: left, top, right, bottom of what shows of it, in
    pixels, the last two exclusive."""

    shape: str
    colour: str
    texture: str
    size: str
    centre: tuple[float, float]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """What a noun phrase asks of an object; None admits anything."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None

    def fits(self, thing: SceneObject) -> bool:
        """Whether an object is such a thing."""
        return all(
            wanted is None or wanted == getattr(thing, field)
            for field, wanted in (
                ("shape", self.shape),
                ("colour", self.colour),
                ("texture", self.texture),
                ("size", self.size),
            )
        )

    def words(self, *, plural: bool = False) -> str:
        """The adjectives and the noun, without an article."""
        noun = self.shape or "shape"
        given = (self.size, self.texture, self.colour, _PLURALS[noun] if plural else noun)
        return " ".join(word for word in given if word)

    def __str__(self) -> str:
        words = self.words()
        return f"an {words}" if words[0] in "aeiou" else f"a {words}"


@dataclass(frozen=True)
class Claim:
    """What a sentence says. count: None, or how many objects fit `first` exactly. relation: one of
    `RELATIONS`, "and", or None when there is no `second`. background: None if nothing is said about it."""

    first: Thing
    relation: str | None = None
    second: Thing | None = None
    count: int | None = None
    background: str | None = None


_NOUNS = "|".join([*_PLURALS, *_SINGULARS])
_THING = rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(FILLS)}) )?(?:({'|'.join(COLOURS)}) )?({_NOUNS})"
_SENTENCE = re.compile(
    rf"(?:there (?:is|are) )?(an?|{'|'.join(COUNTS)}) {_THING}"
    rf"(?: ({'|'.join(RELATIONS)}|and) an? {_THING})?"
    rf"(?: on an? ({'|'.join(BACKGROUNDS)}) background)?"
)


def parse(caption: str) -> Claim:
    """What a sentence claims.

    Raises:
        SaccadeError: it is no sentence of the grammar.
    """
    words = (
        " ".join(re.findall(r"[a-z]+", caption.lower())).replace("to the left", "left").replace("to the right", "right")
    )
    match = _SENTENCE.fullmatch(words)
    if match is None:
        raise SaccadeError(f"Reading the sentence {caption!r}: it is not of the scenes' grammar (see scene_grammar).")
    article, *first, relation, size, texture, colour, noun, background = match.groups()
    count = COUNTS.index(article) + 1 if article in COUNTS else None
    agrees = (first[3] in _SINGULARS) == (count is not None and count > 1)
    if not agrees or (noun in _SINGULARS) or (count is not None and relation is not None):
        raise SaccadeError(f"Reading the sentence {caption!r}: its number and its nouns do not agree.")
    second = None if relation is None else _thing(size, texture, colour, noun)
    return Claim(_thing(*first), relation, second, count, background)


def _thing(size: str | None, texture: str | None, colour: str | None, noun: str) -> Thing:
    shape = _SINGULARS.get(noun, noun)
    return Thing(None if shape == "shape" else shape, colour, texture, size)


def related(first: SceneObject, second: SceneObject) -> str | None:
    """Which of `RELATIONS` the first object has to the second; None if they are too close or stand
    obliquely."""
    right, down = first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]
    if max(abs(right), abs(down)) < _APART or abs(right) == abs(down):
        return None
    if abs(down) > abs(right):
        return "below" if down > 0 else "above"
    return "right of" if right > 0 else "left of"


def true_of(claim: Claim, objects: Sequence[SceneObject], background: str) -> bool:
    """Whether a claim is true where there are these objects on such a background."""
    if claim.background not in (None, background):
        return False
    first = [thing for thing in objects if claim.first.fits(thing)]
    if claim.count is not None:
        return len(first) == claim.count
    if claim.second is None:
        return bool(first)
    pairs = ((a, b) for a in first for b in objects if a is not b and claim.second.fits(b))
    return any(claim.relation in ("and", related(a, b)) for a, b in pairs)


def _full(thing: SceneObject) -> Thing:
    texture = None if thing.texture == "plain" else thing.texture
    return Thing(thing.shape, thing.colour, texture, thing.size)


def full_caption(objects: Sequence[SceneObject], main: int, background: str) -> str:
    """The main object and its nearest companion, in all detail, and the background."""
    subject = objects[main]
    others = [thing for k, thing in enumerate(objects) if k != main]
    end = f" on a {background} background"
    if not others:
        return f"{_full(subject)}{end}"
    x, y = subject.centre
    nearest = min(others, key=lambda thing: (thing.centre[0] - x) ** 2 + (thing.centre[1] - y) ** 2)
    return f"{_full(nearest)} {related(nearest, subject) or 'and'} {_full(subject)}{end}"


def captions_of(
    objects: Sequence[SceneObject], main: int, background: str, *, key: int, count: int = 5
) -> tuple[str, ...]:
    """Up to `count` different true sentences: `full_caption`, then others drawn by `key`."""
    dice = random.Random(key)
    found = [full_caption(objects, main, background)]
    for _ in range(4 * count):
        if len(found) == count:
            break
        sentence = _say(objects, background, dice)
        if sentence not in found:
            found.append(sentence)
    return tuple(found)


def _say(objects: Sequence[SceneObject], background: str, dice: random.Random) -> str:
    """One true sentence, of a form and in a detail chosen by chance."""
    subject, *others = dice.sample(objects, min(2, len(objects)))
    form = dice.random()
    if others and form < 0.6:
        relation = (related(subject, others[0]) if form < 0.5 else None) or "and"
        sentence = f"{_loosely(subject, dice)} {relation} {_loosely(others[0], dice)}"
    elif form < 0.8:
        thing = Thing() if dice.random() < 0.25 else _loosely(subject, dice, likely=0.25)
        number = sum(thing.fits(other) for other in objects)
        sentence = f"{COUNTS[number - 1]} {thing.words(plural=number > 1)}"
        if dice.random() < 0.3:
            sentence = f"there {'is' if number == 1 else 'are'} {sentence}"
    else:
        sentence = str(_loosely(subject, dice))
    return f"{sentence} on a {background} background" if dice.random() < 0.15 else sentence


def _loosely(subject: SceneObject, dice: random.Random, *, likely: float = 0.75) -> Thing:
    """An object described by some of its properties, its shape nearly always."""
    full = _full(subject)
    keep = [dice.random() < chance for chance in (0.92, likely + 0.1, likely, likely - 0.2)]
    return Thing(
        *(
            value if kept else None
            for value, kept in zip((full.shape, full.colour, full.texture, full.size), keep, strict=True)
        )
    )
