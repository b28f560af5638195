"""From a recipe to a trained, measured, saved network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.data.catalog import load as load_data
from saccade.data.images import ImageSet
from saccade.data.statistics import channel_statistics
from saccade.engine.distributed import World
from saccade.engine.precision import choose_precision
from saccade.engine.run import Run
from saccade.engine.seeding import mix
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.registry import build
from saccade.networks.zoo import load as load_network
from saccade.train.evaluate import evaluate, evaluate_under_attack, evenly
from saccade.train.fit import Callback, fit
from saccade.train.ibp import certified_accuracy, interval_start
from saccade.train.recipe import Recipe
from saccade.train.validate import measure_of

Say = Callable[[str], None]
"""Called with plain sentences about what is being done."""


@dataclass(frozen=True)
class Trained:
    """A finished run: the network and its figures (also in `metrics.json` of the run's folder)."""

    network: Network
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path


def load_splits(
    recipe: Recipe, progress: Callable[[int, int], None] | None = None
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, validation and test pictures of a recipe; the test pictures are for the very end."""
    val = None if recipe.val < 0 else recipe.val
    train, held_out, test = (
        load_data(recipe.data, split=split, size=recipe.size or None, seed=recipe.seed, val=val, progress=progress)
        for split in ("train", "val", "test")
    )
    if recipe.count:
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(recipe.seed))[: recipe.count]
        train = train.subset(chosen)
    return train, held_out, test


def make_network(recipe: Recipe, train: ImageSet) -> Network:
    """The untrained network of a recipe, normalised by the data; its random weights follow from the seed."""
    if recipe.start:
        network = load_network(recipe.start)
        if network.classes != train.classes:
            raise SaccadeError(
                f"Recipe {recipe.name} starts from {recipe.start}, whose classes are not those of {train.name}."
            )
        network.name = recipe.name
        return network
    mean, std = channel_statistics(train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(recipe.seed, 7))
        module = build(recipe.network, num_classes=len(train.classes), **recipe.options)
        if recipe.defence == "ibp":
            interval_start(module)
    options = {"num_classes": len(train.classes), **recipe.options}
    network = Network(
        module,
        mean=mean,
        std=std,
        classes=train.classes,
        input_size=recipe.size or train.size[0],
        name=recipe.name,
        architecture=(recipe.network, options),
    )
    if recipe.whiten:
        some, _ = train.take(torch.arange(min(5000, len(train))))
        pictures = some.permute(0, 3, 1, 2).float() / 255
        module.whiten((pictures - network.mean) / network.std)  # type: ignore[operator]
    return network


def train(
    recipe: Recipe,
    *,
    folder: str | Path,
    world: World | None = None,
    callback: Callback | None = None,
    say: Say = lambda sentence: None,
    progress: Callable[[int, int], None] | None = None,
    tensorboard: bool = False,
) -> Trained:
    """Run a recipe: prepare data and network, train, evaluate once on the test pictures, save all in `folder`.

    A folder with an unfinished run of the same recipe is taken up where it stopped. Raises `SaccadeError` with what to
    mend; earlier results stay.
    """
    from saccade.train.report import finish

    world = world or World(0, 1, torch.device("cpu"))
    run = Run(folder, recipe.as_dict(), tensorboard=tensorboard and world.first, write=world.first)
    training, val, test = load_splits(recipe, progress)
    network = make_network(recipe, training)
    precision = choose_precision(world.device, recipe.precision)
    say(f"{len(training):,} pictures of {training.name} to train on, {len(val):,} to validate, {len(test):,} to test.")
    say(
        f"{sum(p.numel() for p in network.parameters()):,} parameters on {world.device}, "
        f"{precision.name} ({precision.reason})."
    )
    if run.resumable:
        say(f"Going on with the run in {run.folder}.")
    fitted = fit(network, training, recipe, val=val, run=run, world=world, callback=callback, precision=precision)
    size = recipe.final_size
    metrics: dict[str, Any] = {
        f"{measure_of(recipe)}_best": fitted.best,
        "epochs": fitted.epochs,
        "seconds": fitted.seconds,
    }
    metrics["test"] = evaluate(fitted.network, test, size=size, world=world)
    if recipe.tta != "none":
        metrics[f"test_tta_{recipe.tta}"] = evaluate(fitted.network, test, size=size, tta=recipe.tta, world=world)
    if recipe.adversarial != "none":
        robust = evaluate_under_attack(
            fitted.network,
            evenly(test, 1000),
            norm=recipe.adversarial,
            eps=recipe.eps,
            size=size,
            device=world.device,
        )
        metrics["test_attacked"] = {
            "accuracy": robust,
            "attack": f"10-step PGD, {recipe.adversarial}, eps {recipe.eps:.5f}, {min(1000, len(test))} pictures",
        }
    if recipe.defence == "ibp":
        proved = certified_accuracy(fitted.network, test, eps=recipe.eps, size=size, device=world.device)
        metrics["test_certified"] = {"accuracy": proved, "by": f"interval bounds, linf, eps {recipe.eps:.5f}"}
    if world.first:
        finish(run, fitted, metrics)
    return Trained(fitted.network, metrics, fitted.history, run.folder)
