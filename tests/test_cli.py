"""The command line as a person meets it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from saccade import cli
from saccade.errors import SaccadeError
from saccade.networks import Network, build, load
from saccade.train import RECIPES

runner = CliRunner()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, red and blue, that any network can tell apart."""
    generator = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(40):
            noise = generator.integers(-30, 31, (20, 24, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))


def invoke(*arguments: str) -> str:
    result = runner.invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


SMALL = ["--options", '{"widths": [8, 16], "units": [1, 1]}', "--size", "16", "--sizes", "16", "--batch-size", "16"]


def test_train_evaluate_predict_and_export_a_network_on_a_folder(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = invoke(
        "train",
        "tinynet",
        "--data",
        str(photos),
        "--val",
        "8",
        "--epochs",
        "6",
        "--muon-lr",
        "0.02",
        *SMALL,
        "--folder",
        str(run),
        "--device",
        "cpu",
        "--json",
    )
    result = json.loads(made)
    assert result["test"]["accuracy"] == 1.0
    assert {
        "recipe.json",
        "metrics.json",
        "metrics.jsonl",
        "last.pt",
        "best.safetensors",
        "final.safetensors",
        "loss.png",
        "accuracy.png",
    } <= {path.name for path in run.iterdir()}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "val_accuracy" in row] == list(range(6))

    network = str(run / "final.safetensors")
    measured = json.loads(invoke("evaluate", network, str(photos), "--device", "cpu", "--eps", "0.5", "--json"))
    assert measured["accuracy"] == result["test"]["accuracy"]
    assert measured["accuracy_under_attack"] < 0.5  # half the range of a pixel turns red into blue

    picture = photos / "red" / "0.png"
    answer = json.loads(invoke("predict", str(picture), "-n", network, "--device", "cpu", "--json"))
    assert answer[str(picture)][0]["name"] == "red"
    assert sum(row["probability"] for row in answer[str(picture)]) == pytest.approx(1)
    assert "red" in invoke("predict", str(picture), "-n", network, "--device", "cpu")

    file = tmp_path / "network.onnx"
    assert json.loads(invoke("export", network, "-o", str(file), "--json"))["largest_difference"] < 1e-4
    assert file.stat().st_size > 1000


def test_a_finished_run_is_not_trained_again(photos: Path, tmp_path: Path) -> None:
    command = [
        "train",
        "tinynet",
        "--data",
        str(photos),
        "--val",
        "8",
        "--epochs",
        "2",
        *SMALL,
        "--folder",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--json",
    ]
    first = json.loads(invoke(*command))
    weights = load(tmp_path / "run" / "final.safetensors").state_dict()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert json.loads(invoke(*command))["test"] == first["test"]
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == rows
    again = load(tmp_path / "run" / "final.safetensors").state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def test_find_rate_suggests_and_plots(photos: Path, tmp_path: Path) -> None:
    found = json.loads(
        invoke(
            "train",
            "tinynet",
            "--data",
            str(photos),
            "--val",
            "8",
            "--optimiser",
            "sgd",
            *SMALL,
            "--folder",
            str(tmp_path / "run"),
            "--device",
            "cpu",
            "--find-rate",
            "--json",
        )
    )
    assert 1e-5 < found["suggestion"] < 10
    with Image.open(found["plot"]) as plot:
        assert plot.size[0] > 400


def test_lists() -> None:
    assert all(name in invoke("train") for name in RECIPES)
    assert {row["name"] for row in json.loads(invoke("models", "--json"))} >= {"resnet18", "vgg19"}
    assert {row["name"] for row in json.loads(invoke("data", "--json"))} >= {"cifar10", "tiny-imagenet", "scenes"}
    for command in ("models", "data"):
        assert "cifar10" in invoke(command) or "resnet18" in invoke(command)


def test_data_prints_the_statistics_of_a_folder(photos: Path) -> None:
    result = json.loads(invoke("data", str(photos), "--json"))
    assert result["classes"] == 2
    assert result["mean"][0] == pytest.approx(115 / 255, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tinynte"], "no recipe 'tinynte'. Did you mean tinynet"),
        (["train", "tinynet", "--epoch", "3"], "no field 'epoch'"),
        (["train", "tinynet", "--epochs", "many"], "--epochs got 'many'; a whole number is expected"),
        (["train", "tinynet", "--eps", "8/0"], "--eps got '8/0'; a number is expected"),
        (["train", "tinynet", "--flip", "up"], "one of none, random, alternating"),
        (["train", "tinynet", "--data", "no/such/folder"], "no/such/folder"),
        (["train", "tinynet", "5"], "did not expect '5'"),
        (["predict", "no.jpg", "-n", "no-such-network"], "no network 'no-such-network'"),
        (["evaluate", "no.safetensors", "scenes"], "no.safetensors"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], message: str) -> None:
    with pytest.raises(SaccadeError, match=re.escape(message)):
        invoke(*arguments)


def test_main_prints_the_message_and_leaves_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["saccade", "train", "nope"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("saccade: There is no recipe 'nope'")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_missing_pictures_and_wrong_classes_are_said(tmp_path: Path) -> None:
    network = Network(
        build("tinynet", num_classes=3, widths=[4], units=[1]),
        input_size=16,
        classes=list("abc"),
        architecture=("tinynet", {"num_classes": 3, "widths": [4], "units": [1]}),
    )
    network.save(tmp_path / "n.safetensors")
    with pytest.raises(SaccadeError, match=r"missing\.jpg"):
        invoke("predict", "missing.jpg", "-n", str(tmp_path / "n.safetensors"))
    with pytest.raises(SaccadeError, match="3 classes and scenes has 10"):
        invoke("evaluate", str(tmp_path / "n.safetensors"), "scenes")


def test_torchrun_ends_where_one_process_does(photos: Path, tmp_path: Path) -> None:
    arguments = ["-m", "saccade", "train", "tinynet", "--data", str(photos), "--val", "8", "--epochs", "2", *SMALL]
    arguments += ["--device", "cpu", "--precision", "fp32", "--json"]
    environment = {**os.environ, "SACCADE_HOME": str(tmp_path / "home")}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = {}
    for name, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, *arguments, "--folder", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout.splitlines()[-1])["test"]
    assert found["one"]["loss"] == pytest.approx(found["two"]["loss"], abs=1e-5)
    weights = [load(tmp_path / name / "final.safetensors").state_dict() for name in found]
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], atol=1e-5, rtol=1e-5)
