"""python benchmarks/imagine.py

What growing a picture costs and what comes out. One step of feature visualisation beside one bare forward and backward
pass through the same layers, cut at the layer: in turn in one process, the median of the ratios of their times (seconds
of the process) with quartiles. And the pictures of `docs/results/`: classes grown for `tinynet-robust` and `tinynet`, a
dream, and what each depth keeps of a photograph.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from common import arguments, prepare, table
from torch import Tensor

import saccade
from saccade.engine.guards import frozen
from saccade.imagine import Channel, Recipe, class_picture, dream, grow, invert
from saccade.networks import Network, build
from saccade.networks.activations import activations
from saccade.networks.layout import memory_layout
from saccade.pictures import resize, sample, sheet, write
from saccade.pictures.optimise import Adam, Fourier, Jitter

CLASSES = (
    "goldfish", "tabby", "espresso", "monarch", "school bus", "king penguin", "jellyfish", "orange",
    "brown bear", "sports car", "ladybug", "lemon", "golden retriever", "mushroom", "teapot", "banana",
)  # fmt: skip
NETWORKS = ("tinynet-robust", "tinynet")
COSTS = {
    "tinynet-robust": ("stage1.unit2", "stage2.unit2", "stage3.unit2", "stage4.unit2"),
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
}


def network_of(name: str) -> Network:
    """A trained network, or one of random weights where speed alone matters."""
    if name == "resnet18":
        torch.manual_seed(0)
        return Network(build(name), input_size=224, name=name, architecture=(name, {})).eval()
    return saccade.load(name)


def cost(name: str, layer: str, recipe: str, size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of one step of the optimiser, and of the bare passes through the same layers."""
    network = network_of(name)
    x = torch.rand(batch, 3, size, size).contiguous(memory_format=memory_layout(network, (batch, 3, size, size)))
    taken: dict[str, list[float]] = {"step": [], "bare": []}

    def bare() -> None:
        leaf = x.detach().requires_grad_()
        value = activations(network, leaf, [layer])[layer][:, 3].mean()
        torch.autograd.grad(value, leaf)

    last = 0.0

    def told(moment: Any) -> None:
        nonlocal last
        now = time.process_time()
        if moment.step > 2:
            taken["step"].append(now - last)
            with torch.enable_grad():
                bare()
            taken["bare"].append(time.process_time() - now)
        last = time.process_time()

    # The recipes for use also shrink and turn the picture, so that the network sees another size than the bare passes.
    plain = Recipe(rounds + 2, Adam(0.05), Fourier(), transforms=(Jitter(-8, 8),))
    with frozen(network):
        grow(
            network,
            Channel(layer, 3),
            recipe=plain if recipe == "fourier" else recipe,
            size=size,
            count=batch,
            steps=rounds + 2,
            callback=told,
        )
    ratios = [a / b for a, b in zip(taken["step"], taken["bare"], strict=True)]
    return {"ratio": statistics.median(ratios), "ratios": ratios, **taken}


def timed(work: Callable[[], Tensor], path: Any, draw: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Seconds of the process, and the picture in its file."""
    start = time.process_time()
    made = work()
    seconds = time.process_time() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    write(draw(made), path)
    return {"seconds": seconds, "pictures": len(made)}


def pictures(results: Any, smoke: bool) -> None:
    """Grow what is on the page."""
    folder = results.page.parent
    steps = {"steps": 2} if smoke else {}
    size = 32 if smoke else 128
    eye = saccade.load("tinynet-robust")

    def classes() -> dict[str, Any]:
        start = time.process_time()
        rows, labels = [], []
        for name in NETWORKS:
            network = saccade.load(name)
            grown = class_picture(network, CLASSES, size=size, **steps)
            rows += [list(grown[:8]), list(grown[8:])]
            labels += [name, ""]
        names = [list(CLASSES[:8]), list(CLASSES[8:])] * len(NETWORKS)
        write(sheet(rows, captions=names, row_labels=labels, cell=128, density=1), folder / "class_pictures.webp")
        return {"seconds": time.process_time() - start, "pictures": len(CLASSES) * len(NETWORKS)}

    results.measure("pictures/classes", {"size": size}, classes)
    photograph = resize(sample("chelsea"), 64 if smoke else 256)[None].clamp(0, 1)
    layers = ("stage2.unit2", "stage3.unit2", "stage4.unit1")

    def dreams() -> Tensor:
        return torch.cat([dream(eye, photograph, layer, **steps) for layer in layers])

    def dreamt(made: Tensor) -> Tensor:
        return sheet([[photograph[0], *made]], captions=[["photograph", *layers]], cell=256)

    results.measure("pictures/dream", {}, lambda: timed(dreams, folder / "dream.webp", dreamt))
    cup = resize(sample("coffee"), 32 if smoke else 128)[None].clamp(0, 1)
    depths = ("stem", "stage1.unit2", "stage2.unit2", "stage3.unit2", "stage4.unit2")

    def inversions() -> Tensor:
        return torch.cat([invert(eye, cup, layer, **steps) for layer in depths])

    def inverted(made: Tensor) -> Tensor:
        return sheet([[cup[0], *made]], captions=[["photograph", *depths]], cell=160)

    results.measure("pictures/inversion", {}, lambda: timed(inversions, folder / "inversion.webp", inverted))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args(argv)
    results = prepare(options, "imagine", __doc__)
    size, batch, rounds = (32, 1, 3) if options.smoke else (128, 4, options.rounds)
    for name, layers in ({"tinynet-robust": ("stage2.unit2",)} if options.smoke else COSTS).items():
        for layer in layers:
            for recipe in ("fourier", "course"):
                settings = {"size": size, "batch": batch, "rounds": rounds}
                results.measure(
                    f"cost/{name}/{layer}/{recipe}",
                    settings,
                    lambda name=name, layer=layer, recipe=recipe: cost(name, layer, recipe, size, batch, rounds),  # type: ignore[misc]
                )
    pictures(results, options.smoke)
    rows, grown = [], []
    for key, cell in results.cells.items():
        values = cell["values"]
        if key.startswith("cost/"):
            _, name, layer, recipe = key.split("/")
            low, middle, high = statistics.quantiles(values["ratios"], n=4)
            step, bare = (1000 * statistics.median(values[side]) for side in ("step", "bare"))
            rows.append([name, layer, recipe, f"{step:.1f}", f"{bare:.1f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"])
        else:
            what = key.split("/")[1]
            grown.append(f"- {what}: {values['pictures']} pictures in {values['seconds']:.0f} s of the processor")
    head = ["network", "layer", "recipe", "a step, ms", "bare passes, ms", "step by bare"]
    note = (
        "Four pictures of 128 x 128 pixels at a time. fourier: spectrum and decorrelated colours, jitter, Adam. "
        "course: pixels, jitter, plain steps. `resnet18` has random weights. The bare passes are those of the network "
        "as it is; growing learns it first (`saccade.networks.fused`), which is how a step can take less than they do."
    )
    shown = "\n\n".join(
        f"![{words}]({name}.webp)"
        for name, words in (
            ("class_pictures", "Class pictures of tinynet-robust and tinynet"),
            ("dream", "A cat, dreamt at three depths"),
            ("inversion", "A cup, as each depth of tinynet-robust keeps it"),
        )
    )
    results.write_page("Growing pictures", f"{table(head, rows)}\n\n{note}\n\n" + "\n".join(grown) + f"\n\n{shown}")


if __name__ == "__main__":
    main()
