"""What a finished run leaves behind: figures as JSON and curves as a picture."""

import json
from collections.abc import Sequence
from typing import Any

from saccade.engine.files import write_text
from saccade.engine.run import Run, versions
from saccade.train.fit import Fitted


def finish(run: Run, fitted: Fitted, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`, the final network with its figures, and `curves.png` into the folder of the run."""
    recipe = json.loads((run.folder / "recipe.json").read_text("utf-8"))["recipe"]
    write_text(run.folder / "metrics.json", json.dumps({"metrics": metrics, "versions": versions()}, indent=1) + "\n")
    fitted.network.save(run.folder / "final.safetensors", meta={"recipe": recipe, "metrics": metrics})
    draw_history(fitted.history, run)


def draw_history(history: Sequence[dict[str, Any]], run: Run) -> None:
    """Loss and validation accuracy over the epochs, to `curves.png`."""
    from saccade.pictures import curves, write

    per_epoch = max((row["step"] for row in history if row["epoch"] == 0), default=1)
    lines = {}
    for label, key in (("training loss", "loss"),):
        lines[label] = [(row["step"] / per_epoch, row[key]) for row in history if key in row]
    write(curves(lines, x_label="epoch", y_label="loss"), run.folder / "loss.png")
    accuracy = {
        label: [(row["step"] / per_epoch, 100 * row[key]) for row in history if key in row]
        for label, key in (("validation", "val_accuracy"), ("without averaging", "val_accuracy_raw"),
                           ("under attack", "val_accuracy_attacked"))
    }
    accuracy = {label: points for label, points in accuracy.items() if points}
    if accuracy:
        write(curves(accuracy, x_label="epoch", y_label="accuracy, %"), run.folder / "accuracy.png")
