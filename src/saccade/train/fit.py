"""The training loop.

Everything random follows from (seed, epoch, step), and one checkpoint holds the rest; so a run that is killed at any
moment and started again ends with the same bits (on the CPU) as one that was not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saccade.data.images import ImageSet
from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.distributed import World, unshare_batch_norm
from saccade.engine.guards import random_state
from saccade.engine.precision import Precision
from saccade.engine.run import Run
from saccade.networks.network import Network
from saccade.train.recipe import Recipe
from saccade.train.schedule import factor
from saccade.train.state import Fit
from saccade.train.validate import validate

Callback = Callable[[dict[str, Any]], None]
"""Called with one row of measurements: step, epoch, loss, rate, and at the end of an epoch accuracies."""


@dataclass(frozen=True)
class Fitted:
    """The outcome of `fit`: the trained network (averaged weights if the recipe asks for them) and all rows."""

    network: Network
    history: list[dict[str, Any]]
    best: float  # of any epoch: the measurement by which the best one is chosen, see `validate.measure_of`
    epochs: int  # trained; fewer than asked for after an early stop
    seconds: float  # spent training, over all sittings


def fit(
    network: Network,
    train: ImageSet,
    recipe: Recipe,
    *,
    val: ImageSet | None = None,
    run: Run | None = None,
    world: World | None = None,
    precision: Precision | None = None,
    callback: Callback | None = None,
    log_every: int = 50,
    save_every: float = 60.0,
) -> Fitted:
    """Train `network` on `train` by `recipe`.

    Args:
        network: trained in place, moved to the device of `world`.
        val: validated on after each epoch, and decides which epoch is best.
        run: the folder for measurements and checkpoints; if it holds an unfinished run, that one is continued.
        precision: chosen by timing unless given.
        callback: called with each row of measurements.
        log_every: steps between rows.
        save_every: seconds between checkpoints (there is also one after each epoch).

    Raises:
        SaccadeError: the loss is not finite, the disk is full, a checkpoint is damaged, the data are too few.
    """
    world = world or World(0, 1, next(network.parameters()).device)
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with random_state():
            state = Fit(network, train, recipe, world=world, precision=precision)
            if run is not None and run.resumable:
                state.restore(load_checkpoint(run.checkpoint_path, device=world.device))
            if run is not None and world.first:
                run.rewind(state.step)
            return _loop(state, val, run if world.first else None, callback, log_every, save_every)
    finally:
        unshare_batch_norm(network)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _loop(
    state: Fit,
    val: ImageSet | None,
    run: Run | None,
    callback: Callback | None,
    log_every: int,
    save_every: float,
) -> Fitted:
    recipe, per_epoch = state.recipe, len(state.batches)
    saved = time.monotonic()

    def record(row: dict[str, Any]) -> None:
        state.history.append(row)
        if run is not None:
            run.log(row)
        if callback is not None:
            callback(row)

    def save() -> None:
        nonlocal saved
        if run is not None:
            save_checkpoint(run.checkpoint_path, state.state())
        saved = time.monotonic()

    stopped = _out_of_patience(state)
    while state.step < state.steps and not stopped:
        epoch = state.step // per_epoch
        state.network.train()
        if recipe.whiten and epoch >= recipe.whiten_bias_epochs:
            state.network.get_submodule("module.whitening").requires_grad_(False)
        batches = state.batches.epoch(
            epoch, start=state.step % per_epoch, size=recipe.size_at(epoch), crop=recipe.crop_at(epoch)
        )
        for pictures, labels in batches:
            state.advance(pictures, labels)
            if state.step % log_every == 0 and state.step % per_epoch:
                record(_row(state, epoch))
                if time.monotonic() - saved > save_every:
                    save()
        record(_row(state, epoch) | validate(state, val, epoch, run))
        save()
        stopped = _out_of_patience(state)
    final = state.averaged()
    final.eval()
    unshare_batch_norm(final)
    if run is not None:
        final.save(run.folder / "final.safetensors", meta={"recipe": recipe.as_dict()})
        run.close()
    return Fitted(final, state.history, max(state.best, 0.0), state.step // per_epoch, state.read_clock())


def _row(state: Fit, epoch: int) -> dict[str, Any]:
    rate = factor(state.step - 1, state.steps, state.recipe)
    return {
        "step": state.step,
        "steps": state.steps,
        "epoch": epoch,
        "loss": state.read_loss(),
        "rate": rate,
        "seconds": round(state.read_clock(), 1),
    }


def _out_of_patience(state: Fit) -> bool:
    patience = state.recipe.patience
    epoch = state.step // len(state.batches) - 1
    return patience > 0 and state.best_epoch >= 0 and epoch - state.best_epoch >= patience
