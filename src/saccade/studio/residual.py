"""The third part of the tour: two networks of equal depth, trained before one's eyes, one with shortcuts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.data import ImageSet, scenes
from saccade.engine.guards import evaluating
from saccade.engine.precision import Precision
from saccade.pictures import Curve, curves, sheet
from saccade.studio.page import image, made_by, paragraphs, per_cent, section
from saccade.train.fit import Callback, Fitted, fit
from saccade.train.recipe import Recipe
from saccade.train.train import make_network

RECIPE = Recipe(
    "tour", "resnet32", "scenes", size=32, count=4096, epochs=6, batch_size=64, lr=0.05, flip="none", precision="fp32"
)
"""Of the residual network; the plain one differs in `network` only."""

VAL = 1000  # scenes kept for validation
SHOWN = 24  # scenes on the page
NAMES = {"plain32": "plain", "resnet32": "residual"}
FP32 = Precision("fp32", "the same bits on every run")


@dataclass(frozen=True, eq=False)
class Pair:
    """Both networks trained, and what the residual one says of the first scenes of the validation set.

    fitted: by architecture. pictures: (N, 3, S, S). labels, said: (N,), the truth and the answer.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    fitted: dict[str, Fitted]
    pictures: Float[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    said: Int[Tensor, " n"]

    def accuracies(self, network: str) -> list[float]:
        """On the validation scenes, after each epoch."""
        return [row["val_accuracy"] for row in self.fitted[network].history if "val_accuracy" in row]


def train_pair(
    recipe: Recipe = RECIPE,
    *,
    val: int = VAL,
    callback: Callback | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Pair:
    """Train plain32 and resnet32 on the same generated scenes in the same order; a seed gives one result."""
    train = scenes(recipe.count, size=recipe.size, seed=recipe.seed)
    held_out = scenes(val, size=recipe.size, seed=recipe.seed, split="val")
    fitted = {}
    for name in NAMES:
        say(f"Training {name} on {recipe.count:,} generated scenes, {recipe.epochs} times over.")
        fitted[name] = _train(replace(recipe, name=name, network=name), train, held_out, callback)
        say(
            f"{name} names {fitted[name].history[-1]['val_accuracy']:.0%} of {val:,} new scenes rightly, after "
            f"{fitted[name].seconds:.0f} seconds."
        )
    raw, labels = held_out.take(torch.arange(min(SHOWN, val)))
    pictures = raw.permute(0, 3, 1, 2).float() / 255
    with evaluating(fitted["resnet32"].network):
        said = fitted["resnet32"].network(pictures).argmax(1)
    return Pair(recipe, train.classes, fitted, pictures, labels, said)


def within(recipe: Recipe, seconds: float) -> Recipe:
    """The recipe with as many scenes as both networks can be trained on in about `seconds` on this machine."""
    few = replace(recipe, count=4 * recipe.batch_size, epochs=1)
    train = scenes(few.count, size=few.size, seed=few.seed)
    _train(few, train, None, None)  # warms up
    spent = _train(few, train, None, None).seconds
    affordable = seconds / 2 / recipe.epochs / spent * few.count
    return replace(recipe, count=max(1, round(affordable / recipe.batch_size)) * recipe.batch_size)


def residual_section(pair: Pair) -> str:
    """The part "What a residual connection is worth": the blocks, the curves, and scenes with answers."""
    recipe = pair.recipe
    accuracy, loss = _plots(pair)
    alts = (
        _spell("Share of new scenes named rightly", pair, pair.accuracies),
        _spell("Loss in training", pair, partial(_losses, pair)),
    )
    captions = (
        "Scenes of the validation set named rightly, after each pass through the training scenes.",
        "The loss on the scenes being trained on.",
    )
    plots = "".join(
        f"<figure>{image(plot, alt=alt, kind='plot', density=2, quality=100)}"
        f'<figcaption class="quiet">{caption}</figcaption></figure>'
        for plot, alt, caption in zip((accuracy, loss), alts, captions, strict=True)
    )
    right = int((pair.said == pair.labels).sum())
    shapes = ", ".join(pair.classes[:-1]) + f" or {pair.classes[-1]}"
    return section(
        4,
        "What a residual connection is worth",
        paragraphs(
            "Deep networks used to be hard to train: past some depth, more layers made them worse. In 2015 Kaiming He "
            "and colleagues mended it with one addition. In a plain network each block of layers replaces what came in "
            "by its own result; in a residual network it adds its result to what came in. A block that has learned "
            "nothing yet then passes its input on, and the training signal finds its way back to the first layers.",
        )
        + f'<div class="blocks"><figure>{_diagram(False)}<figcaption>A plain block: y = F(x)</figcaption></figure>'
        f"<figure>{_diagram(True)}<figcaption>A residual block: y = x + F(x)</figcaption></figure></div>"
        + paragraphs(
            f"Here are both, 32 layers deep. They differ in the additions only{_surplus(pair)}. They were trained "
            f"while you waited, on the same {recipe.count:,} generated scenes in the same order, {recipe.epochs} times "
            f"over. The task is to name the shape of the largest object: {escape(shapes)}. Guessing gets "
            f"{per_cent(1 / len(pair.classes))} of them right.",
            _verdict(pair),
        )
        + f'<div class="plots">{plots}</div>'
        + f"<h3>The first {len(pair.labels)} scenes of the validation set, as the residual network names them</h3>"
        f'<p class="note">{right} of {len(pair.labels)} are right. They are the first of the set, good or bad, and '
        "neither network was trained on any of them.</p>"
        f'<ul class="scenes">{"".join(_scene(pair, i) for i in range(len(pair.labels)))}</ul>'
        + made_by("fit(make_network(recipe, scenes), scenes, recipe, val=new_scenes)", "with the recipe given below"),
    )


def figures(pair: Pair) -> dict[str, Tensor]:
    """The same as pictures for files: name of the file to (3, H, W)."""
    accuracy, loss = _plots(pair)
    captions = [
        pair.classes[said] + ("" if said == label else f"\nis a {pair.classes[label]}")
        for said, label in zip(pair.said.tolist(), pair.labels.tolist(), strict=True)
    ]
    rows = range(0, len(captions), 8)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "scenes": sheet(
            [list(pair.pictures[i : i + 8]) for i in rows], captions=[captions[i : i + 8] for i in rows], cell=96
        ),
    }


def _train(recipe: Recipe, train: ImageSet, val: ImageSet | None, callback: Callback | None) -> Fitted:
    network = make_network(recipe, train)
    return fit(network, train, recipe, val=val, callback=callback, precision=FP32, log_every=8)


def _plots(pair: Pair) -> tuple[Tensor, Tensor]:
    """Accuracy on validation scenes, and loss in training, of both networks over the epochs."""
    epochs = pair.recipe.epochs
    accuracy = {NAMES[n]: Curve(pair.accuracies(n), colour=i) for i, n in enumerate(pair.fitted)}
    accuracy["chance"] = Curve([1 / len(pair.classes)] * epochs, colour=6, style="dashed")
    loss = {
        NAMES[name]: Curve(
            _losses(pair, name), x=[row["step"] * epochs / row["steps"] for row in fitted.history], colour=i
        )
        for i, (name, fitted) in enumerate(pair.fitted.items())
    }
    size: dict[str, Any] = {"width": 480, "height": 300, "x_label": "passes through the scenes"}
    return (
        curves(accuracy, y_label="named rightly, of new scenes", percent=True, y_range=(0, 1), **size),
        curves(loss, y_label="loss in training", y_range=(0, None), **size),
    )


def _losses(pair: Pair, network: str) -> list[float]:
    return [row["loss"] for row in pair.fitted[network].history]


def _spell(what: str, pair: Pair, values: Callable[[str], list[float]]) -> str:
    """A plot in words."""
    ends = (f"{NAMES[name]} from {values(name)[0]:.2f} to {values(name)[-1]:.2f}" for name in pair.fitted)
    return f"{what}: {', '.join(ends)}"


def _verdict(pair: Pair) -> str:
    """What came out, from the figures of this run."""
    plain, residual = (pair.accuracies(name)[-1] for name in ("plain32", "resnet32"))
    seconds = [pair.fitted[name].seconds for name in ("plain32", "resnet32")]
    result = (
        f"After {seconds[0]:.0f} and {seconds[1]:.0f} seconds of training, the plain network names "
        f'<b class="one">{per_cent(plain)}</b> of new scenes rightly, the residual network '
        f'<b class="two">{per_cent(residual)}</b>. '
    )
    if residual - plain > 0.05:
        return result + (
            "This is one short run of each, from one seed. With more time the plain network gets further, too; what "
            "you see is how much longer it takes to get going."
        )
    if plain - residual > 0.05:
        return result + "This time the plain one is ahead. One short run can come out so; try another seed."
    return result + "In so short a run they came out about equal; train longer to see them part."


def _surplus(pair: Pair) -> str:
    """Where the number of channels changes, an addition needs a small convolution; what these cost."""
    plain, residual = (
        sum(p.numel() for p in pair.fitted[name].network.parameters()) for name in ("plain32", "resnet32")
    )
    if residual == plain:
        return ""
    return (
        f", two of which need a small layer of their own, where the number of channels changes: {residual:,} numbers "
        f"to learn instead of {plain:,}"
    )


def _scene(pair: Pair, i: int) -> str:
    said, label = pair.classes[int(pair.said[i])], pair.classes[int(pair.labels[i])]
    picture = image(pair.pictures[i], alt=f"A scene whose largest object is a {label}", kind="pixels", format="png")
    if said == label:
        return f'<li>{picture}<p class="yes">{escape(said)}</p></li>'
    return f'<li>{picture}<p class="no">{escape(said)}</p><p>is a {escape(label)}</p></li>'


def _diagram(residual: bool) -> str:
    """A block as a drawing: two layers in a row, and perhaps the line that goes round them."""
    around = (
        '<path d="M30 62V22H200V48" fill="none" stroke="var(--two)" stroke-width="2.5"/>'
        '<path d="M195.5 46h9l-4.5 6z" fill="var(--two)"/><circle cx="200" cy="62" r="10" fill="none" '
        'stroke="currentColor"/><path d="M195 62h10M200 57v10M178 62h12M210 62h34" stroke="currentColor"/>'
    )
    straight = '<path d="M178 62h66" stroke="currentColor"/>'
    line = '<path d="M4 62h38M104 62h12" stroke="currentColor"/>' + (around if residual else straight)
    boxes = "".join(
        f'<rect x="{x}" y="45" width="62" height="34" rx="4" fill="none" stroke="currentColor"/>'
        f'<text x="{x + 31}" y="66" text-anchor="middle">layer</text>'
        for x in (42, 116)
    )
    title = "Two layers in a row" + (", and a line around them that adds the input to their result" if residual else "")
    return (
        f'<svg viewBox="0 0 260 92" role="img" aria-label="{title}">{line}{boxes}'
        '<path d="M242 57.5l8 4.5-8 4.5z"/><text x="6" y="56" font-style="italic">x</text>'
        '<text x="246" y="52" font-style="italic">y</text></svg>'
    )
