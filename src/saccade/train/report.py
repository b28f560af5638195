"""What a finished run leaves behind: figures as JSON and curves as pictures."""

import json
from collections.abc import Sequence
from typing import Any

from saccade.engine.files import write_text
from saccade.engine.run import Run, versions
from saccade.train.fit import Fitted


def finish(run: Run, fitted: Fitted, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`, the final network with its figures, and the curves into the folder of the run."""
    recipe = json.loads((run.folder / "recipe.json").read_text("utf-8"))["recipe"]
    write_text(run.folder / "metrics.json", json.dumps({"metrics": metrics, "versions": versions()}, indent=1) + "\n")
    fitted.network.save(run.folder / "final.safetensors", meta={"recipe": recipe, "metrics": metrics})
    draw_history(fitted.history, run)


def draw_history(history: Sequence[dict[str, Any]], run: Run) -> None:
    """Training and validation loss, and the accuracies, over the epochs: `loss.png` and `accuracy.png`."""
    from saccade.pictures import Curve, curves, write

    per_epoch = max((row["step"] for row in history if row["epoch"] == 0), default=1)

    def lines(**names: str) -> dict[str, Curve]:
        found = {}
        for key, name in names.items():
            rows = [row for row in history if key in row]
            if rows:
                found[name] = Curve([row[key] for row in rows], x=[row["step"] / per_epoch for row in rows])
        return found

    losses = lines(loss="training", val_loss="validation")
    if losses:
        write(curves(losses, x_label="epoch", y_label="cross entropy"), run.folder / "loss.png")
    accuracies = lines(
        val_accuracy="validation",
        val_accuracy_raw="without averaging",
        val_accuracy_attacked="under attack",
        val_accuracy_certified="certified",
    )
    if accuracies:
        write(curves(accuracies, x_label="epoch", y_label="accuracy", percent=True), run.folder / "accuracy.png")
