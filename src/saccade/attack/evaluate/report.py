"""An evaluation as a page that needs no other file, and as JSON for machines."""

import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from saccade.attack.evaluate.evaluation import Evaluation
from saccade.attack.evaluate.wilson import Share
from saccade.engine.files import write_text
from saccade.engine.run import versions
from saccade.pictures import Curve, curves
from saccade.pictures.html import image, page

SHOWN = 12  # pictures on the page
BINS = 24
LARGE = 128  # pixels from which on a picture is shown as it is, and not as squares


def write_report(
    found: Evaluation,
    pictures: Tensor,
    folder: str | Path,
    *,
    network: str = "the network",
    data: str = "pictures",
    classes: Sequence[str] | None = None,
    made_by: str = "",
) -> Path:
    """Write `report.html` and `report.json` to a folder.

    Args:
        found: what `evaluate` gave.
        pictures: the originals, (N, 3, H, W) in [0, 1].
        folder: made if it is not there.
        network, data: what they are called.
        classes: the names of the classes.
        made_by: the command that made it.

    Returns:
        The path of the page.

    Raises:
        SaccadeError: the folder cannot be written.
    """
    folder = Path(folder)
    facts = {"network": network, "data": data, **found.as_dict(), "versions": versions()}
    write_text(folder / "report.json", json.dumps(facts, indent=1) + "\n")
    title = f"How {network} stands attacks"
    html = (
        f'<header><p class="name">Saccade</p><h1>{escape(title)}</h1>{_lead(found, data)}</header><main>'
        + _doubts(found)
        + _attacks(found)
        + (_sizes(found) if found.curve is not None else "")
        + _gallery(found, pictures, classes)
        + _checks(found)
        + f"</main>{_colophon(found, made_by)}"
    )
    style = files("saccade.attack.evaluate").joinpath("report.css").read_text("utf-8")
    description = f"Accuracy of {network} on {data} under attack, attack by attack, with what casts doubt on it."
    write_text(folder / "report.html", page(title, html, description=description, style=style))
    return folder / "report.html"


def ball_name(norm: str, eps: float) -> str:
    """A budget in words: "Linf 8/255", "L2 0.5"."""
    steps = eps * 255
    size = (
        f"{round(steps)}/255" if norm == "linf" and abs(steps - round(steps)) < 1e-3 and round(steps) else f"{eps:.4g}"
    )
    return f"{norm.capitalize()} {size}"


def _lead(found: Evaluation, data: str) -> str:
    """The two numbers that everybody asks for."""
    ball = ball_name(found.settings["norm"], found.settings["eps"])
    numbers = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{share.value:.1%}</b> "
        f'<span class="quiet">{_interval(share)}</span></dd></div>'
        for name, share in (("right on the pictures", found.clean), (f"right under attack, {ball}", found.robust))
    )
    return (
        f'<dl class="numbers">{numbers}</dl><p class="quiet">{len(found.labels):,} pictures of {escape(data)}; in '
        "brackets Wilson intervals of 95 %. A picture counts as right under attack if none of the attacks below finds "
        "a change within the budget that fools the network.</p>"
    )


def _doubts(found: Evaluation) -> str:
    """What casts doubt on these numbers, before anything else."""
    if not found.checks:
        return '<section><p class="quiet">No checks were made.</p></section>'
    if not found.warnings:
        return (
            f'<section><p class="fine">None of {len(found.checks)} checks casts doubt on these numbers.</p></section>'
        )
    items = "".join(
        f"<li><b>{escape(check.name)}</b>: {escape(check.said)}</li>" for check in found.checks if check.alarm
    )
    count = len(found.warnings)
    head = f"{count} of {len(found.checks)} checks {'casts' if count == 1 else 'cast'} doubt on these numbers"
    return f'<section class="doubt"><h2>{head}</h2><ul>{items}</ul></section>'


def _attacks(found: Evaluation) -> str:
    """What each attack was given, what it broke, and what it cost."""
    head = ("attack", "given", "broke", "accuracy left", "forward", "backward", "passes per break", "seconds")
    rows = []
    for row in found.attacks:
        passes = row.forwards + row.backwards
        each = f"{passes / row.broke:,.0f}" if row.broke else "–"
        left = f'{row.left.value:.1%} <span class="quiet">{_interval(row.left)}</span>'
        name = f'<abbr title="{escape(row.paper)}">{escape(row.title)}</abbr>'
        cells = (name, f"{row.attacked:,}", f"{row.broke:,}", left, f"{row.forwards:,}", f"{row.backwards:,}", each)
        rows.append((*cells, f"{row.seconds:,.1f}"))
    total = (f"{int(found.forwards.sum()):,}", f"{int(found.backwards.sum()):,}", "", f"{found.seconds:,.1f}")
    rows.append(("all", "", f"{int(found.fooled.sum()):,}", f"{found.robust.value:.1%}", *total))
    return (
        f"<section><h2>Attack by attack</h2>{_table(head, rows)}"
        '<p class="quiet">Each attack is given what those before it have not broken; the search for smallest changes '
        "is given all. Passes are of single pictures.</p></section>"
    )


