"""python benchmarks/cifar_accuracy.py --data cifar10-jpeg --entries airbench94,fast94 --seeds 5

Accuracy, floating-point operations and time of the fast recipes of this library beside a faithful airbench94
(airbench94.py) on the same pictures, by turns, seed after seed; and of ResNet-20 on a 45,000/5,000 split.

An entry is `airbench94`, a recipe of this library, or a candidate of the table below. The fast ones are published with
`--split test`: trained on all 50,000 training pictures, as airbench94 is, and measured once on the test pictures.
Choose between candidates with `--split val`: trained on 45,000 and measured on the 5,000 that are held out, so that
the test pictures choose nothing. A recipe that is not of the fast network always trains on 45,000; its weights of the
last epoch and those of the best one on the 5,000 are both measured on the test pictures.

Accuracy comes plain and with six views a picture (test-time augmentation). Operations are counted on one step of each
picture size and added up over the run; evaluation is not among them. Long runs save themselves under `runs/` after
each epoch (every minute for this library's) and go on from there. Figures on `cifar10-jpeg`, a re-compressed archive,
cannot be compared with published ones.
"""

import math
import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import airbench94
import torch
from common import Results, arguments, flops_of, mean_spread, pictures_of, prepare, table

from saccade.data import ImageSet
from saccade.engine.distributed import World
from saccade.engine.precision import Precision, choose_precision
from saccade.engine.run import Run
from saccade.networks import Network, catalogue, load
from saccade.train import RECIPES, Recipe, evaluate, find_recipe, fit, make_network
from saccade.train.state import Fit

CPU = torch.device("cpu")

# Candidates to beat airbench94 with at most 0.8 times its operations (muon-8, muon-8-b500 and sgd-8-b512 take 0.83,
# 0.83 and 0.82; they are here to see what the others lose by saving more). They start from the Muon record of airbench
# (airbench94_muon.py: 8 epochs, batch 2000, lr 0.24 for convolutions, linear decay, no lookahead; the rates of its head
# and biases are here in this library's decoupled units). Then comes what a CPU allows: it needs no large batches to be
# busy, so steps are smaller and more (Muon's rate falls with the root of the batch), and early epochs see smaller
# pictures (24 pixels cost 0.52 of 32, 28 cost 0.76). muon-8-sizes was chosen and is the recipe fast94.
_FAST, _SGD = find_recipe("fast94"), find_recipe("fast94-sgd")
CANDIDATES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        replace(_FAST, name="muon-8-sizes"),
        replace(_FAST, name="muon-8", batch_size=1000, muon_lr=0.17, sizes=()),
        replace(_FAST, name="muon-8-b500", sizes=()),
        replace(_FAST, name="muon-7-b500", epochs=7, sizes=()),
        replace(_FAST, name="muon-7-b250", epochs=7, batch_size=250, muon_lr=0.085, sizes=()),
        replace(_FAST, name="muon-9-sizes", epochs=9, sizes=(24, 24, 24, 28, 28, 32)),
        replace(_SGD, name="sgd-8-b512", epochs=8, batch_size=512),
        replace(_SGD, name="sgd-9-sizes", epochs=9, batch_size=512, sizes=(24, 24, 24, 28, 32)),
    )
}


