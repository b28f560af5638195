"""`saccade attack corruptions` as a person meets it."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from saccade import cli
from saccade.attack import CORRUPTIONS, evaluate_corruptions
from saccade.cli_attack import test_pictures as pictures_for
from saccade.errors import SaccadeError
from saccade.networks import Network, build, load
from saccade.pictures import read

NAMES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "arrow", "crescent")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["attack", "corruptions", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A small untrained network in a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"num_classes": 10, "widths": (8, 8), "units": (1, 1)}
        network = Network(build("tinynet", **options), classes=NAMES, input_size=24, architecture=("tinynet", options))
        network.eval().save(tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_json_is_what_python_gives(small: str, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    facts = json.loads(
        invoke(
            small, "--data", "scenes", "--count", "12", "--seed", "3", "--sheet", str(sheet), "--shown", "5", "--json"
        )
    )
    network = load(small)
    table = evaluate_corruptions(network, *pictures_for(network, small, "scenes", 12, 3), seed=3)
    assert facts["sheet"] == str(sheet)
    assert read(sheet).shape[2] > 4 * 150
    assert {key: facts[key] for key in table.as_dict()} == json.loads(json.dumps(table.as_dict()))
    assert list(facts["corruptions"]) == list(CORRUPTIONS)


def test_for_a_person(small: str) -> None:
    said = invoke(small, "--data", "scenes", "--count", "6", "--only", "fog, jpeg", "--severities", "1,5")
    assert re.search(r"corruption +1 +5 +mean +95 % interval", said)
    assert re.search(r"fog +[\d.]+% +[\d.]+% +[\d.]+% +[\d.]+% to [\d.]+%", said)
    assert "jpeg" in said
    assert "snow" not in said
    assert re.search(r"clean: [\d.]+% \(.*, n=6\)", said)
    assert re.search(r"mCA, the mean over corruptions: [\d.]+% \(.*, n=6\)", said)


def test_all_fits_a_narrow_terminal(small: str) -> None:
    said = invoke(small, "--data", "scenes", "--count", "4", "--only", "gaussian-noise,impulse-noise")
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    assert "gaussian-noise" in said
    assert "…" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "rain"], "no corruption 'rain'"),
        (["--only", ""], "corruptions are"),
        (["--severities", "1,two"], "--severities is '1,two', expected some of 1 to 5 by comma"),
        (["--severities", "0"], "severity is 0, expected a whole number from 1 to 5"),
        (["--sheet", "sheet.png", "--shown", "9"], "severity is 9"),
    ],
)
def test_mistakes(arguments: list[str], message: str, small: str) -> None:
    with pytest.raises(SaccadeError, match=re.escape(message)):
        invoke(small, "--data", "scenes", "--count", "4", *arguments)
