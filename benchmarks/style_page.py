"""The page that `benchmarks/style.py` writes of its cells."""

import statistics

from common import Results, table


def number(value: float | None, digits: int = 1) -> str:
    return "not reached" if value is None else f"{value:.{digits}f}"


def descents(results: Results, prefix: str) -> str:
    """A table of descents, and their ratios in a sentence."""
    rows, ratios = [], {}
    for key, cell in results.cells.items():
        if not key.startswith(prefix):
            continue
        _, name, pair = key.split("/")
        v = cell["values"]
        ratios.setdefault(name, []).append(v["ratio"])
        rows.append(
            [
                name,
                pair.replace("+", " + "),
                f"{v['start']:.3f}",
                f"{v['final plain']:.4f}",
                f"{v['looks plain']}, {v['seconds plain']:.1f}",
                f"{number(v['looks ours'], 0)}, {number(v['seconds ours'])}",
                number(v["ratio"], 2),
                f"{v['plain at equal seconds']:.4f} / {v['ours at equal seconds']:.4f} ({v['equal seconds']:.0f} s)",
                f"{v['final ours']:.4f}",
            ]
        )
    head = ["network", "content + style", "loss at the start", "loss of plain at its end", "its looks, s"]
    head += ["ours to that loss: looks, s", "plain by ours", "loss at equal time, plain / ours", "ours at its end"]
    lines = [table(head, rows), ""]
    for name, each in ratios.items():
        reached = sorted(ratio for ratio in each if ratio is not None)
        if reached:
            lines.append(
                f"- {name}: ours is there in 1/{statistics.median(reached):.2f} of the time (median; "
                f"{reached[0]:.2f} to {reached[-1]:.2f}; {len(reached)} of {len(each)} pairs got there)"
            )
        else:
            lines.append(f"- {name}: ours got there for none of {len(each)} pairs")
    return "\n".join(lines)


def page(results: Results) -> str:
    """What was measured so far."""
    parts = []
    cells = results.cells
    if results.find("descent/"):
        ends = results.find("descent/")
        off = max(abs(v[f"final {side}, float64"] / v[f"final {side}"] - 1) for v in ends for side in ("plain", "ours"))
        parts += [
            "## To the same loss",
            "Time is processor seconds; a look is one value with its gradient. Ours is `optimise` with L-BFGS in "
            "the box [0, 1] (memory 10, long 0.25), the network in 16 bits where that is faster, for the second half "
            "of its looks on the way back only; it may look half as often again. Its time includes the targets, that "
            "of the plain loop does not. Losses are of recorded pictures, one every ten looks, so a crossing is known "
            "to ten looks.",
            descents(results, "descent/"),
            f"The two programs' objectives differ by {max(v['objectives apart'] for v in ends):.0e} of their value at "
            f"the start; the final losses by up to {off:.0e} from those that `score` finds in float64.",
        ]
    if results.find("wolfe/"):
        parts += [
            "## Beside a line search",
            'The plain loop with line_search_fn="strong_wolfe" and without the clamp; its pictures are clamped before '
            "they are judged.",
            descents(results, "wolfe/"),
        ]
    rows = [
        [
            key.split("/")[1],
            v["looks"],
            *(f"{v[f'{side}, {at}']:.2g}" for side in ("all", "back") for at in ("start", "later")),
        ]
        for key, v in ((key, cells[key]["values"]) for key in cells if key.startswith("rounding/"))
    ]
    if rows:
        parts += [
            "## What 16 bits do to a gradient",
            "The distance from the gradient in float32, over the length of that; one pair from the content, "
            "at the start and after some looks.",
            table(
                ["network", "looks", "16 bits all the way: start", "later", "on the way back alone: start", "later"],
                rows,
            ),
        ]
    for key in (key for key in cells if key.startswith("pyramid/")):
        v, (side, smallest, *_) = cells[key]["values"], cells[key]["settings"]["sizes"]
        rows = [
            ["plain", v["looks plain"], f"{v['seconds plain']:.0f}", f"{v['final plain']:.4f}"],
            [
                "ours",
                f"{v['steps done']} of {v['steps planned']}, at all sizes",
                f"{v['seconds ours']:.0f}",
                f"{v['final ours']:.4f}",
            ],
        ]
        parts += [
            "## From small to large",
            f"{key.split('/')[1]}, {key.split('/')[2].replace('+', ' + ')}, {side} pixels; ours begins at {smallest} "
            "and "
            f"is stopped at the time of the plain loop. The loss at the start is {v['start']:.3f}; n = 1.",
            table(["side", "looks", "s", "loss"], rows),
        ]
    if results.find("memory/"):
        rows = []
        for key in (key for key in cells if key.startswith("memory/")):
            v, name = cells[key]["values"], key.split("/")[1]
            grown = cells.get(f"growth/{name}", {"values": {}})["values"]
            for side in (one.removesuffix(", way back") for one in v if one.endswith(", way back")):
                back, state = v[f"{side}, way back"], v[f"{side}, optimiser"]
                more = f"{grown[side]:.0f}" if side in grown else ""
                rows.append([name, side, f"{back:.0f}", f"{state:.0f}", f"{back + state:.0f}", more])
        sides = " and ".join(
            f"{s}" for key in cells if key.startswith("growth/") for s in cells[key]["settings"]["sides"]
        )
        parts += [
            "## Memory",
            "Bytes per pixel. Way back: distinct storages that autograd saves, without weights. Optimiser: its "
            "state with "
            "a full history, 100 steps for PyTorch's default, 10 for ours (the default of `style_transfer`)."
            + (
                f" Process: the peaks of fresh processes at {sides} pixels, apart, by pixels of the larger."
                if sides
                else ""
            ),
            table(["network", "side", "way back", "optimiser", "sum", "process"], rows),
        ]
    for v in results.find("large/"):
        minutes = f", {v['minutes']:.1f} minutes on the wall clock beside other work" if "minutes" in v else ""
        parts += [
            "## Large",
            f"{v['width']} x {v['height']} pixels in tiles with Adam, two steps at half the size, two at the full: a "
            f"peak of {v['bytes'] / 2**30:.2f} GiB, {v['cpu seconds'] / 60:.1f} minutes of the processor{minutes}.",
        ]
    return "\n\n".join(parts)
