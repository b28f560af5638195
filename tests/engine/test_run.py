"""The folder of a run: one recipe, rows that survive a crash, no row twice."""

import errno
import json
import os

import pytest

from saccade.engine import run as run_module
from saccade.engine.run import Run, read_metrics, versions
from saccade.errors import SaccadeError

RECIPE = {"name": "a", "lr": 0.1, "sizes": (32, 48), "options": {"widths": [1, 2]}}


def test_recipe_and_versions_are_written(tmp_path):
    Run(tmp_path / "x" / "run", RECIPE)
    written = json.loads((tmp_path / "x" / "run" / "recipe.json").read_text())
    assert written["recipe"] == {**RECIPE, "sizes": [32, 48]}
    assert written["versions"] == versions()
    assert {"saccade", "torch", "python", "device"} <= written["versions"].keys()


def test_the_same_recipe_goes_on_another_is_refused(tmp_path):
    Run(tmp_path, RECIPE)
    before = (tmp_path / "recipe.json").read_bytes()
    Run(tmp_path, RECIPE)
    for changed in ({**RECIPE, "lr": 0.2}, {k: v for k, v in RECIPE.items() if k != "lr"}):
        with pytest.raises(SaccadeError, match=r"another recipe \(lr was 0\.1, now .*Choose another folder"):
            Run(tmp_path, changed)
    assert (tmp_path / "recipe.json").read_bytes() == before


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"versions": {}}', "7"])
def test_a_damaged_recipe_is_one_sentence(tmp_path, damaged):
    (tmp_path / "recipe.json").write_text(damaged)
    with pytest.raises(SaccadeError, match=r"recipe\.json is damaged"):
        Run(tmp_path, RECIPE)


def test_a_reader_writes_nothing(tmp_path):
    Run(tmp_path, RECIPE, write=False)
    assert os.listdir(tmp_path) == []


def test_rows_are_kept_in_order_and_cut_lines_left_out(tmp_path):
    run = Run(tmp_path, RECIPE)
    rows = [{"step": i, "loss": 1 / (i + 1), "note": "é"} for i in range(5)]
    for row in rows:
        run.log(row)
    assert read_metrics(run.metrics_path) == rows
    whole = run.metrics_path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        run.metrics_path.write_bytes(whole[: -1 - cut])
        assert read_metrics(run.metrics_path) == rows[:-1]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_rewind_drops_later_rows_cut_lines_and_leftovers(tmp_path):
    run = Run(tmp_path, RECIPE)
    for step in (10, 20, 21):
        run.log({"step": step})
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 4')
    (tmp_path / ".last.0123abcd.pt").write_bytes(b"half a checkpoint")
    run.rewind(20)
    run.log({"step": 25})
    assert [row["step"] for row in read_metrics(run.metrics_path)] == [10, 20, 25]
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "recipe.json"]


def test_a_full_disk_while_logging(tmp_path, monkeypatch):
    run = Run(tmp_path, RECIPE)
    run.log({"step": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "open", full, raising=False)
        with pytest.raises(SaccadeError, match=r"metrics\.jsonl: the disk is full"):
            run.log({"step": 2})
    assert read_metrics(run.metrics_path) == [{"step": 1}]


def test_resumable_means_a_checkpoint(tmp_path):
    run = Run(tmp_path, RECIPE)
    assert not run.resumable
    run.checkpoint_path.write_bytes(b"")
    assert run.resumable


def test_tensorboard_gets_the_numbers(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `log` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path, RECIPE, tensorboard=True)
    run.log({"step": 3, "loss": 0.5, "note": "text is left out"})
    run.log({"step": 6, "loss": 0.25})
    run.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 0.5), (6, 0.25)]
    assert events.Tags()["scalars"] == ["loss"]
