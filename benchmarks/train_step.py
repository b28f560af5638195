"""python benchmarks/train_step.py --data cifar10-jpeg

Images a second of a training step, and the loss curve: plain PyTorch as the well-known CIFAR repositories write it
(PIL and two DataLoader workers, float32 NCHW, `.item()` twice a step; see plain.py) beside this library's step (batches
by gather, channels last, the precision that a test convolution on this machine speaks for, one reading of the loss a
window). Same networks, SGD 0.1 with momentum 0.9 and weight decay 5e-4, batch 128, both in this process by turns.

Three things are filed: `speed`, windows of steps with fresh networks, both sides one after the other in a round;
`same`, the losses of both sides on the same batches from the same weights in float64 (equal up to rounding, so the
steps are the same mathematics); `loss`, whole curves of both sides, each with its own random numbers, to see that
speed, layout and precision cost nothing (there both sides pad by reflection, so they draw from the same pictures).
"""

import copy
import itertools
import math
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import Results, arguments, machine, mean_spread, pictures_of, prepare, table
from plain import CifarResNet18, PilPictures, PlainTraining, loader
from torch import nn

from saccade.data import ImageSet, channel_statistics
from saccade.engine.distributed import World
from saccade.engine.guards import random_state
from saccade.engine.precision import Precision, choose_precision
from saccade.networks import Network, build
from saccade.train import Recipe
from saccade.train.state import Fit

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-20": lambda: build("cifar-resnet20"),
    "ResNet-18": CifarResNet18,
    "small": lambda: CifarResNet18(width=8),  # for the smoke test
}
CPU = torch.device("cpu")
SIDES = ("plain", "ours")


class Bench:
    """Both sides of a comparison on one set of pictures."""

    def __init__(self, images: ImageSet, options: Namespace) -> None:
        self.images, self.options = images, options
        self.mean, self.std = channel_statistics(images)
        self.precision = choose_precision(CPU, options.precision)

    def module(self, network: str, seed: int) -> nn.Module:
        """The untrained network; both sides start from the same weights."""
        torch.manual_seed(seed)
        return NETWORKS[network]()

    def ours(self, network: str, seed: int, precision: Precision) -> Fit:
        """This library's run: the same settings as a recipe."""
        recipe = Recipe(
            "train-step",
            network,
            self.images.name,
            epochs=100,
            batch_size=self.options.batch,
            lr=0.1,
            momentum=0.9,
            nesterov=False,
            weight_decay=5e-4,
            decay_all=True,
            schedule="constant",
            warmup=0.0,
            flip="random",
            translate=4,
            seed=seed,
        )
        wrapped = Network(self.module(network, seed), mean=self.mean, std=self.std)
        return Fit(wrapped, self.images, recipe, world=World(0, 1, CPU), precision=precision)

    def plain(self, network: str, seed: int, steps: int, *, border: str, warm: int = 0) -> tuple[float, list[float]]:
        """Seconds and losses of `steps` steps in plain PyTorch, after `warm` that are not timed."""
        training = PlainTraining(self.module(network, seed))
        pictures = PilPictures(self.images, self.mean, self.std, border=border)
        losses: list[float] = []
        start = time.perf_counter()
        done = 0
        while done < warm + steps:
            batches = loader(pictures, batch_size=self.options.batch, workers=self.options.workers)
            for inputs, targets in batches:
                losses.append(training.step(inputs, targets))
                done += 1
                if done == warm:
                    start = time.perf_counter()
                if done == warm + steps:
                    break
        return time.perf_counter() - start, losses[warm:]

    def library(self, network: str, seed: int, steps: int, *, warm: int = 0) -> tuple[float, list[float]]:
        """The same with this library; the losses are read after the time is taken, as `fit` does now and then."""
        fit = self.ours(network, seed, self.precision)
        losses: list[torch.Tensor] = []
        start = time.perf_counter()
        while fit.step < warm + steps:
            epoch = fit.step // len(fit.batches)
            for pictures, labels in fit.batches.epoch(epoch):
                before = fit.loss_sum.clone()
                fit.advance(pictures, labels)
                losses.append(fit.loss_sum - before)
                if fit.step == warm:
                    start = time.perf_counter()
                if fit.step == warm + steps:
                    break
        fit.read_loss()
        return time.perf_counter() - start, [float(loss) for loss in losses[warm:]]

    def speed(self, network: str, turn: int, steps: int) -> dict[str, Any]:
        """One round: a window of each side; the side that begins changes from round to round."""
        rates = {}
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            if side == "plain":
                seconds, _ = self.plain(network, turn, steps, border="zero", warm=self.options.warm)
            else:
                seconds, _ = self.library(network, turn, steps, warm=self.options.warm)
            rates[side] = steps * self.options.batch / seconds
        return {**rates, "ratio": rates["ours"] / rates["plain"]}

    def curve(self, network: str, side: str, seed: int, steps: int) -> dict[str, Any]:
        """The losses of one side over a longer stretch."""
        run = partial(self.plain, border="reflect") if side == "plain" else self.library
        return {"losses": [round(loss, 5) for loss in run(network, seed, steps)[1]]}

    def same(self, network: str, steps: int = 4) -> dict[str, Any]:
        """Losses of both sides on the same batches, in float64: in float32 rounding flips a few ReLUs within one step,
        and at this learning rate the curves part for good."""
        fit = self.ours(network, 0, Precision("fp32", "to compare"))
        fit.network.double()
        training = PlainTraining(copy.deepcopy(fit.network.module))
        for parameter in training.network.parameters():
            parameter.data = parameter.data.contiguous()
        losses: dict[str, list[float]] = {side: [] for side in SIDES}
        for pictures, labels in fit.batches.epoch(0):
            exact = pictures.double()
            inputs = ((exact - fit.network.mean) / fit.network.std).contiguous()
            losses["plain"].append(training.step(inputs, labels))
            losses["ours"].append(float(fit.update(exact, labels)))
            if len(losses["ours"]) == steps:
                break
        pairs = zip(losses["plain"], losses["ours"], strict=True)
        return {**losses, "largest_difference": max(abs(a - b) / abs(a) for a, b in pairs)}


