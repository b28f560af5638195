"""Train the style networks that ship, put them into the package, and show them beside an optimisation.

    SACCADE_ARCHIVES=archives python benchmarks/ship_style.py [the-scream shipwreck ...] [--threads 1]
    SACCADE_ARCHIVES=archives python benchmarks/ship_style.py --sheet

The first form trains, and writes weights in half precision and a card each; the first network starts from random
weights, the others from the first. A run that is killed goes on where it was. The second form scores, times and draws
what ships: docs/results/style_fast.md and style_fast.jpg, from benchmarks/results/style_fast.json.

Of the archives it reads `art/` (paintings, and two photographs to score on), `imagenet_samples/` (photographs to train
on, beside those inside scikit-image) and the networks vgg19_thin16x and squeezenet1_0. None of these
pictures is shown.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from common import ROOT, Results, machine, table
from torch import Tensor

import saccade
from saccade.engine.fetch import archive_folders
from saccade.engine.files import write_text
from saccade.engine.guards import evaluating
from saccade.engine.memory import keep_freed_memory
from saccade.errors import SaccadeError
from saccade.pictures import read, resize, sample, sample_names, sheet, write
from saccade.style import PRESETS, Preset, score, style_transfer
from saccade.style.fast.apply import apply_fast
from saccade.style.fast.network import SHIPPED, FastStyle, load_fast
from saccade.style.fast.photographs import ODD, Photographs
from saccade.style.fast.stability import stability
from saccade.style.fast.train import FastRecipe, Row, train_fast
from saccade.style.transfer import fitted

FIRST = "starry-night"
PAINTINGS = {
    "starry-night": ("starry_night.jpg", "The Starry Night, Vincent van Gogh, 1889"),
    "the-scream": ("the_scream.jpg", "The Scream, Edvard Munch, 1893"),
    "shipwreck": ("shipwreck.jpg", "The Shipwreck of the Minotaur, J. M. W. Turner, about 1810"),
}
ENCODER, OTHER = "squeezenet1_0", "vgg19_thin16x"
"""The network that they are trained under, and one that takes no part in it."""

PRESET_OF = dict.fromkeys(PAINTINGS, PRESETS["saccade"])
WIDTHS = (16, 32, 96)
ARCHITECTURE: dict[str, Any] = {"widths": WIDTHS, "dilations": (1, 2, 4, 2, 1)}
FULL = FastRecipe(steps=2000, style_size=448, rate=2e-3, precision="bf16")
RECIPES = {
    "starry-night": (  # large forms first, then the photograph
        replace(FULL, steps=3300, coarse=0.25),
        replace(FULL, steps=1200, rate=1.5e-3, coarse=0.06),
    ),
    "the-scream": (replace(FULL, seed=1),),
    "shipwreck": (replace(FULL, seed=2),),
}
"""One after the other."""

LEFT_OUT = {"astronaut", "chelsea", "coffee", "rocket"}
"""Samples of scikit-image that they are shown on, with others like them."""

SCORED = ("tubingen", "golden_gate")
"""Photographs that no network was trained on."""

SHOWN = {"starry-night": "rocket", "the-scream": "coffee", "shipwreck": "chelsea"}
SIDE, STEPS = 512, 60
"""The longer side of what is scored and shown, and how often the optimisation looks at it at that size."""

LARGE, TURNS = (768, 1024), 5
"""What is timed, and how often."""

SIDES = {"photograph": "the photograph itself", "optimised": "optimised", "fast": "network"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PAINTINGS))
    parser.add_argument("--sheet", action="store_true", help="score, time and draw what is there instead of training")
    parser.add_argument("--runs", type=Path, default=Path("runs/style"))
    parser.add_argument("--folder", type=Path, default=SHIPPED, help="where the networks and cards go")
    parser.add_argument("--results", type=Path, default=ROOT, help="with --sheet: where docs/results is")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    if arguments.sheet:
        show(arguments.names, arguments.folder, arguments.results, arguments.runs / "sheet")
        return
    for name in arguments.names:
        train(name, arguments.folder, arguments.runs / name)


def train(name: str, folder: Path, runs: Path) -> None:
    """Train a network, and write its weights and card; pictures on the way and the checkpoint go to `runs`."""
    photographs, seconds, cpu, whole = _photographs(), 0.0, 0.0, True
    shown = torch.stack([resize(_photograph(each), (384, 512)) for each in SCORED])
    fast = None if name == FIRST else load_fast(folder / f"{FIRST}.safetensors")
    for part, recipe in enumerate(RECIPES[name], 1):
        place = runs / str(part)
        whole &= not (place / "last.pt").exists()
        begun = time.process_time()
        fast = train_fast(
            photographs,
            {name: _painting(name)},
            network=saccade.load(ENCODER),
            preset=PRESET_OF[name],
            recipe=recipe,
            architecture=ARCHITECTURE,
            start=fast,
            name=name,
            validation=shown,
            callback=partial(_tell, place),
            log_every=100,
            checkpoint=place / "last.pt",
        )
        cpu += time.process_time() - begun
        seconds += fast.meta["seconds"]
    assert fast is not None
    fast.meta |= {
        "licence": "MIT; trained on a painting in the public domain",
        "painting": PAINTINGS[name][1],
        "photographs": f"{photographs.count} photographs of ImageNet and scikit-image",
        "start": None if name == FIRST else FIRST,
        "preset": _numbers(PRESET_OF[name]),
        "steps": sum(recipe.steps for recipe in RECIPES[name]),
        "seconds": round(seconds, 1),
    }
    target = folder / f"{name}.safetensors"
    fast.save(target, half=True)
    _card(target, cpu if whole else None)
    print(json.dumps({"file": str(target), "megabytes": target.stat().st_size / 1e6, "cpu": cpu}), flush=True)


def _tell(place: Path, row: Row) -> None:
    print(json.dumps(row.as_dict()), flush=True)
    if row.pictures is not None:
        write(torch.cat(list(row.pictures), dim=2), place / f"{row.step:05d}.png")


def show(names: list[str], folder: Path, target: Path, runs: Path) -> None:
    """Score, time and draw the networks in `folder`; each photograph is also optimised under the same preset."""
    results = Results("style_fast", target, command="python benchmarks/ship_style.py --sheet")
    optimise(names, results, runs)
    rows = []
    for name in names:
        fast = load_fast(folder / f"{name}.safetensors")
        for photograph in SCORED:
            make = partial(_scores, fast, photograph, runs / f"{name}-{photograph}.png")
            results.measure(f"score {name} {photograph}", _settings(name), make)
        for threads in (1, 2):
            settings = {"height, width": LARGE, "threads": threads, "turns": TURNS}
            results.measure(f"time {name} {threads}", settings, partial(_seconds, fast, threads))
        content = _photograph(SHOWN[name], SIDE)
        optimised = read(runs / f"{name}-{SHOWN[name]}.png")
        rows.append([content, optimised, apply_fast(fast, content[None])[0]])
    titles = ["photograph", "optimised", "network"]
    picture = sheet(rows, row_labels=names, column_titles=titles, cell=190)
    write(picture, results.page.with_suffix(".jpg"), quality=80)
    results.write_page("Style networks beside an optimisation", _page(results, names))


def optimise(names: list[str], results: Results, runs: Path) -> None:
    """What is scored and shown, optimised; pictures go to `runs`."""
    for name in names:
        for photograph in (SHOWN[name], *SCORED):
            make = partial(_optimise, name, photograph, runs / f"{name}-{photograph}.png")
            results.measure(f"optimised {name} {photograph}", _settings(name), make)


def _optimise(name: str, photograph: str, target: Path) -> dict[str, Any]:
    """Optimise a photograph under the preset of the network, with the painting at the size that the network saw."""
    content, style = _photograph(photograph, SIDE)[None], _seen(name)
    started = time.process_time()
    made = style_transfer(
        content,
        style,
        network=saccade.load(ENCODER),
        preset=PRESET_OF[name],
        steps=STEPS,
        style_scale=max(style.shape[2:]) / SIDE,
    )
    seconds = time.process_time() - started
    write(made[0], target)
    return {"seconds": seconds}


def _scores(fast: FastStyle, photograph: str, optimised: Path) -> dict[str, Any]:
    """Losses in float64 of the photograph itself, of the optimised picture and of the network's."""
    content = _photograph(photograph, SIDE)[None]
    pictures = {"photograph": content, "optimised": read(optimised)[None], "fast": apply_fast(fast, content)}
    values: dict[str, Any] = {}
    for eye in (ENCODER, OTHER):
        found = score(
            torch.cat(list(pictures.values())),
            content,
            [_seen(fast.name)],
            network=saccade.load(eye),
            preset=PRESET_OF[fast.name],
        )
        for part in ("content", "style", "variation", "total"):
            numbers = getattr(found, part).tolist()
            values |= {f"{eye} {part} {side}": number for side, number in zip(pictures, numbers, strict=True)}
    return values


