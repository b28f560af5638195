"""`saccade explain` and `saccade imagine` as a person meets them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from saccade import cli
from saccade.errors import SaccadeError
from saccade.explain import METHODS, saliency
from saccade.networks import Network, build, load, prepare
from saccade.pictures import read, sample

runner = CliRunner()


def invoke(*arguments: str) -> str:
    result = runner.invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A small untrained network in a file."""
    torch.manual_seed(0)
    options = {"num_classes": 8, "widths": (8, 8), "units": (1, 1)}
    names = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
    network = Network(build("tinynet", **options), classes=names, input_size=32, architecture=("tinynet", options))
    network.save(tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_a_sheet_and_its_numbers(tmp_path: Path) -> None:
    sheet, arrays = tmp_path / "sheet.png", tmp_path / "maps.safetensors"
    said = invoke(
        "explain", "chelsea", "coffee", "-m", "saliency,lrp,grad-cam", "--class", "tabby", "-o", str(sheet),
        "--arrays", str(arrays), "--json",
    )  # fmt: skip
    rows = json.loads(said)["rows"]
    assert [row["target"] for row in rows] == ["tabby", "tabby"]
    picture = read(sheet)
    assert picture.shape[2] > picture.shape[1]
    numbers = load_file(arrays)
    assert sorted(numbers) == [f"{i}/{name}" for i in (0, 1) for name in ("grad-cam", "lrp", "saliency")]
    network = load("tinynet")
    expected = saliency(network, prepare(network, sample("coffee")), "tabby")[0]
    torch.testing.assert_close(numbers["1/saliency"], expected)


def test_without_a_class_the_answer_is_explained(tmp_path: Path) -> None:
    said = invoke("explain", "coffee", "-m", "gradient", "--size", "48", "-o", str(tmp_path / "a.png"))
    assert said.startswith("coffee: espresso, ")


def test_the_words_of_a_captioner(tmp_path: Path) -> None:
    said = invoke(
        "explain", "motorcycle", "-c", "tinynet-flickr8k", "--word", "0", "-m", "grad-cam,saliency",
        "-o", str(tmp_path / "a.png"), "--json",
    )  # fmt: skip
    [row] = json.loads(said)["rows"]
    assert row["target"] == row["picture"].split()[0]
    assert 0 < row["probability"] < 1


def test_the_methods_are_listed() -> None:
    rows = json.loads(invoke("explain", "methods", "--json"))
    assert [row["method"] for row in rows] == list(METHODS)


def test_a_scoreboard_of_scenes(small: str, tmp_path: Path) -> None:
    page = tmp_path / "board.md"
    said = invoke(
        "explain", "scoreboard", small, "scenes", "-m", "gradient", "--count", "16", "--folder", str(tmp_path / "rows"),
        "-o", str(page),
    )  # fmt: skip
    assert page.read_text("utf-8") == said.removesuffix("\n")
    assert "pointing" in said
    assert "CONTROL centre" in said
    assert (tmp_path / "rows" / "gradient.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chelsea", "-m", "magic"], "no method 'magic'"),
        (["chelsea", "-m", "saliency", "--class", "unicorn"], "no class named 'unicorn'"),
        (["nowhere.jpg", "-m", "saliency"], "nowhere.jpg"),
        (["chelsea", "-m", "grad-cam", "--layer", "stage9"], "no layer 'stage9'"),
        (["chelsea", "-c", "tinynet-flickr8k", "--word", "unicorn"], "no class named 'unicorn'"),
    ],
)
def test_says_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SaccadeError, match=message):
        invoke("explain", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["class", "star,moon", "--size", "32", "--steps", "2"],
        ["class", "3", "--size", "32", "--steps", "2", "--variants", "2", "--recipe", "course"],
        ["unit", "stage1.unit1", "0,3", "--size", "32", "--steps", "2"],
        ["dream", "chelsea", "--size", "32", "--steps", "1", "--octaves", "2"],
        ["invert", "chelsea", "--size", "32", "--steps", "2"],
    ],
)
def test_pictures_are_grown(arguments: list[str], small: str, tmp_path: Path) -> None:
    output = tmp_path / "grown.png"
    facts = json.loads(invoke("imagine", *arguments, "-n", small, "-o", str(output), "--json"))
    assert facts["file"] == str(output)
    picture = read(output)
    assert picture.std() > 0.001
    again = tmp_path / "again.png"
    invoke("imagine", *arguments, "-n", small, "-o", str(again))
    assert again.read_bytes() == output.read_bytes()  # a seed gives one picture


def test_an_explorer_and_the_layers(small: str, tmp_path: Path) -> None:
    rows = json.loads(invoke("imagine", "layers", "-n", small, "--json"))
    assert {"layer": "stage1.unit1", "kind": "ConvUnit"} in rows
    said = invoke(
        "imagine", "explorer", "-n", small, "--layers", "stage1.unit1", "-o", str(tmp_path / "pages"), "--json"
    )
    assert Path(json.loads(said)["page"]).is_file()


def test_channels_must_be_numbers(small: str) -> None:
    with pytest.raises(SaccadeError, match="numbers by comma"):
        invoke("imagine", "unit", "stage1.unit1", "a,b", "-n", small)
