"""The tour: one page that shows, on this machine and in minutes, what the library is about."""

import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from saccade.caption import Captioner, CaptionRecipe, shipped_captioners
from saccade.engine.files import explain_os_error, write_text
from saccade.engine.run import versions
from saccade.errors import SaccadeError
from saccade.networks import Network, load
from saccade.pictures import write
from saccade.studio import answers, attacked, eye, grown, residual, styled, words
from saccade.studio.page import facts, page
from saccade.train.fit import Callback
from saccade.train.recipe import Recipe

NETWORKS = ("tinynet", "tinynet-robust")
ASKED = 1  # the photograph about which all methods are asked


def tour(
    folder: str | Path = "tour",
    *,
    networks: Sequence[str | Path] = NETWORKS,
    captioner: str | Path | None = None,
    recipe: Recipe = residual.RECIPE,
    speaker: CaptionRecipe = words.RECIPE,
    seconds: float | None = None,
    grow_steps: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    callback: Callback | None = None,
) -> Path:
    """Write `index.html`, one page that needs no other file, and its figures as PNG beside it.

    Args:
        folder: made if it is not there. An earlier page in it stays whole until the new one replaces it at the end.
        networks: one or two names or weight files of `saccade.load`; those that are not installed are left out, and the
            page says so.
        captioner: a name or file of `Captioner.load`; by default the first that ships, if any does.
        recipe: how plain32 and resnet32 are trained on generated scenes (`network` and `name` are set here). The same
            recipe gives the same networks on the same machine.
        speaker: how a captioner is trained on generated scenes.
        seconds: train on as many scenes as take about so long, both networks together, instead of `recipe.count`; the
            result then depends on the speed of the machine.
        grow_steps: of the pictures that are grown or repainted; by default as many as their recipes say.
        say: called with plain sentences about what is being done.
        callback: called with each row of measurements of the training (see `saccade.train.fit`).

    Returns:
        The path of the page.

    Raises:
        SaccadeError: none of the networks can be loaded, or the folder cannot be written (known before any training).
    """
    start = time.monotonic()
    folder = Path(folder)
    _check_writable(folder)
    loaded, missing = _load(networks, say)
    looks = [eye.look(network) for network in loaded]
    asked = looks[-1].answers[ASKED][0]  # of two networks, the robust one: its maps are the clearer ones
    found = answers.answers(loaded[-1], looks[-1].pictures[ASKED : ASKED + 1], asked.index)
    fooled = attacked.under_attack(looks)
    say(f"Looked at {len(eye.PHOTOGRAPHS)} photographs with {' and '.join(each.name for each in loaded)}.")
    source = captioner or next(iter(shipped_captioners()), None)
    ready = None if source is None else Captioner.load(source)
    looked = time.monotonic() - start
    imagined = grown.grow_all(loaded, steps=grow_steps, say=say)
    grew = time.monotonic() - start - looked
    painted = styled.restyle(loaded, steps=grow_steps, say=say)
    repainted = time.monotonic() - start - looked - grew
    if seconds is not None:
        recipe = residual.within(recipe, seconds)
    pair = residual.train_pair(recipe, callback=callback, say=say)
    spoken = words.speak(ready, speaker, callback=callback, say=say)
    trained = time.monotonic() - start - looked - grew - repainted
    photograph = eye.square(eye.PHOTOGRAPHS[ASKED])
    figures = eye.figures(looks) | {"methods": answers.answers_sheet(photograph, asked.name, found)}
    figures |= grown.figures(imagined) | residual.figures(pair) | words.figures(spoken) | styled.figures(painted)
    figures |= attacked.figures(fooled)
    more = answers.answers_html(loaded[-1], photograph, eye.PHOTOGRAPHS[ASKED].title, asked.index, found)
    more += attacked.attacked_html(fooled)
    parts = eye.see_section(looks) + eye.why_section(looks, more) + grown.grown_section(3, imagined)
    parts += residual.residual_section(pair) + words.words_section(spoken)
    parts += styled.styled_section(6, painted)
    times = {"photographs": looked, "growing": grew, "repainting": repainted, "training": trained}
    times["all"] = time.monotonic() - start
    html = page(
        "Saccade: a tour",
        _head(looks[-1], times["all"])
        + f"<main>{parts}</main>"
        + _colophon(loaded, missing, pair, spoken, list(figures), times),
        description="What trained networks see in photographs, why, what they say, and what residual connections are "
        "worth.",
    )
    for name, picture in figures.items():
        write(picture, folder / f"{name}.png")
    write_text(folder / "index.html", html)
    say(f"Wrote {folder / 'index.html'} after {time.monotonic() - start:.0f} seconds; open it in a browser.")
    return folder / "index.html"


