"""Everything that the README shows runs."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade import cli
from saccade.attack.evaluate import SUITES
from saccade.data import DATASETS
from saccade.networks import load
from saccade.networks.zoo import SHIPPED
from saccade.pictures import read, resize, sample, write
from saccade.train import RECIPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"`(saccade [^`]+)`", README)))


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(block, "README.md", "exec"), {})
    assert read(tmp_path / "why.png").shape == (3, 64, 64)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(sample("coffee"), tmp_path / "photo.jpg")
    write(resize(sample("chelsea"), 64), tmp_path / "painting.jpg")
    _, verb, *arguments = shlex.split(command)
    if verb == "train":  # hours and archives: here only the names are checked
        assert arguments[0] in RECIPES
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        assert options["--data"] in {*DATASETS, "photos/"}
        return
    if verb == "evaluate":
        load(arguments[0])
        assert arguments[1] in DATASETS
        return
    if verb == "attack" and "--data" in arguments:
        below = arguments[0] in ("corruptions", "certify")
        load(arguments[1 if below else 0])
        assert arguments[arguments.index("--data") + 1] in DATASETS
        assert below or arguments[arguments.index("--suite") + 1] in SUITES
        return
    if [verb, *arguments[:1]] == ["explain", "scoreboard"]:
        load(arguments[1])
        assert arguments[2] in DATASETS
        return
    if verb == "imagine":
        arguments += ["--size", "64", "--steps", "2"]
    if verb == "style" and arguments[0] != "apply":
        arguments += ["--size", "64", "--steps", "2"]
    if [verb, *arguments[:1]] == ["caption", "train"]:
        assert arguments[1:] == ["photos/"]
        return
    result = CliRunner().invoke(cli.app, [verb, *arguments])
    assert result.exit_code == 0, result.output
    if verb == "predict":
        assert "espresso" in result.stdout


def test_figures_are_those_of_the_networks() -> None:
    for name in ("tinynet", "tinynet-robust"):
        metrics = load(name).meta["metrics"]
        [row] = [line for line in README.splitlines() if line.startswith(f"| [`{name}`]")]
        stated = [float(number) for number in re.findall(r"([\d.]+) %", row)]
        measured = [metrics["test"]["accuracy"], metrics["test"]["top5"], *metrics["attacked"].values()]
        assert stated == [round(100 * value, 1) for value in measured]


def test_figures_of_the_small_networks_are_theirs() -> None:
    told = " ".join(README.split())
    for name, shares in (
        ("fast94", ["test"]),
        ("cifar-resnet20", ["test"]),
        ("cifar-robust", ["test", "attacked"]),
        ("cifar-certified", ["test", "certified"]),
    ):
        metrics = load(name).meta["metrics"]
        found = {
            "test": metrics["test"]["accuracy"],
            "attacked": metrics["attacked"].get("Linf 8/255"),
            "certified": metrics.get("certified", {}).get("accuracy"),
        }
        [stated] = re.findall(rf"\[`{name}`\]\(\S+\), ([^;\[]*)[;.]", told)
        for share in shares:
            assert f"{100 * found[share]:.1f} %" in stated, (name, share, stated)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", *SHIPPED.glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