def _seconds(fast: FastStyle, threads: int) -> dict[str, Any]:
    """Seconds on the wall clock for a large picture."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    picture = resize(_photograph("rocket"), LARGE)[None]
    turns = []
    with evaluating(fast):
        for _ in range(1 + TURNS):
            started = time.perf_counter()
            fast(picture)
            turns.append(time.perf_counter() - started)
    torch.set_num_threads(before)
    return {"median": median(turns[1:]), "least": min(turns[1:])}


def _page(results: Results, names: list[str]) -> str:
    losses, times = [], []
    for name in names:
        cells = [results.cells[f"score {name} {photograph}"]["values"] for photograph in SCORED]
        for side, title in SIDES.items():
            keys = [f"{ENCODER} {part} {side}" for part in ("content", "style", "variation", "total")]
            keys += [f"{OTHER} {part} {side}" for part in ("content", "style")]
            losses.append([name, title, *(f"{fmean(cell[key] for cell in cells):.3f}" for key in keys)])
        seconds = fmean(cell["seconds"] for cell in results.find(f"optimised {name} "))
        clocks = [results.cells[f"time {name} {count}"]["values"] for count in (1, 2)]
        times.append([name, f"{seconds:.0f}", *(f"{c['median']:.2f} ({c['least']:.2f})" for c in clocks)])
    head = ["style", "picture", "content", "style", "variation", "total"]
    head += [f"content, {OTHER}", f"style, {OTHER}"]
    return f"""Losses in float64 of `saccade.style.score` under the preset that each network was trained with, means