class Bench:
    """The pictures of a split, and runs on them."""

    def __init__(self, options: Namespace, runs: Path) -> None:
        self.options, self.runs = options, runs
        self.precision = choose_precision(CPU, options.precision)
        self.published = airbench94.Settings()
        if options.smoke:
            self.published = airbench94.Settings(epochs=1.5, batch=32, widths=(8, 16, 16))

    def pictures(self, part: str, held_out: int) -> ImageSet:
        """Training, validation or test pictures, with so many of the training pictures held out."""
        return pictures_of(self.options.data, part, val=held_out)

    def recipe(self, entry: str, seed: int) -> Recipe:
        """The recipe of an entry, on these pictures."""
        recipe = CANDIDATES[entry] if entry in CANDIDATES else find_recipe(entry)
        recipe = replace(recipe, data=self.options.data, seed=seed)
        if self.options.smoke:
            options = {"widths": [8, 16, 16]} if recipe.whiten else {}
            recipe = replace(recipe, epochs=2, batch_size=32, options=options)
        return recipe

    def run(self, entry: str, split: str, seed: int) -> dict[str, Any]:
        """One run of an entry."""
        folder = self.runs / f"{entry}-{split}-{seed}-{self.options.data}"
        if entry == "airbench94":
            return self.airbench(split, seed, folder)
        recipe = self.recipe(entry, seed)
        return self.fast(recipe, split, folder) if recipe.whiten else self.careful(recipe, folder)

    def airbench(self, split: str, seed: int, folder: Path) -> dict[str, Any]:
        """airbench94 as it was published."""
        held_out = 0 if split == "test" else 5000
        images, settings = self.pictures("train", held_out), self.published

        def autocast() -> Any:
            return self.precision.autocast(CPU)

        one = airbench94.Training(images.subset(range(settings.batch)), settings, seed=seed, autocast=autocast)
        step = flops_of(lambda: one.update(*next(one.loader.epoch(0))))
        training = airbench94.Training(images, settings, seed=seed, autocast=autocast)
        training.run(folder / "last.pt")
        judged = self.pictures(split, held_out)
        return {
            "accuracy": airbench94.accuracy(training, judged, six_views=False),
            "accuracy_six_views": airbench94.accuracy(training, judged, six_views=True),
            "petaflop": step * training.steps / 1e15,
            "seconds": training.seconds,
            "cpu_seconds": training.cpu_seconds,
            "steps": training.steps,
            "pictures": len(images),
        }

    def fast(self, recipe: Recipe, split: str, folder: Path) -> dict[str, Any]:
        """A recipe of the fast network, on all training pictures (or, to choose, on those not held out)."""
        held_out = 0 if split == "test" else 5000
        images = self.pictures("train", held_out)
        values, network, _ = self.train(recipe, images, None, folder)
        return values | self.judge(network, self.pictures(split, held_out), recipe)

    def careful(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """A recipe on a 45,000/5,000 split, with the weights of the last epoch and of the best."""
        held_out = 5000
        images, val, test = (self.pictures(part, held_out) for part in ("train", "val", "test"))
        values, network, best = self.train(recipe, images, val, folder)
        chosen = Network.load(folder / "best.safetensors")
        result = evaluate(chosen, test, precision=self.precision)
        return values | self.judge(network, test, recipe) | {"val_best": best, "accuracy_of_best": result["accuracy"]}

    def train(
        self, recipe: Recipe, images: ImageSet, val: ImageSet | None, folder: Path
    ) -> tuple[dict[str, Any], Network, float]:
        """Train by this library; figures, the network, and the best validation accuracy."""
        operations = operations_of(recipe, images, self.precision)
        run = Run(folder, recipe.as_dict())
        resumed, cpu = run.resumable, time.process_time()
        fitted = fit(
            make_network(recipe, images), images, recipe, val=val, run=run, precision=self.precision, callback=say
        )
        values: dict[str, Any] = {"petaflop": operations / 1e15, "seconds": fitted.seconds}
        if not resumed:  # the clock of the processor knows this sitting only
            values["cpu_seconds"] = time.process_time() - cpu
        steps = len(images) // recipe.batch_size * recipe.epochs
        return values | {"steps": steps, "pictures": len(images)}, fitted.network, fitted.best

    def judge(self, network: Network, images: ImageSet, recipe: Recipe) -> dict[str, Any]:
        """Accuracy plain and with six views, at the size of the last epochs."""
        size = recipe.final_size
        plain = evaluate(network, images, size=size, precision=self.precision)
        views = evaluate(network, images, size=size, tta="six", precision=self.precision)
        return {"accuracy": plain["accuracy"], "accuracy_six_views": views["accuracy"]}


def operations_of(recipe: Recipe, images: ImageSet, precision: Precision) -> float:
    """Floating-point operations of a run: a step of each picture size, optimiser and resizing included, times steps."""
    few = images.subset(range(recipe.batch_size))
    per_size: dict[int | None, int] = {}
    total, per_epoch = 0, len(images) // recipe.batch_size
    for epoch in range(recipe.epochs):
        size = recipe.size_at(epoch)
        if size not in per_size:
            alone = World(0, 1, CPU)
            one = Fit(make_network(recipe, few), few, recipe, world=alone, precision=precision)

            def step(one: Fit = one, size: int | None = size) -> None:
                one.advance(*next(iter(one.batches.epoch(0, size=size))))

            per_size[size] = flops_of(step)
        total += per_size[size] * per_epoch
    return float(total)


def say(row: dict[str, Any]) -> None:
    """A line now and then."""
    if row["step"] % 500 < 50:
        print(f"  step {row['step']} of {row['steps']}, loss {row['loss']:.3f}, {row['seconds']:.0f} s", flush=True)


def report(results: Results) -> None:
    """The page: every entry beside airbench94, for each split, and the networks that train on 45,000."""
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for cell in results.cells.values():
        about = cell["settings"]
        kind = (about["split"], about["data"], about["entry"])
        groups.setdefault(kind, {})[about["seed"]] = {**cell["values"], "machine": cell["machine"]}
    body: list[str] = []
    for split, data in sorted({key[:2] for key in groups}, reverse=True):
        entries = {entry: runs for (s, d, entry), runs in groups.items() if (s, d) == (split, data)}
        reference = entries.get("airbench94", {})
        what = "all training pictures, test pictures" if split == "test" else "45,000 training pictures, 5,000 held out"
        careful = {entry: runs for entry, runs in entries.items() if any("val_best" in v for v in runs.values())}
        rows = [line(entry, runs, reference) for entry, runs in entries.items() if entry not in careful]
        head = [
            "entry",
            "plain, %",
            "six views, %",
            "beside airbench94 (six views)",
            "PFLOP",
            "ratio",
            "seconds",
            "CPU seconds",
            "ratio",
        ]
        body += [f"## {data}: {what}", "", table(head, rows), ""] if rows else []
        if careful:
            keys = ("val_best", "accuracy", "accuracy_of_best", "accuracy_six_views")
            lines = [
                [
                    entry,
                    *(mean_spread([v[key] for v in runs.values()], scale=100) for key in keys),
                    f"{statistics.fmean(v['petaflop'] for v in runs.values()):.3f}",
                    mean_spread([v["seconds"] for v in runs.values()], digits=0),
                ]
                for entry, runs in careful.items()
            ]
            head = [
                "entry",
                "best epoch on the 5,000, %",
                "test, last epoch, %",
                "test, that epoch, %",
                "test, last epoch, six views, %",
                "PFLOP",
                "seconds",
            ]
            what = "45,000 training pictures, 5,000 to choose by, test pictures"
            body += [f"## {data}: {what}", "", table(head, lines), ""]
    if any(key[1] == "cifar10-jpeg" for key in groups):
        if "cifar-resnet20" in {row.name for row in catalogue()}:
            resnet = load("cifar-resnet20")
            body += [
                "Next to them ResNet-20, trained on 45,000 pictures by the recipe cifar-resnet20-short with 5,000 to "
                f"validate ([its card](../../src/saccade/networks/weights/cifar-resnet20.md)): "
                f"{resnet.meta['metrics']['test']['accuracy']:.1%} of the test pictures, n = 1.".replace("%", " %"),
                "",
            ]
        body += [
            "`cifar10-jpeg` is CIFAR-10 re-compressed as JPEG by a third party: these figures are not comparable "
            "with published ones, only with each other.",
            "",
        ]
    body += [
        "Mean and standard deviation over seeds. Ratios and differences are between runs of one seed (those of "
        "time only where both ran on one machine); a difference comes with its standard error. Seconds are those of "
        "the wall clock, in which the machine may have had other work or a run may have been paused; CPU seconds are "
        "the run's own."
    ]
    results.write_page("CIFAR-10: this library's recipes beside airbench94", "\n".join(body))


def line(entry: str, runs: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]) -> list[str]:
    """A row of the table."""
    pairs = [(runs[seed], reference[seed]) for seed in runs if seed in reference]
    beside = "" if entry == "airbench94" else "not measured"
    if pairs and entry != "airbench94":
        gaps = [100 * (a["accuracy_six_views"] - b["accuracy_six_views"]) for a, b in pairs]
        error = f" ± {statistics.stdev(gaps) / math.sqrt(len(gaps)):.2f}" if len(gaps) > 1 else ""
        beside = f"{statistics.fmean(gaps):+.2f}{error} (n={len(gaps)})"
    work = [a["petaflop"] / b["petaflop"] for a, b in pairs]
    timed = [(a, b) for a, b in pairs if a["machine"] == b["machine"] and "cpu_seconds" in a]
    time_ratio = [a["cpu_seconds"] / b["cpu_seconds"] for a, b in timed]
    return [
        entry,
        mean_spread([v["accuracy"] for v in runs.values()], scale=100),
        mean_spread([v["accuracy_six_views"] for v in runs.values()], scale=100),
        beside,
        f"{statistics.fmean(v['petaflop'] for v in runs.values()):.3f}",
        f"{statistics.fmean(work):.2f}" if work else "",
        mean_spread([v["seconds"] for v in runs.values()], digits=0),
        mean_spread([v["cpu_seconds"] for v in runs.values() if "cpu_seconds" in v], digits=0),
        mean_spread(time_ratio) if time_ratio else "",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    known = ", ".join(["airbench94", *CANDIDATES, *(name for name, r in RECIPES.items() if "cifar" in r.data)])
    parser.add_argument("--data", default="cifar10-jpeg", help="a data set of `saccade data` (default: %(default)s)")
    parser.add_argument("--entries", default="airbench94,fast94", help=f"of {known}")
    parser.add_argument("--split", default="test", choices=["test", "val"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="of both sides")
    options = parser.parse_args(argv)
    if options.smoke:
        options.data, options.entries, options.seeds = "synthetic", "airbench94,fast94,cifar-resnet20", 1
    results = prepare(options, "cifar_accuracy", __doc__)
    bench = Bench(options, results.folder / "runs" / "benchmarks" / "cifar_accuracy")
    for seed in range(options.seeds):
        for entry in options.entries.split(","):
            settings = {"entry": entry, "split": options.split, "data": options.data, "seed": seed}
            settings |= {"precision": bench.precision.name, "why": bench.precision.reason}
            if entry != "airbench94":
                settings["recipe"] = bench.recipe(entry, seed).as_dict()
            key = f"{entry}/{options.data}/{options.split}/seed {seed}"
            results.measure(key, settings, partial(bench.run, entry, options.split, seed))
            report(results)


if __name__ == "__main__":
    main()
