"""python benchmarks/scoreboard.py

The scoreboard of attribution methods, beside controls that look at no network: `tinynet` on test pictures of Tiny
ImageNet, and a network of the same kind, trained here for a few minutes, on generated scenes, of which it is known
where the reason lies. Every row is kept under `runs/` as soon as it is done.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import arguments, pictures_of, prepare
from torch import Tensor

from saccade.data import ImageSet, scene_masks, scenes
from saccade.engine.precision import Precision
from saccade.engine.run import Run
from saccade.explain import METHODS, scoreboard
from saccade.networks import Network, load
from saccade.train import Recipe, fit
from saccade.train.train import make_network

SETTINGS: dict[str, dict[str, Any]] = {  # so that the slow ones end in minutes; said on the page
    "smooth-grad": {"samples": 25},
    "expected-gradients": {"samples": 25},
    "integrated-gradients": {"steps": 25},
    "rise": {"samples": 300},
    "lime": {"samples": 200},
    "kernel-shap": {"samples": 200},
}
LEFT_OUT = ("saliency", "smooth-grad-squared", "var-grad")  # others' maps by another scale, or their spread
SCENES = Recipe(
    "scenes", "tinynet", "scenes", size=64, count=12_000, epochs=4, batch_size=64, lr=0.05, flip="random",
    options={"widths": (24, 48, 96, 192)},
)  # fmt: skip


def trained(folder: Path, recipe: Recipe) -> tuple[Network, dict[str, float]]:
    """A network that tells the shapes of scenes apart, and its accuracy on scenes held out; goes on where it was."""
    train = scenes(recipe.count, size=recipe.size or 64, seed=0)
    val = scenes(1000, size=recipe.size or 64, split="val")
    fitted = fit(make_network(recipe, train), train, recipe, val=val, run=Run(folder, recipe.as_dict()),
                 precision=Precision("fp32", "maps are compared"))  # fmt: skip
    return fitted.network, {"val_accuracy": fitted.history[-1]["val_accuracy"]}


def floats(images: ImageSet) -> tuple[Tensor, Tensor]:
    """All pictures in [0, 1], and their labels."""
    raw, labels = images.take(torch.arange(len(images)))
    return raw.permute(0, 3, 1, 2).float() / 255, labels


def board(
    network: Network, images: ImageSet, masks: Tensor | None, folder: Path, methods: list[str], again: int
) -> dict[str, Any]:
    """One scoreboard, as JSON and as Markdown."""
    start = time.perf_counter()
    made = scoreboard(
        network, *floats(images), methods, masks=masks, folder=folder, again=again,
        settings={name: SETTINGS[name] for name in methods if name in SETTINGS},
    )  # fmt: skip
    return {"markdown": made.markdown(), "board": made.as_dict(), "seconds": time.perf_counter() - start}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=200, help="pictures; those classified correctly are scored")
    parser.add_argument("--again", type=int, default=6, help="of these for measures that repeat a method")
    parser.add_argument("--data", default="tiny-imagenet,scenes")
    options = parser.parse_args(argv)
    results = prepare(options, "scoreboard", __doc__)
    runs = results.folder / "runs" / "benchmarks" / "scoreboard"
    methods = [name for name in METHODS if name not in LEFT_OUT]
    recipe = SCENES
    if options.smoke:
        options.count, options.again, options.data = 6, 2, "scenes"
        methods = ["gradient", "grad-cam", "occlusion"]
        recipe = SCENES.override({"count": "256", "epochs": "1", "size": "32"})
    for data in options.data.split(","):

        def make(data: str = data) -> dict[str, Any]:
            if data == "scenes":
                network, facts = trained(runs / "network", recipe)
                side = recipe.size or 64
                images = scenes(options.count, size=side, split="test")
                masks = scene_masks(options.count, size=side, split="test")
            else:
                network, facts, masks = load("tinynet"), {}, None
                images = pictures_of(data, "test", count=0)
                order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
                images = images.subset(order[: options.count])
            return facts | board(network, images, masks, runs / data, methods, options.again)

        results.measure(data, {"count": options.count, "again": options.again, "settings": SETTINGS}, make)
    titles = {"tiny-imagenet": "tinynet on Tiny ImageNet", "scenes": "a network for shapes, on generated scenes"}
    parts = []
    for data, cell in results.cells.items():
        said = "; ".join(f"{name} {keywords}" for name, keywords in cell["settings"]["settings"].items())
        parts.append(
            f"## {titles.get(data, data)}\n\n{cell['values']['markdown']}\nSettings other than the default: {said}."
        )
    results.write_page("A scoreboard of attributions", "\n\n".join(parts))


if __name__ == "__main__":
    main()