over {len(SCORED)} photographs that no network was trained on ({", ".join(SCORED)}), the longer side {SIDE} pixels.
"Optimised" is `style_transfer` with the same preset under {ENCODER}, {STEPS} steps at the full size. The last two
columns are the losses under {OTHER}, with which nothing was made. One training a network, its seed on its card.

{table(head, losses)}

## Time

Optimised: seconds of the processor at {SIDE} pixels. Network: seconds on the wall clock for {LARGE[1]} x {LARGE[0]}
pixels, the median of five turns and the least of them in brackets, beside other work on the machine.

{table(["style", "optimised", "network, 1 thread", "network, 2 threads"], times)}

## To be looked at

![Photographs, optimised and restyled in one pass](style_fast.jpg)

The photographs are samples of scikit-image that no network was trained on. None was chosen by its result.
"""


def _settings(name: str) -> dict[str, Any]:
    return {"preset": _numbers(PRESET_OF[name]), "steps": STEPS, "longer side": SIDE, "seed": 0}


def _numbers(preset: Preset) -> dict[str, Any]:
    weights = {key: getattr(preset, key) for key in ("content_weights", "style_weights", "tv_weight")}
    return {**weights, "layers": {name: asdict(layers) for name, layers in preset.layers.items()}}


def _card(target: Path, cpu: float | None) -> None:
    """The figures are measured on the file that ships."""
    name, fast = target.stem, load_fast(target)
    shown = [_photograph(each) for each in SCORED]
    steady = [stability(fast, resize(picture, 256)[None]) for picture in shown]
    rows = [
        [title, f"{float(s.input.mean()):.4f}", f"{float(s.output.mean()):.4f}", f"{float(s.drift.mean()):.4f}"]
        for title, s in zip(("Tübingen", "Golden Gate"), steady, strict=True)
    ]
    recipes = RECIPES[name]
    recipe, steps = recipes[0], " and then ".join(str(each.steps) for each in recipes)
    spent = "" if cpu is None else f"{cpu / 60:.0f} CPU minutes, "
    start = "random weights" if name == FIRST else f"the weights of {FIRST}"
    lines = [
        f"# {name}",
        "",
        f"Gives photographs the style of {PAINTINGS[name][1]}, in one pass.",
        "",
        "| | |",
        "|---|---|",
        f"| architecture | transformation network, widths {fast.architecture.get('widths', (16, 32, 64))}, 5 residual "
        f"blocks with the dilations {fast.net.dilations}, {sum(p.numel() for p in fast.parameters()):,} parameters |",
        f"| file | {target.stat().st_size / 1e6:.2f} MB, 16 bits |",
        f"| trained on | {fast.meta['photographs']}, {steps} batches of {recipe.batch_size} crops of "
        f"{recipe.size} pixels, seed {recipe.seed}, from {start}; n = 1 run |",
        f"| eye | {fast.meta['backbone']} |",
        f"| training time | {spent}{fast.meta['seconds'] / 60:.0f} minutes on the wall clock, beside other work |",
        f"| machine | {machine()} |",
        f"| licence | weights {fast.meta['licence']}; the photographs are for research and teaching |",
        f"| made | `python benchmarks/ship_style.py {name}`, {date.today()} |",
        "",
        "Losses beside an optimisation, and times: `docs/results/style_fast.md`.",
        "",
        "Steadiness under a moving camera with noise of 0.01: mean absolute difference of a frame to the next, warped "
        "back by the true motion, in pixel values of [0, 1]; drift is that of a camera that stands still.",
        "",
        table(["photograph", "input", "output", "drift"], rows),
        "",
        "Takes and gives pictures (N, 3, H, W) in [0, 1], sRGB, of any size. Strokes have a size in pixels: enlarge or "
        "shrink the photograph for finer or broader ones.",
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps({"recipes": [asdict(each) for each in recipes], "preset": _numbers(PRESET_OF[name])}, indent=1),
        "```",
        "",
    ]
    write_text(target.with_suffix(".md"), "\n".join(lines))


def _photographs() -> Photographs:
    """To train on; those of ImageNet at twice their size, as photographs at work are larger."""
    small = Photographs(_archive("imagenet_samples"))
    pictures = [small.photograph(i) for i in range(small.count)]
    pictures = [resize(picture, 2 * min(picture.shape[1:])) for picture in pictures]
    return Photographs(pictures + [sample(each) for each in sample_names() if each not in ODD | LEFT_OUT])


def _photograph(name: str, side: int | None = None) -> Tensor:
    """(3, h, w): a sample of scikit-image or a photograph of the archives, the longer side resized to `side`."""
    picture = sample(name) if name in sample_names() else read(_archive("art") / f"{name}.jpg")
    if side is None:
        return picture
    return resize(picture, fitted((picture.shape[1], picture.shape[2]), side)).clamp(0, 1)


def _painting(name: str) -> Tensor:
    return read(_archive("art") / PAINTINGS[name][0])


def _seen(name: str) -> Tensor:
    """The painting as the network saw it, (1, 3, h, w)."""
    return resize(_painting(name)[None], RECIPES[name][0].style_size).clamp(0, 1)


def _archive(name: str) -> Path:
    for folder in archive_folders():
        if (folder / name).is_dir():
            return folder / name
    raise SaccadeError(f"There is no folder {name} in the archives; name those in SACCADE_ARCHIVES.")


if __name__ == "__main__":
    main()