def _load(sources: Sequence[str | Path], say: Callable[[str], None]) -> tuple[list[Network], list[str]]:
    """The networks that there are, and a sentence on each of the others."""
    if not 1 <= len(sources) <= 2:
        raise SaccadeError(f"The tour shows one network or two side by side; {len(sources)} were given.")
    loaded, missing = [], []
    for source in sources:
        try:
            loaded.append(load(source))
        except SaccadeError as error:
            missing.append(f"{source} was left out. {error}")
            say(missing[-1])
    if not loaded:
        raise SaccadeError(f"The tour needs a trained network to show. {missing[0]}")
    return loaded, missing


def _check_writable(folder: Path) -> None:
    """Fail before minutes of training, and not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise explain_os_error(error, folder / "index.html") from error


def _head(look: eye.Look, seconds: float) -> str:
    return (
        '<header><p class="name">Saccade</p><h1>Looking at how a network looks</h1>'
        '<p class="lead">A <i>saccade</i> is the jump of the eye from one point of attention to the next. This library '
        "is for looking into networks that look at pictures. Here are six photographs, four questions about them, "
        f"and two experiments. This machine computed all of it in {seconds:.0f} seconds, by "
        "<code>saccade tour</code>.</p>"
        f"{eye.strip(look)}"
        "<p>Upper left, the photograph. Lower right, how strongly each pixel moves the network’s answer.</p>"
        '<nav aria-label="Parts of this page"><a href="#part1">1 What it sees</a><a href="#part2">2 Why it decides '
        'so</a><a href="#part3">3 What it looks for</a><a href="#part4">4 What a residual connection is worth</a>'
        '<a href="#part5">5 What it says</a>'
        '<a href="#part6">6 In the style of</a></nav>'
        "</header>"
    )


def _colophon(
    networks: Sequence[Network],
    missing: Sequence[str],
    pair: residual.Pair,
    spoken: words.Spoken,
    figures: Sequence[str],
    times: dict[str, float],
) -> str:
    """Who made this page, with what, from what, when."""
    about = versions()
    rows = [
        (
            "Made",
            f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}, by <code>saccade tour</code>, in "
            f"{times['all']:.0f} seconds: {times['photographs']:.0f} for the photographs, {times['growing']:.0f} to "
            f"grow and {times['repainting']:.0f} to repaint pictures, "
            f"{times['training']:.0f} to train two networks and a captioner, the rest to draw",
        ),
        ("Machine", escape(f"{about['device']}, {about['threads']} threads, {about['system']}")),
        ("Versions", escape(f"saccade {about['saccade']}, PyTorch {about['torch']}, Python {about['python']}")),
        ("Seed", f"{pair.recipe.seed}; on the same machine the same seed gives the same networks, bit for bit"),
        *((network.name, escape(_card(network))) for network in networks),
        *(("Left out", escape(sentence)) for sentence in missing),
        ("Photographs", "samples of scikit-image, whose <code>skimage.data</code> states their sources and licences"),
        (
            "Scenes",
            f"drawn by <code>saccade.data.scenes({pair.recipe.count}, size={pair.recipe.size}, "
            f'seed={pair.recipe.seed})</code>, and with <code>split="val"</code>',
        ),
        (
            "Figures",
            "beside this page: " + ", ".join(f"{name}.png" for name in figures),
        ),
        (
            "Read on",
            "saliency: Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034; residual networks: He, Zhang, "
            "Ren and Sun 2015, arXiv:1512.03385, and 2016, arXiv:1603.05027; pictures grown from features: Olah and "
            "others 2017, distill.pub/2017/feature-visualization; captions with attention: Xu and others "
            "2015, arXiv:1502.03044; style: Gatys, Ecker and Bethge 2015, arXiv:1508.06576",
        ),
    ]
    if spoken.captioner is not None:
        meta = spoken.captioner.meta
        said = f"captioner on {spoken.captioner.network.name}, {len(spoken.captioner.vocabulary):,} words"
        rows.insert(-4, ("Captioner", escape(f"{said}; {meta.get('licence', 'licence unknown')}")))
    recipe = escape(json.dumps(pair.recipe.as_dict(), indent=1))
    summary = 'The recipe of the residual network; the plain one differs in <code>"network": "plain32"</code>'
    return (
        f"<footer><h2>How this page was made</h2>{facts(rows)}"
        f"<details><summary>{summary}</summary><pre>{recipe}</pre></details>"
        "<details><summary>The recipe of the captioner that was trained here</summary><pre>"
        f"{escape(json.dumps(spoken.recipe.as_dict(), indent=1))}</pre></details></footer>"
    )


def _card(network: Network) -> str:
    """What is known of a network, in a line."""
    said = [f"{sum(p.numel() for p in network.parameters()):,} parameters"]
    if network.classes:
        said.append(f"{len(network.classes)} classes")
    meta = network.meta
    if "accuracy" in meta:
        said.append(str(meta["accuracy"]))
    elif "val_accuracy" in meta:
        said.append(f"{meta['val_accuracy']:.1%} right on its validation pictures".replace("%", " %"))
    recipe = meta.get("recipe") or {}
    if recipe.get("adversarial", "none") != "none":
        said.append(f"trained under attack ({recipe['adversarial']}, eps {recipe['eps']:.4f})")
    return ", ".join(said)
