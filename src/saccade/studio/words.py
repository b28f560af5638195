"""The last part of the tour: a captioner that ships speaks about photographs, and one learns to speak on the spot."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape

import torch
from torch import Tensor

from saccade.caption import (
    Caption,
    Captioner,
    CaptionRecipe,
    CaptionSet,
    Grounding,
    attention_tiles,
    evaluate_captions,
    features_of,
    find_caption_recipe,
    fit_captioner,
    load_captions,
    make_captioner,
    measure_grounding,
    reading,
)
from saccade.caption.captioner import make_encoder
from saccade.caption.evaluate import best_constant
from saccade.data.scenes import holds
from saccade.engine.guards import evaluating
from saccade.explain import METHODS, MapWarning, draw
from saccade.explain.draw import look_of
from saccade.pictures import resize, sheet
from saccade.studio.eye import PHOTOGRAPHS, square
from saccade.studio.page import image, made_by, paragraphs, per_cent, section
from saccade.train.fit import Callback

RECIPE = replace(
    find_caption_recipe("scenes"),
    name="tour",
    layer="stage3.unit2",
    fine_tune=0.0,
    normalise=True,
    options={"wordvec_dim": 64, "hidden_dim": 160, "attention_dim": 64, "dropout": 0.0},
    count=4000,
    epochs=8,
    fresh=0,
    batch_size=32,
    captions=2,
    lr=3e-3,
)
"""Of the captioner that learns on the spot: the decoder on the features of tinynet, which stays as it is."""

HELD_OUT = 200  # new scenes it is asked about
SHOWN = 12  # of them on the page
EXPLAINED = 4  # the photograph whose caption is explained word by word
REASONS: dict[str, dict[str, int]] = {"grad-cam": {}, "integrated-gradients": {"steps": 32}, "occlusion": {}}


@dataclass(frozen=True, eq=False)
class Spoken:
    """What the captioner that ships says of the photographs, None where none ships; and the one trained here.

    scenes: those it is asked about, with what it `said` of the first of them, good or bad. true: share of its captions
    that are wholly true, over all of them; constant: the same for one sentence, the best of those it was trained on.
    """

    captioner: Captioner | None
    captions: list[Caption]
    recipe: CaptionRecipe
    scenes: CaptionSet
    said: list[Caption]
    true: float
    constant: float
    grounding: Grounding | None
    seconds: float
    reasons: tuple["Reason", ...] = ()


@dataclass(frozen=True, eq=False)
class Reason:
    """Why a word: of which photograph, with which probability, and its maps by method."""

    photograph: int
    word: str
    probability: float
    maps: dict[str, Tensor]


def speak(
    captioner: Captioner | None,
    recipe: CaptionRecipe = RECIPE,
    *,
    callback: Callback | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Spoken:
    """Caption the photographs, then train a captioner on generated scenes and ask it about new ones."""
    captions = []
    if captioner is not None:
        captions = [best for best, *_ in captioner.caption([square(photograph) for photograph in PHOTOGRAPHS])]
    reasons = _explain(captioner, captions) if captioner is not None else ()
    say(f"Training a captioner on {recipe.count:,} generated scenes, {recipe.epochs} times over.")
    start = time.monotonic()
    train = load_captions("scenes", size=recipe.stored, seed=recipe.seed, count=recipe.count)
    fullest = tuple(captions[: recipe.captions] for captions in train.captions)  # "one shape" is true, and dull
    train = replace(train, captions=fullest)
    scenes = load_captions("scenes", split="val", size=recipe.stored, seed=recipe.seed, count=HELD_OUT)
    encoder = make_encoder(recipe.network, layer=recipe.layer, size=recipe.size)
    features = features_of(encoder, train, keep=False)
    made = make_captioner(recipe, train, features, encoder=encoder)
    made.meta["constant"] = best_constant(train, scenes)
    fit_captioner(made, train, recipe, features=features, callback=callback)
    seconds = time.monotonic() - start
    report = evaluate_captions(made, scenes)
    pictures = [_picture(scenes, i) for i in range(len(scenes))]
    said = [best for best, *_ in made.caption(pictures[:SHOWN])]
    found = Spoken(
        captioner,
        captions,
        recipe,
        scenes,
        said,
        report.true or 0.0,
        sum(holds(report.constant, scene) for scene in scenes.scenes) / len(scenes),
        measure_grounding(made, pictures, scenes.scenes),
        seconds,
        reasons,
    )
    say(f"{found.true:.0%} of its captions of {len(scenes)} new scenes are wholly true, after {seconds:.0f} seconds.")
    return found


def words_section(spoken: Spoken) -> str:
    """The part "What it says"."""
    return section(
        5,
        "What it says",
        paragraphs(
            "A captioner is a network that sees and a second one that speaks. Before each word, the second decides "
            "where in the picture to look next: how it shares its attention out among the places of a grid is part of "
            "what it computes, so it can be shown."
        )
        + _photographs(spoken)
        + _reasons(spoken)
        + _learner(spoken)
        + made_by("saccade caption photo.jpg --attention looks.png"),
    )


def figures(spoken: Spoken) -> dict[str, Tensor]:
    """The same as pictures for files: name of the file to (3, H, W)."""
    made = {
        f"caption_{photograph.sample}": attention_tiles(square(photograph), caption, smooth=True)
        for photograph, caption in zip(PHOTOGRAPHS, spoken.captions, strict=False)
        if caption.words
    }
    rows = range(0, len(spoken.said), 4)
    lines = [_lines(caption) for caption in spoken.said]
    pictures = [_picture(spoken.scenes, i) for i in range(len(spoken.said))]
    made["scene_captions"] = sheet(
        [pictures[i : i + 4] for i in rows], captions=[lines[i : i + 4] for i in rows], cell=200
    )
    return made


def _photographs(spoken: Spoken) -> str:
    if spoken.captioner is None:
        return paragraphs("No captioner ships with this version; <code>saccade caption train</code> makes one.")
    cards = ""
    for photograph, caption in zip(PHOTOGRAPHS, spoken.captions, strict=True):
        tiles = ""
        if caption.words:
            alt = f"{photograph.title}, once for each word, bright where the captioner looked for it"
            tiles = image(_tiles(square(photograph), caption), alt=alt, density=2, quality=80)
        cards += (
            f'<figure class="said"><figcaption><p class="title">“{escape(str(caption))}”</p><p class="quiet">'
            f"{escape(photograph.title)}; probability of the sentence {caption.probability:.1g}</p></figcaption>"
            f"{tiles}</figure>"
        )
    return (
        paragraphs(
            f'<b class="one">{escape(spoken.captioner.network.name)}</b> sees here, trained further for this, '
            "and a small recurrent network "
            "speaks that was trained by this project on the 30,000 captions of Flickr8k: photographs of people and "
            "dogs out of doors. It knows nothing else, so a cat becomes a dog and a rocket something that a person "
            "could do. Read each row from left to right: brighter is where it looked for the word. The maps are coarse "
            "and follow the word only now and then."
        )
        + f'<div class="sayings">{cards}</div>'
    )


def _explain(captioner: Captioner, captions: list[Caption]) -> tuple[Reason, ...]:
    """Up to four words of one caption: the longest ones, in their order."""
    words = captions[EXPLAINED].words
    if not words:
        return ()
    places = sorted(sorted(range(len(words)), key=lambda place: -len(words[place]))[:4])
    network = reading(captioner, words)
    picture = square(PHOTOGRAPHS[EXPLAINED])
    pixels = resize(picture, (captioner.size, captioner.size)).clamp(0, 1)[None].to(captioner.mean)
    with evaluating(network):
        shares = network(pixels)[0].exp()
    reasons = []
    for place in places:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapWarning)  # an empty map is shown as such
            maps = {name: METHODS[name].function(network, pixels, place, **more)[0] for name, more in REASONS.items()}
        reasons.append(Reason(EXPLAINED, words[place], float(shares[place]), maps))
    return tuple(reasons)


def _reasons(spoken: Spoken) -> str:
    if spoken.captioner is None or not spoken.reasons:
        return ""
    photograph = square(PHOTOGRAPHS[spoken.reasons[0].photograph])
    cells = ""
    for reason in spoken.reasons:
        figures = ""
        for name, map in reason.maps.items():
            drawn = resize(draw(photograph, map, look_of(METHODS[name])), 256)
            alt = f"{METHODS[name].title} for the word “{reason.word}”"
            figures += (
                f"<figure>{image(drawn, alt=alt, density=2, quality=85)}<figcaption>{escape(METHODS[name].title)}"
            )
            figures += "</figcaption></figure>"
        said = f"“{escape(reason.word)}”, {per_cent(reason.probability)} after the words before it"
        cells += f'<h4>{said}</h4><div class="triple">{figures}</div>'
    return (
        "<h3>Which part of the picture made it say this word?</h3>"
        + paragraphs(
            "Attention says where the captioner looked. What its words hang on is another question, which can be asked "
            "as for a class: held to its sentence, the captioner is a network whose answers are words. Here for "
            f"“{escape(str(spoken.captions[spoken.reasons[0].photograph]))}”."
        )
        + f'<div class="triples">{cells}</div>'
        + made_by("saccade explain photo.jpg --captioner tinynet-flickr8k --word helmet")
    )


def _learner(spoken: Spoken) -> str:
    recipe, scenes = spoken.recipe, spoken.scenes
    items = ""
    for i, caption in enumerate(spoken.said):
        kind = "yes" if holds(str(caption), scenes.scenes[i]) else "no"
        picture = image(_picture(scenes, i), alt="A generated scene", kind="pixels", format="png")
        items += f'<li>{picture}<p class="{kind}">{escape(str(caption))}</p></li>'
    first = next((i for i, each in enumerate(spoken.said) if holds(str(each), scenes.scenes[i])), 0)
    tiles = ""
    if spoken.said[first].words:
        picture = image(
            _tiles(_picture(scenes, first), spoken.said[first]),
            alt=f"The scene, once for each word of “{spoken.said[first]}”, bright where the captioner looked",
            density=2,
            quality=85,
        )
        tiles = f'<figure class="said">{picture}</figure>'
    looked = ""
    if spoken.grounding is not None:
        looked = (
            f"When it names an object, {per_cent(spoken.grounding.attention)} of its attention lies on the pixels of "
            f"that object; attention shared out evenly would have {per_cent(spoken.grounding.uniform)} there. "
        )
    return (
        "<h3>One that learned to speak while you waited</h3>"
        + paragraphs(
            f"Of generated scenes everything is known, so it can be checked whether a sentence is true. This captioner "
            f"was trained on {recipe.count:,} scenes and their sentences in {spoken.seconds:.0f} seconds. Of its "
            f"captions of {len(scenes)} new scenes <b>{per_cent(spoken.true)}</b> are wholly true: every object, "
            "attribute and relation. The best single sentence, said of all of them, is true of "
            f"{per_cent(spoken.constant)}. " + looked
        )
        + f'<ul class="scenes captioned">{items}</ul>'
        f'<p class="note">The first {len(spoken.said)} of them, good or bad.</p>' + tiles
    )


def _tiles(picture: Tensor, caption: Caption) -> Tensor:
    return attention_tiles(picture, caption, side=256, columns=8, smooth=True)


def _lines(caption: Caption, width: int = 28) -> str:
    """A sentence in lines."""
    lines = [""]
    for word in caption.words:
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def _picture(scenes: CaptionSet, i: int) -> Tensor:
    raw: Tensor = scenes.pictures[scenes.rows[i]]
    return raw.permute(2, 0, 1).to(torch.float32) / 255