def compare(plain: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], parts: int = 10) -> list[dict[str, Any]]:
    """Mean loss in each tenth of the steps, over the seeds of each side, and how far apart the sides are.

    apart: the difference of the means over its standard error; the last row is the mean over the last half.
    """

    def means(curve: Sequence[float]) -> list[float]:
        cuts = [round(i * len(curve) / parts) for i in range(parts + 1)]
        tenths = [statistics.fmean(curve[a:b]) for a, b in itertools.pairwise(cuts)]
        return [*tenths, statistics.fmean(curve[len(curve) // 2 :])]

    rows = []
    for a, b in zip(zip(*map(means, plain), strict=True), zip(*map(means, ours), strict=True), strict=True):
        error = math.nan
        if len(a) > 1 and len(b) > 1:
            error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
        difference = statistics.fmean(b) - statistics.fmean(a)
        rows.append({"plain": a, "ours": b, "apart": difference / error if error else math.nan})
    return rows


def table_of_losses(plain: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], arithmetic: str) -> str:
    """Both curves in tenths."""
    names = [*(f"{10 * i} to {10 * i + 10} %" for i in range(10)), "last half"]
    lines = [
        [name, mean_spread(row["plain"], digits=4), mean_spread(row["ours"], digits=4), f"{row['apart']:+.1f}"]
        for name, row in zip(names, compare(plain, ours), strict=True)
    ]
    note = (
        f"Mean loss in each tenth of {len(plain[0])} steps, over seeds; ours in {arithmetic}. The last column is the "
        "difference over its standard error, in which two equal things stay within about 2 (with few seeds, 3)."
    )
    return f"{note}\n\n{table(['steps', 'plain', 'ours', 'apart'], lines)}"


def report(results: Results) -> None:
    """The page: a table of speeds for each machine and precision, and the loss curves in tenths."""
    speeds: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for key, cell in results.cells.items():
        if key.startswith("speed/"):
            where = (cell["settings"]["network"], cell["machine"], cell["settings"]["precision"])
            speeds.setdefault(where, []).append(cell["values"])
    rows = [
        [
            network,
            place,
            arithmetic,
            mean_spread([r["plain"] for r in rounds], digits=1),
            mean_spread([r["ours"] for r in rounds], digits=1),
            mean_spread([r["ratio"] for r in rounds]),
        ]
        for (network, place, arithmetic), rounds in speeds.items()
    ]
    head = ["network", "machine", "our precision", "plain images/s", "ours images/s", "ratio of a round"]
    body = ["## Speed", "", "Mean and standard deviation over rounds.", "", table(head, rows), ""]
    for network in dict.fromkeys(cell["settings"]["network"] for cell in results.cells.values()):
        body += [f"## {network}: the same losses", ""]
        for values in results.find(f"same/{network}"):
            steps = len(values["plain"])
            body += [
                f"Same weights, same batches, float64: over {steps} steps the losses differ by at most "
                f"{values['largest_difference']:.1e} of their value.",
                "",
            ]
        plain = [v["losses"] for v in results.find(f"loss/{network}/plain/")]
        for arithmetic in ("fp32", "bf16"):
            ours = [v["losses"] for v in results.find(f"loss/{network}/ours in {arithmetic}/")]
            if plain and ours:
                body += [table_of_losses(plain, ours, arithmetic), ""]
    results.write_page("Training step: plain PyTorch and this library", "\n".join(body))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="cifar10-jpeg", help="a data set of `saccade data` (default: %(default)s)")
    parser.add_argument("--networks", default="ResNet-20,ResNet-18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the plain side's DataLoader")
    parser.add_argument("--warm", type=int, default=3, help="steps before the clock starts")
    parser.add_argument("--seeds", type=int, default=3, help="of the loss curves, on each side; 0 for none")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="of our side")
    options = parser.parse_args(argv)
    steps = {"ResNet-20": (40, 390), "ResNet-18": (8, 100), "small": (2, 12)}  # of a window, of a curve
    if options.smoke:
        options.data, options.networks, options.batch, options.rounds = "synthetic", "small", 16, 2
        options.warm, options.seeds, options.workers = 1, 2, 1
    networks = options.networks.split(",")
    results = prepare(options, "train_step", __doc__)
    bench = Bench(pictures_of(options.data, "train"), options)
    precision = bench.precision
    settings = {"data": options.data, "batch": options.batch, "workers": options.workers}
    settings |= {"precision": precision.name, "why": precision.reason}
    with random_state():
        for network in networks:
            window, length = steps[network]
            about = {**settings, "network": network}
            results.measure(f"same/{network}", about, partial(bench.same, network))
            for turn in range(options.rounds):
                key = f"speed/{network}/{precision.name}/{machine()}/round {turn}"
                work = partial(bench.speed, network, turn, window)
                results.measure(key, {**about, "steps": window, "warm": options.warm, "border": "zero"}, work)
            for seed in range(options.seeds):
                curve = {**about, "steps": length, "border": "reflect", "seed": seed}
                for side in ("plain", f"ours in {precision.name}"):
                    work = partial(bench.curve, network, side, seed, length)
                    results.measure(f"loss/{network}/{side}/{seed}", curve, work)
            report(results)


if __name__ == "__main__":
    main()
