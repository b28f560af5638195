"""Train the style networks that ship, and put them into the package: weights in half precision, and a card each.

    SACCADE_ARCHIVES=archives python benchmarks/ship_style.py [starry-night the-scream shipwreck] [--threads 1]

Of the archives it reads `art/` (the paintings) and `imagenet_samples/` (photographs to train on, beside those inside
scikit-image) and the encoder vgg19_thin16x. The first network starts from random weights, the others from the first.
A run that is killed goes on where it was. None of these pictures enters the package.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import torch
from common import machine, table

import saccade
from saccade.engine.fetch import archive_folders
from saccade.engine.files import write_text
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.pictures import read, resize, write
from saccade.style.fast.network import SHIPPED, load_fast
from saccade.style.fast.photographs import Photographs
from saccade.style.fast.stability import stability
from saccade.style.fast.train import FAST, FastRecipe, Row, train_fast

FIRST = "starry-night"
PAINTINGS = {
    "starry-night": ("starry_night.jpg", "The Starry Night, Vincent van Gogh, 1889"),
    "the-scream": ("the_scream.jpg", "The Scream, Edvard Munch, 1893"),
    "shipwreck": ("shipwreck.jpg", "The Shipwreck of the Minotaur, J. M. W. Turner, about 1810"),
}
ENCODER = "vgg19_thin16x"
PRESET = replace(FAST, style_weights=(0.5, 1.0, 2.0, 2.0, 1.0), tv_weight=1.0)
RECIPES = {
    "starry-night": FastRecipe(steps=1200, style_size=480),
    "the-scream": FastRecipe(steps=600, style_size=480, seed=1),
    "shipwreck": FastRecipe(steps=600, style_size=480, seed=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES))
    parser.add_argument("--runs", type=Path, default=Path("runs/style"))
    parser.add_argument("--folder", type=Path, default=SHIPPED, help="where the networks and cards go")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    art, photographs = _archive("art"), _photographs()
    shown = [read(art / name) for name in ("tubingen.jpg", "golden_gate.jpg")]
    for name in arguments.names:
        file, painting = PAINTINGS[name]
        folder, recipe = arguments.runs / name, RECIPES[name]

        def tell(row: Row, folder: Path = folder) -> None:
            print(json.dumps(row.as_dict()), flush=True)
            if row.pictures is not None:
                write(torch.cat(list(row.pictures), dim=2), folder / f"{row.step:05d}.png")

        started = time.process_time()
        fast = train_fast(
            photographs,
            {name: read(art / file)},
            network=saccade.load(ENCODER),
            preset=PRESET,
            recipe=recipe,
            start=None if name == FIRST else load_fast(arguments.folder / f"{FIRST}.safetensors"),
            name=name,
            validation=torch.stack([resize(picture, (256, 336)) for picture in shown]),
            callback=tell,
            log_every=100,
            checkpoint=folder / "last.pt",
        )
        cpu = time.process_time() - started
        fast.meta |= {
            "licence": "MIT; trained on a painting in the public domain",
            "painting": painting,
            "photographs": f"{photographs.count} photographs of ImageNet and scikit-image",
            "start": None if name == FIRST else FIRST,
            "preset": {"style_weights": PRESET.style_weights, "tv_weight": PRESET.tv_weight},
        }
        target = arguments.folder / f"{name}.safetensors"
        fast.save(target, half=True)
        _card(target, painting, recipe, fast.meta["seconds"], cpu, shown)
        print(json.dumps({"file": str(target), "megabytes": target.stat().st_size / 1e6, "cpu": cpu}), flush=True)


def _card(
    target: Path, painting: str, recipe: FastRecipe, seconds: float, cpu: float, shown: list[torch.Tensor]
) -> None:
    """The figures are measured on the file that ships."""
    name, fast = target.stem, load_fast(target)
    steady = [stability(fast, resize(picture, 256)[None]) for picture in shown]
    rows = [
        [title, f"{float(s.input.mean()):.4f}", f"{float(s.output.mean()):.4f}", f"{float(s.drift.mean()):.4f}"]
        for title, s in zip(("Tübingen", "Golden Gate"), steady, strict=True)
    ]
    picture = resize(shown[0], (768, 1024))[None]
    with evaluating(fast):
        fast(picture)
        clock = time.perf_counter()
        fast(picture)
        clock = time.perf_counter() - clock
    start = "random weights" if name == FIRST else f"the weights of {FIRST}"
    lines = [
        f"# {name}",
        "",
        f"Gives photographs the style of {painting}, in one pass.",
        "",
        "| | |",
        "|---|---|",
        f"| architecture | transformation network, widths {fast.architecture.get('widths', (16, 32, 64))}, 5 residual "
        f"blocks, {sum(p.numel() for p in fast.parameters()):,} parameters |",
        f"| file | {target.stat().st_size / 1e6:.2f} MB, 16 bits |",
        f"| trained on | {fast.meta['photographs']}, {recipe.steps} batches of {recipe.batch_size} crops of "
        f"{recipe.size} pixels, seed {recipe.seed}, from {start}; n = 1 run |",
        f"| eye | {fast.meta['backbone']} |",
        f"| training time | {cpu / 60:.0f} CPU minutes in the last run, {seconds / 60:.0f} minutes on the wall clock, "
        "beside other work |",
        f"| time for 1024 x 768 pixels | {clock:.2f} s, {torch.get_num_threads()} thread, beside other work |",
        f"| machine | {machine()} |",
        f"| licence | weights {fast.meta['licence']}; the photographs are for research and teaching |",
        f"| made | `python benchmarks/ship_style.py {name}`, {date.today()} |",
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
        json.dumps(asdict(recipe), indent=1),
        "```",
        "",
    ]
    write_text(target.with_suffix(".md"), "\n".join(lines))


def _photographs() -> Photographs:
    sources = [Photographs(_archive("imagenet_samples")), Photographs()]
    return Photographs([source.photograph(i) for source in sources for i in range(source.count)])


def _archive(name: str) -> Path:
    for folder in archive_folders():
        if (folder / name).is_dir():
            return folder / name
    raise SaccadeError(f"There is no folder {name} in the archives; name those in SACCADE_ARCHIVES.")


if __name__ == "__main__":
    main()
