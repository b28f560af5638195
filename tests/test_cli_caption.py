"""`saccade caption` as a person meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from saccade import cli
from saccade.errors import SaccadeError

runner = CliRunner()
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def invoke(*arguments: str) -> str:
    result = runner.invoke(cli.app, ["caption", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Red and blue pictures with a table of captions."""
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["picture,caption"]
    for name, colour in COLOURS.items():
        for i in range(24):
            noise = generator.integers(-30, 31, (20, 24, 3))
            picture = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{name}{i}.png")
            lines += [f"{name}{i}.png,a {name} thing", f"{name}{i}.png,all of it is {name}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_train_caption_and_evaluate_on_a_folder(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = '{"wordvec_dim": 16, "hidden_dim": 32, "attention_dim": 16}'
    settings = [
        "--minimum",
        "1",
        "--batch-size",
        "8",
        "--epochs",
        "12",
        "--lr",
        "0.01",
        "--stored",
        "32",
        "--size",
        "32",
    ]
    made = json.loads(invoke("train", str(photos), *settings, "--options", options, "--folder", str(run), "--json"))
    captioner = made["captioner"]
    assert Path(captioner).is_file()
    assert {"recipe.json", "metrics.jsonl", "last.pt"} <= {path.name for path in run.iterdir()}

    pictures = [str(photos / "red0.png"), str(photos / "blue0.png")]
    said = invoke(*pictures, "-c", captioner)
    assert "red" in said.splitlines()[0].partition(": ")[2]
    assert "blue" in said.splitlines()[1].partition(": ")[2]
    answers = json.loads(invoke("--many", "2", *pictures, "-c", captioner, "--json"))
    first, second = answers[pictures[0]]
    assert first["probability"] >= second["probability"] > 0
    assert first["caption"] != second["caption"]

    for name in ("looks.png", "looks.gif", "looks.webp"):
        invoke(pictures[0], "-c", captioner, "--attention", str(tmp_path / name))
        with Image.open(tmp_path / name) as drawn:
            assert getattr(drawn, "n_frames", 1) == (1 if name.endswith("png") else len(first["caption"].split()))

    table = json.loads(invoke("evaluate", str(photos), "-c", captioner, "--json"))
    assert [row[""] for row in table] == ["captions", "constant", "shuffled"]
    assert all(float(row["CIDEr-D"]) >= 0 for row in table)


def test_what_cannot_be_done_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match="There is no captioner"):
        invoke("chelsea", "-c", str(tmp_path / "none.safetensors"))
    with pytest.raises(SaccadeError, match="caption recipe"):
        invoke("train", str(photos), "--recipe", "none")
    with pytest.raises(SaccadeError, match="There is no caption decoder 'gru'; there are rnn, lstm"):
        invoke(
            "train", str(photos), "--decoder", "gru", "--minimum", "1", "--size", "32", "--folder", str(tmp_path / "r")
        )
    (photos / "captions.csv").write_text(
        "picture,caption\nred0.png,a thing\nlost.png,a thing\nred1.png,x\nred2.png,y\n"
    )
    with pytest.raises(SaccadeError, match=r"captions.csv, line 3: lost.png is missing"):
        invoke("train", str(photos), "--folder", str(tmp_path / "s"))
