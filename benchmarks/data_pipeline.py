"""python benchmarks/data_pipeline.py

Microseconds of one thread for one picture of 32x32: shift by up to four pixels, flip, divide by 255, normalise.

- ours: `saccade.data.Batches` (which shuffles too) and the normalisation that `Network` does;
- PIL: one picture after the other as the well-known CIFAR repositories do it (plain.py), without a loader;
- PIL and DataLoader: the same collated into batches, in this process or by two workers; there "main" is what is left
  in the training process and "all" adds the workers;
- whole epoch: the way of airbench94, float32: all pictures normalised, padded and flipped once, then shifted at the
  start of each epoch by masks, one for each shift, and gathered a batch at a time.

Times are of the processor, not the clock (a busy neighbour then matters little); median over repeats, with quartiles.
"""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import arguments, machine, pictures_of, prepare, table
from plain import PilPictures, loader
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data import Augment, Batches, ImageSet, channel_statistics
from saccade.networks import Network

PAD = 4


class Corner(nn.Module):
    """Stands for a network that costs nothing: the first pixel, (N, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 0, 0]


class Pipelines:
    """The pipelines over one set of pictures; each method does an epoch and returns how many pictures came out."""

    def __init__(self, images: ImageSet, few: int, batch: int) -> None:
        self.images, self.batch, self.epoch = images, batch, 0
        self.mean, self.std = channel_statistics(images)
        self.batches = Batches(images, batch_size=batch, augment=Augment(flip="random", translate=PAD))
        self.network = Network(Corner(), mean=self.mean, std=self.std)
        self.pil = PilPictures(images.subset(torch.arange(min(few, len(images)))), self.mean, self.std)
        self.flipped: Tensor | None = None

    def ours(self) -> int:
        """Batches and normalisation of this library."""
        self.epoch += 1
        count = 0
        for pictures, _ in self.batches.epoch(self.epoch):
            count += len(self.network(pictures))
        return count

    def unnormalised(self) -> int:
        """The batches alone."""
        self.epoch += 1
        return sum(len(labels) for _, labels in self.batches.epoch(self.epoch))

    def one_by_one(self) -> int:
        """PIL without a loader."""
        for i in range(len(self.pil)):
            self.pil[i]
        return len(self.pil)

    def loaded(self, workers: int) -> int:
        """PIL and DataLoader."""
        return sum(len(labels) for _, labels in loader(self.pil, batch_size=self.batch, workers=workers))

    def whole_epoch(self) -> int:
        """All pictures at once, as float32. The first epoch prepares what the later ones use."""
        side = 2 * PAD + 1
        if self.flipped is None:
            pictures, _ = self.images.take(torch.arange(len(self.images)))
            x = pictures.float().div(255).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            x = (x - torch.tensor(self.mean).view(1, 3, 1, 1)) / torch.tensor(self.std).view(1, 3, 1, 1)
            coin = torch.rand(len(x), 1, 1, 1) < 0.5
            self.flipped = F.pad(torch.where(coin, x.flip(3), x), (PAD,) * 4, mode="reflect")
        h, w = self.images.size
        shifts = torch.randint(0, side, (len(self.flipped), 2))
        out = torch.empty(len(self.flipped), 3, h, w).contiguous(memory_format=torch.channels_last)
        middle = torch.empty(len(self.flipped), 3, h, w + 2 * PAD).contiguous(memory_format=torch.channels_last)
        for shift in range(side):  # rows, then columns: two times nine masks instead of 81
            chosen = shifts[:, 0] == shift
            middle[chosen] = self.flipped[chosen, :, shift : shift + h]
        for shift in range(side):
            chosen = shifts[:, 1] == shift
            out[chosen] = middle[chosen, :, :, shift : shift + w]
        self.epoch += 1
        if self.epoch % 2:
            out = out.flip(3)
        order = torch.randperm(len(out))
        count = 0
        for start in range(0, len(out) - self.batch + 1, self.batch):
            count += len(out[order[start : start + self.batch]])
        return count


def timed(run: Callable[[], int], repeats: int) -> dict[str, Any]:
    """Processor time a picture of `repeats` runs after one that is not counted: of this process, and with its workers
    (they are counted once they have ended)."""
    run()
    rows: dict[str, list[float]] = {"main": [], "all": [], "clock": []}
    for _ in range(repeats):
        clock, main, children = time.perf_counter(), time.process_time(), _children()
        count = run()
        main = time.process_time() - main
        rows["main"].append(main / count * 1e6)
        rows["all"].append((main + _children() - children) / count * 1e6)
        rows["clock"].append((time.perf_counter() - clock) / count * 1e6)
    return {"us_per_image": statistics.median(rows["main"]), **rows}


def _children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles([*values, *values][: max(len(values), 2)], n=4, method="inclusive")
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="cifar10-jpeg", help="a data set of `saccade data` (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--count", type=int, default=20_000, help="pictures an epoch; a fifth of it for PIL")
    options = parser.parse_args(argv)
    options.threads = 1
    if options.smoke:
        options.data, options.batch, options.repeats, options.count = "synthetic", 32, 2, 320
    results = prepare(options, "data_pipeline", __doc__)
    pipelines = Pipelines(pictures_of(options.data, "train", count=options.count), options.count // 5, options.batch)
    ways: dict[str, Callable[[], int]] = {
        "ours": pipelines.ours,
        "ours, without normalisation": pipelines.unnormalised,
        "PIL, one by one": pipelines.one_by_one,
        "PIL and DataLoader, no workers": partial(pipelines.loaded, 0),
        "PIL and DataLoader, two workers": partial(pipelines.loaded, 2),
        "whole epoch by masks": pipelines.whole_epoch,
    }
    settings = {"data": options.data, "batch": options.batch, "count": options.count, "pad": PAD}
    for name, run in ways.items():
        results.measure(f"{name}/{machine()}", settings, partial(timed, run, options.repeats))
    rows = []
    for key, cell in results.cells.items():
        values = cell["values"]
        rows.append([key.split("/")[0], cell["machine"], *(spread(values[kind]) for kind in ("main", "all", "clock"))])
    head = ["pipeline", "machine", "main process", "with workers", "by the clock"]
    note = "Microseconds a picture, median and quartiles. The clock counts what neighbours took."
    results.write_page("Data pipeline at 32x32: crop, flip, normalise", f"{note}\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
