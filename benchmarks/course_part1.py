"""python benchmarks/course_part1.py --data cifar10-jpeg

Every experiment of part 1 of the course (EECS 498-007, assignment 4, first notebook) by its own settings: the two-layer
net and the three-layer convnet as functions of tensors with a loop by hand (part 2), as modules (part 3) and as
containers (part 4), one epoch each; the plain and the residual network of 32 layers, ten epochs (part 5). Our
accuracies on the validation pictures, for three seeds, stand beside those that the course states and those seen in
public copies of it; and there is the plot "Val accuracies".

Data as in the course: 49,000 pictures to train on and the last 1,000 to validate; batches of 64 in random order, the
last one smaller (766 an epoch); the channel constants 0.4914, 0.4822, 0.4465 and 0.2023, 0.1994, 0.2010; no
augmentation. The pictures of an archive of class folders come sorted by class, so there they are first put into one
random order, the same for every seed. `cifar10-jpeg` is re-compressed: the course's figures are for the originals.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from common import Results, arguments, mean_spread, pictures_of, prepare, table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from saccade.data import ImageSet
from saccade.engine.guards import evaluating, random_state
from saccade.engine.seeding import generator
from saccade.networks import build
from saccade.networks.three_level import (
    initialize_three_layer_conv_part2,
    initialize_three_layer_conv_part3,
    initialize_three_layer_conv_part4,
    initialize_two_layer_part2,
    initialize_two_layer_part3,
    initialize_two_layer_part4,
    three_layer_convnet,
    two_layer_net,
)
from saccade.pictures import Curve, curves, write

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BATCH = 64
Net = Callable[[Tensor], Tensor]
Made = tuple[nn.Module, SGD]


@dataclass(frozen=True)
class Experiment:
    """A row of the course's table: what it trains, for how long, and what the course and public copies report.

    tensors: net and its parameters, trained by hand at `lr`; or module: a module with its optimiser.
    """

    stated: str
    seen: str
    tensors: Callable[[], tuple[Net, list[Tensor]]] | None = None
    lr: float = 0.0
    module: Callable[[], Made] | None = None
    epochs: int = 1
    milestones: tuple[int, ...] = ()  # epochs, from 0, at whose start the learning rate is multiplied by 0.1


def _part2(
    net: Callable[[Tensor, Sequence[Tensor]], Tensor], make: Callable[[], list[Tensor]]
) -> tuple[Net, list[Tensor]]:
    params = make()
    return (lambda x: net(x, params)), params


def _part5(name: str) -> Made:
    model = build(name)
    return model, SGD(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-4)


EXPERIMENTS: dict[str, Experiment] = {
    "part 2, two-layer net": Experiment(
        "> 40 % (2019), about 40 % (2020)",
        "39.7 to 41.7",
        tensors=lambda: _part2(two_layer_net, initialize_two_layer_part2),
        lr=1e-2,
    ),
    "part 2, convnet": Experiment(
        "> 45 %, about 45 %",
        "45.8 to 46.2",
        tensors=lambda: _part2(three_layer_convnet, initialize_three_layer_conv_part2),
        lr=3e-3,
    ),
    "part 3, two-layer net": Experiment("> 40 %, about 40 %", "41.3 to 41.5", module=initialize_two_layer_part3),
    "part 3, convnet": Experiment("> 45 %, about 45 %", "49.9 to 50.0", module=initialize_three_layer_conv_part3),
    "part 4, two-layer net": Experiment("> 40 %, about 40 %", "45.4 to 45.9", module=initialize_two_layer_part4),
    "part 4, convnet": Experiment("> 50 %, about 50 %", "53.4 to 54.8", module=initialize_three_layer_conv_part4),
    "part 5, plain32": Experiment(
        "does not converge well", "70.7 to 72.3", module=lambda: _part5("plain32"), epochs=10, milestones=(6, 8)
    ),
    "part 5, resnet32": Experiment(
        "about 80 %", "80.5 to 82.3", module=lambda: _part5("resnet32"), epochs=10, milestones=(6, 8)
    ),
}


class Data:
    """Training and validation pictures, normalised as the course does."""

    def __init__(self, images: ImageSet, held_out: int) -> None:
        order = torch.arange(len(images))
        labels = images.take(order)[1]
        if bool((labels.diff() >= 0).all()):  # class folders; the official files are in random order
            order = torch.randperm(len(images), generator=generator(0))
        self.images = images
        self.train, self.val = order[:-held_out], order[-held_out:]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (float32, channels last in memory) and labels."""
        raw, labels = self.images.take(rows)
        x = raw.float().div_(255).sub_(torch.tensor(MEAN)).div_(torch.tensor(STD))
        return x.permute(0, 3, 1, 2), labels

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All training pictures once, in random order."""
        order = torch.randperm(len(self.train), generator=generator(seed, epoch))
        for rows in torch.split(self.train[order], BATCH):
            yield self.take(rows)

    def accuracy(self, net: Net) -> float:
        """Share of validation pictures that `net` gets right."""
        hits = 0
        with torch.no_grad():
            for rows in torch.split(self.val, 500):
                x, labels = self.take(rows)
                hits += int((net(x).argmax(1) == labels).sum())
        return hits / len(self.val)


def by_hand(net: Net, params: list[Tensor], lr: float, data: Data, seed: int, epochs: int) -> list[float]:
    """The loop of part 2; validation accuracy after each epoch."""
    found = []
    for epoch in range(epochs):
        for x, labels in data.epoch(seed, epoch):
            loss = F.cross_entropy(net(x), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for p in params:
                    assert p.grad is not None
                    p -= lr * p.grad
                    p.grad.zero_()
        found.append(data.accuracy(net))
    return found


def by_optimiser(
    model: nn.Module, optimiser: SGD, data: Data, seed: int, epochs: int, milestones: Sequence[int]
) -> list[float]:
    """The loop of parts 3 to 5; validation accuracy, in evaluation mode, after each epoch."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the same sums, faster
    found = []
    for epoch in range(epochs):
        if epoch in milestones:
            for group in optimiser.param_groups:
                group["lr"] *= 0.1
        model.train()
        for x, labels in data.epoch(seed, epoch):
            loss = F.cross_entropy(model(x), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with evaluating(model):
            found.append(data.accuracy(model))
    return found


def run(experiment: Experiment, data: Data, seed: int, epochs: int) -> dict[str, Any]:
    """One experiment with one seed."""
    clock, cpu = time.perf_counter(), time.process_time()
    with random_state():
        torch.manual_seed(seed)
        if experiment.tensors is not None:
            net, params = experiment.tensors()
            found = by_hand(net, params, experiment.lr, data, seed, epochs)
        else:
            assert experiment.module is not None
            model, optimiser = experiment.module()
            found = by_optimiser(model, optimiser, data, seed, epochs, experiment.milestones)
    steps = -(-len(data.train) // BATCH)
    return {
        "accuracy": found[-1],
        "history": found,
        "iterations": [steps * (epoch + 1) - 1 for epoch in range(epochs)],
        "seconds": time.perf_counter() - clock,
        "cpu_seconds": time.process_time() - cpu,
    }


def report(results: Results, data: str) -> None:
    """The table and the plot."""
    rows = []
    lines: dict[str, Curve] = {}
    for name, experiment in EXPERIMENTS.items():
        runs = results.find(f"{name}/{data}/")
        ours = mean_spread([r["accuracy"] for r in runs], digits=1, scale=100)
        rows.append([name, ours, experiment.stated, experiment.seen])
        if runs and len(runs[0]["history"]) > 1:
            epochs = list(zip(*(r["history"] for r in runs), strict=True))
            lines[name.split(", ")[1]] = Curve(
                [statistics.fmean(e) for e in epochs],
                x=runs[0]["iterations"],
                low=[min(e) for e in epochs],
                high=[max(e) for e in epochs],
            )
    head = ["experiment", "ours, %", "the course states", "seen in public copies, %"]
    body = [
        f"Validation accuracy after training on `{data}`, mean and standard deviation over seeds.",
        "",
        table(head, rows),
        "",
    ]
    if data == "cifar10-jpeg":
        body += [
            "`cifar10-jpeg` is CIFAR-10 re-compressed as JPEG by a third party (4:2:0, quality about 75); the "
            "course's figures are for the originals.",
            "",
        ]
    if lines:
        picture = curves(lines, title="Val accuracies", x_label="iterations", y_label="accuracy", percent=True)
        write(picture, results.page.with_suffix(".png"))
        body += [
            "![Validation accuracy of plain32 and resnet32 after each epoch](course_part1.png)",
            "",
            "Lines are means, bands the range over seeds. The learning rate falls to a tenth at epochs 6 and 8.",
        ]
    results.write_page("Course part 1: every experiment", "\n".join(body))


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page; every run is on file as soon as it has ended."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="cifar10-jpeg", help="a data set of `saccade data` (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="experiments whose name holds this text")
    options = parser.parse_args(argv)
    held_out = 1000
    if options.smoke:
        options.data, options.seeds, held_out = "synthetic", 1, 64
    results = prepare(options, "course_part1", __doc__)
    data = Data(pictures_of(options.data, "train"), held_out)
    for seed in range(options.seeds):
        for name, experiment in EXPERIMENTS.items():
            if options.only in name:
                epochs = min(experiment.epochs, 2) if options.smoke else experiment.epochs
                settings = {"data": options.data, "seed": seed, "epochs": epochs, "batch": BATCH, "precision": "fp32"}
                work = partial(run, experiment, data, seed, epochs)
                results.measure(f"{name}/{options.data}/seed {seed}", settings, work)
    report(results, options.data)


if __name__ == "__main__":
    main()