def _sizes(found: Evaluation) -> str:
    """Accuracy over budgets, and how large the smallest changes are."""
    assert found.curve is not None
    scale, unit = (255, ", in 255ths") if found.settings["norm"] == "linf" else (1, "")
    line, eps = found.curve, found.settings["eps"]
    label = f"largest change allowed, {found.settings['norm'].capitalize()}{unit}"
    robust = curves(
        {"": Curve(line.robust, line.eps * scale, line.low, line.high)}, title="Accuracy over budgets", x_label=label,
        percent=True, y_range=(0, 1), marks={"budget": eps * scale},
    )  # fmt: skip
    plots = [image(robust, alt="Accuracy over budgets, with its interval", kind="plot", density=2, quality=100)]
    sizes = found.smallest[found.right].double()
    finite = sizes[torch.isfinite(sizes)]
    if len(finite):
        reach = float(line.eps[-1])
        counts = torch.histc(finite.clamp(max=reach), BINS, 0, reach) / len(sizes)
        edges = torch.linspace(0, reach, BINS + 1, dtype=torch.float64).repeat_interleave(2) * scale
        steps = torch.cat([counts.new_zeros(1), counts.repeat_interleave(2), counts.new_zeros(1)])
        drawn = curves(
            {"": Curve(steps, edges)}, title="Smallest changes that fool", x_label=f"size{unit}", percent=True,
            y_label="share of the pictures that were right", marks={"budget": eps * scale}, y_range=(0, None),
        )  # fmt: skip
        plots.append(image(drawn, alt="Histogram of the smallest changes", kind="plot", density=2, quality=100))
    rows = [
        (f"{share:.0%}", f"{size * scale:.3g}" if math.isfinite(size) else "not found")
        for share, size in found.quantiles().items()
    ]
    head = ("of the pictures that were right", f"size of the change that fools so many{unit}")
    never = len(sizes) - len(finite)
    lost = f" For {never} of {len(sizes)} no change was found at any size." if never else ""
    return (
        f'<section><h2>Budget by budget</h2><div class="plots">{"".join(plots)}</div>{_table(head, rows)}'
        '<p class="quiet">From the smallest change that any attack found, an upper bound for each picture; the last '
        f"bin holds all beyond it.{lost}</p>"
        "</section>"
    )


def _gallery(found: Evaluation, pictures: Tensor, classes: Sequence[str] | None) -> str:
    """Some of the pictures that were fooled, of as many attacks and sizes as there are."""
    fooled = found.fooled.nonzero()[:, 0]
    if len(fooled) == 0 or pictures.shape[1] != 3:
        return ""
    order = fooled[found.smallest[fooled].argsort(stable=True)]
    chosen = order[torch.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().long()]
    cards = []
    for i in chosen.tolist():
        before, after = pictures[i].detach().cpu().float(), found.adversarial[i].float()
        said, says, label = (_name(classes, int(each[i])) for each in (found.said, found.says, found.labels))
        kind = "" if before.shape[-1] >= LARGE else "pixels"
        change = (0.5 + 10 * (after - before)).clamp(0, 1)
        shown = "".join(
            f"<div>{image(picture, alt=alt, kind=kind, format='png')}<p>{escape(text)}</p></div>"
            for picture, alt, text in (
                (before, f"A picture of {label}", said),
                (after.clamp(0, 1), "The adversarial picture", says),
                (change, "Ten times the change, around grey", "change × 10"),
            )
        )
        by = found.attacks[int(found.broken_by[i])].title
        size = ball_name(found.settings["norm"], float(found.norm[i]))
        cards.append(f"<figure>{shown}<figcaption>{escape(by)}, {size}</figcaption></figure>")
    return (
        f"<section><h2>{len(chosen)} of {len(fooled):,} that were fooled</h2>"
        f'<div class="gallery">{"".join(cards)}</div>'
        '<p class="quiet">Below each picture, what the network says of it; from the easiest to the hardest to fool.</p>'
        "</section>"
    )


def _checks(found: Evaluation) -> str:
    if not found.checks:
        return ""
    items = "".join(
        f'<li class="{"no" if check.alarm else "yes"}"><b>{escape(check.name)}</b>: {escape(check.said)}</li>'
        for check in found.checks
    )
    return f'<section><h2>What was checked</h2><ul class="checks">{items}</ul></section>'


def _colophon(found: Evaluation, made_by: str) -> str:
    about, told = versions(), found.settings
    lines = [f"Made by <code>{escape(made_by)}</code>."] if made_by else []
    lines.append(
        escape(
            f"Suite {told['suite']}, {ball_name(told['norm'], told['eps'])}, seed {told['seed']}; {told['precision']}; "
            f"{told['classes']} classes; {about['device']}, {about['threads']} threads; saccade {about['saccade']}, "
            f"PyTorch {about['torch']}, Python {about['python']}."
        )
    )
    settings = "".join(
        f"<li>{escape(name)}: {escape(said) or 'as in its paper'}</li>" for name, said in told["attacks"]
    )
    return f"<footer><p>{' '.join(lines)}</p><details><summary>Settings</summary><ul>{settings}</ul></details></footer>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"[{low:.1%}, {high:.1%}]"


def _name(classes: Sequence[str] | None, index: int) -> str:
    return classes[index] if classes is not None and index < len(classes) else f"class {index}"
