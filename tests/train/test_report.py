"""The figures and curves of a finished run."""

import json

import pytest
import torch

from saccade.engine.run import Run
from saccade.pictures import read
from saccade.train.fit import Fitted
from saccade.train.report import draw_history, finish

HISTORY = [
    {"step": 5, "epoch": 0, "loss": 2.0},
    {"step": 10, "epoch": 0, "loss": 1.5, "val_loss": 1.4, "val_accuracy": 0.4, "val_accuracy_raw": 0.3},
    {"step": 20, "epoch": 1, "loss": 1.0, "val_loss": 1.1, "val_accuracy": 0.6, "val_accuracy_raw": 0.5},
]


def test_files_of_a_finished_run(tmp_path, network, recipe):
    run = Run(tmp_path, recipe().as_dict())
    metrics = {"test": {"accuracy": 0.5}}
    finish(run, Fitted(network(), HISTORY, 0.6, 2, 1.0), metrics)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == metrics
    assert written["versions"]["torch"] == torch.__version__
    for name in ("loss.png", "accuracy.png"):
        picture = read(tmp_path / name)
        assert picture.shape[0] == 3
        assert picture.std() > 0.01  # something is drawn


@pytest.mark.parametrize(
    ("history", "names"),
    [([], []), (HISTORY[:1], ["loss.png"]), (HISTORY, ["accuracy.png", "loss.png"])],
)
def test_curves_are_drawn_of_what_was_measured(tmp_path, recipe, history, names):
    run = Run(tmp_path, recipe().as_dict())
    draw_history(history, run)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == names
