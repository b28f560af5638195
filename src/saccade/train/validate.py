"""What is measured at the end of an epoch, and which weights are the best so far."""

import warnings
from typing import Any

from saccade.data.images import ImageSet
from saccade.engine.run import Run
from saccade.train.evaluate import evaluate, evaluate_under_attack, evenly
from saccade.train.ibp import certified_accuracy
from saccade.train.monitor import CollapseWarning
from saccade.train.recipe import Recipe
from saccade.train.state import Fit


def measure_of(recipe: Recipe) -> str:
    """By which measurement the best epoch is chosen: what the recipe trains for.

    Plain accuracy would choose an epoch too early or too late: bounds lower it, and adversarial training loses
    robustness late while plain accuracy still rises (Rice et al. 2020, arXiv:2002.11569).
    """
    if recipe.adversarial == "none":
        return "val_accuracy"
    return "val_accuracy_certified" if recipe.defence == "ibp" else "val_accuracy_attacked"


def validate(state: Fit, val: ImageSet | None, epoch: int, run: Run | None) -> dict[str, Any]:
    """Measurements at the end of an epoch; keeps the best weights."""
    if val is None or len(val) == 0:
        return {}
    recipe, network = state.recipe, state.averaged()
    size = recipe.final_size
    result = evaluate(network, val, size=size, world=state.world, precision=state.precision)
    state.check_finite(result["loss"])
    row: dict[str, Any] = {f"val_{key}": value for key, value in result.items()}
    if network is not state.network:
        raw = evaluate(state.network, val, size=size, world=state.world, precision=state.precision)
        row["val_accuracy_raw"] = raw["accuracy"]
    if recipe.adversarial != "none":
        row["val_accuracy_attacked"] = evaluate_under_attack(
            network, evenly(val, 500), norm=recipe.adversarial, eps=recipe.eps, size=size, device=state.device
        )
        if recipe.defence == "ibp":
            row["val_accuracy_certified"] = certified_accuracy(
                network, evenly(val, 500), eps=recipe.eps, size=size, device=state.device
            )
        if state.monitor.watching:  # the weights of the last step: an average shows a collapse late
            strong, fast = state.monitor.measure(state.network, val, state.device)
            values = state.monitor.judge(strong, fast, state.values())
            if values is not None:
                state.restore_values(values)
                row["note"] = "single-step training collapsed; back to the best epoch, three attack steps from now on"
                warnings.warn(f"Epoch {epoch + 1} of {recipe.name}: {row['note']}.", CollapseWarning, stacklevel=4)
                return row
    judged = measure_of(recipe)
    if row[judged] > state.best:
        state.best, state.best_epoch = row[judged], epoch
        if run is not None:
            known = {"epoch": epoch, "val_accuracy": row["val_accuracy"], judged: row[judged]}
            network.save(run.folder / "best.safetensors", meta={"recipe": recipe.as_dict()} | known)
    return row
