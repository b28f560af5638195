"""`saccade attack` as a person meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from saccade import cli
from saccade.attack import ATTACKS, Attack
from saccade.attack.certify import survey
from saccade.attack.fmn import fmn
from saccade.data import scenes
from saccade.errors import SaccadeError
from saccade.networks import Network, build, load
from saccade.pictures import read

runner = CliRunner()
NAMES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "arrow", "crescent")


def invoke(*arguments: str) -> str:
    result = runner.invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A small untrained network in a file, which says each of the classes of scenes of some of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"num_classes": 10, "widths": (8, 8), "units": (1, 1)}
        network = Network(build("tinynet", **options), classes=NAMES, input_size=24, architecture=("tinynet", options))
        head = [layer for layer in network.eval().modules() if isinstance(layer, torch.nn.Linear)][-1]
        raw, _ = scenes(64, size=24, split="val").take(torch.arange(64))
        with torch.no_grad():
            said = network(raw.permute(0, 3, 1, 2) / 255)
            head.weight /= said.std(0)[:, None]
            head.bias.sub_(said.mean(0)).div_(said.std(0))
        network.save(tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_one_attack_as_a_picture_and_as_files(tmp_path: Path) -> None:
    sheet, folder = tmp_path / "sheet.png", tmp_path / "files"
    said = invoke(
        "attack", "chelsea", "coffee", "--target", "espresso", "-o", str(sheet), "--save", str(folder), "--json"
    )
    facts = json.loads(said)
    assert (facts["attack"], facts["norm"], facts["eps"]) == ("PGD", "linf", pytest.approx(8 / 255))
    first, second = facts["pictures"]
    assert first["says"] == "espresso" != first["said"]
    assert first["fooled"]
    assert 0 < first["norm"] <= 8 / 255 * (1 + 1e-6)
    assert (second["said"], second["says"], second["norm"]) == ("espresso", "espresso", 0)
    assert read(sheet).shape[2] > read(sheet).shape[1]
    network = load("tinynet")
    file = read(folder / "00-chelsea.png")
    assert first["file_fools"]
    with torch.no_grad():
        assert network.class_name(int(network(file[None]).argmax())) == "espresso"


def test_what_is_not_found_is_said(small: str, tmp_path: Path) -> None:
    said = invoke("attack", "chelsea", "-n", small, "-a", "fgsm", "--eps", "1e-9", "-o", str(tmp_path / "a.png"))
    assert "FGSM found nothing within Linf 1e-09" in said
    said = invoke("attack", "chelsea", "--norm", "l2", "--eps", "2", "-o", str(tmp_path / "a.png"))
    assert " -> " in said
    assert "(L2 " in said


def test_an_attack_without_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = Attack("nearest", "Nearest", fmn, "arXiv:2102.12827", settings={"steps": 20})
    monkeypatch.setitem(ATTACKS, "nearest", nearest)
    arguments = ["attack", "chelsea", "-a", "nearest", "--norm", "l2", "-o", str(tmp_path / "a.png")]
    [row] = json.loads(invoke(*arguments, "--save", str(tmp_path), "--json"))["pictures"]
    assert 0 < row["norm"] < 1
    assert row["file_fools"]
    with pytest.raises(SaccadeError, match="Nearest looks for the smallest change and has no budget"):
        invoke(*arguments, "--eps", "1")


def test_the_attacks_are_listed() -> None:
    rows = json.loads(invoke("attack", "methods", "--json"))
    assert [row["attack"] for row in rows] == list(ATTACKS)


def test_a_data_set_is_judged_and_gone_on_with(small: str, tmp_path: Path) -> None:
    arguments = (
        "attack", small, "--data", "scenes", "--suite", "fgsm,bim", "--eps", "4/255", "--count", "40",
        "--checked", "0", "--folder", str(tmp_path / "run"), "--save", str(tmp_path / "files"), "--json",
    )  # fmt: skip
    facts = json.loads(invoke(*arguments))
    assert Path(facts["report"]) == tmp_path / "run" / "report.html"
    assert facts["settings"]["eps"] == pytest.approx(4 / 255)
    assert [row["name"] for row in facts["attacks"]] == ["fgsm", "bim", "smallest"]
    assert facts["robust"]["of"] == 40
    assert facts["robust"]["low"] <= facts["robust"]["value"] < facts["robust"]["high"]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "--suite fgsm,bim" in page
    again = json.loads(invoke(*arguments))
    assert again == facts  # the seconds too: nothing was done again
    count = facts["clean"]["count"] - facts["robust"]["count"]
    assert len(list((tmp_path / "files").glob("*.png"))) == count
    assert count > 0
    listed = json.loads((tmp_path / "files" / "files.json").read_text("utf-8"))
    assert len(listed) == count
    network = load(small)
    for row in listed:
        with torch.no_grad():
            said = network.class_name(int(network(read(tmp_path / "files" / row["file"])[None]).argmax()))
        assert row["fools"] == (said != row["label"])
        assert row["within_budget"]


def test_for_a_person(small: str, tmp_path: Path) -> None:
    said = invoke(
        "attack", small, "--data=scenes", "--suite", "fgsm", "--eps", "1/255", "--count", "6", "--checked", "0",
        "--no-curve", "--folder", str(tmp_path / "run"),
    )  # fmt: skip
    assert "FGSM" in said
    assert "robust, Linf 1/255: " in said
    assert "n=6" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chelsea", "-a", "magic"], "no attack 'magic'"),
        (["chelsea", "--target", "unicorn"], "no class named 'unicorn'"),
        (["chelsea", "-a", "tpgd", "--target", "espresso"], "TPGD cannot aim at a class"),
        (["chelsea", "-a", "pgd-l2", "--norm", "linf"], "PGD-L2 has no norm 'linf'"),
        (["chelsea", "-a", "linear", "--steps", "3"], "no setting 'steps'"),
        (["chelsea", "--eps", "a lot"], "eps is 'a lot'"),
        (["nowhere.jpg"], "nowhere.jpg"),
        (["tinynet", "--data", "scenes"], "200 classes and scenes has 10"),
        (["./no.safetensors", "--data", "scenes"], "no.safetensors"),
    ],
)
def test_says_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SaccadeError, match=message):
        invoke("attack", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torchrun_shares_the_pictures_out(small: str, tmp_path: Path) -> None:
    arguments = ["-m", "saccade", "attack", small, "--data", "scenes", "--suite", "fgsm,bim", "--eps", "1/255"]
    arguments += ["--count", "24", "--checked", "0", "--no-curve", "--device", "cpu", "--json"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment, found = {**os.environ, "SACCADE_HOME": str(tmp_path / "home")}, {}
    for name, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, *arguments, "--folder", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / name / "report.json").read_text("utf-8"))
    assert found["one"]["pictures"]["broken_by"] == found["two"]["pictures"]["broken_by"]
    assert found["one"]["robust"] == found["two"]["robust"]
    assert len(list((tmp_path / "two" / "parts").glob("done-*.pt"))) == 2


def test_what_is_proved_is_counted(tmp_path: Path) -> None:
    options = {"num_classes": 10, "convs": ((4, 4, 2),), "hidden": (8,), "size": 24}
    network = Network(build("strided", **options), classes=NAMES, input_size=24, architecture=("strided", options))
    file = tmp_path / "strided.safetensors"
    network.eval().save(file)
    asked = ["attack", "certify", str(file), "--data", "scenes", "--count", "30", "--json"]
    found = {
        method: json.loads(invoke(*asked, "--method", method, "--eps", "1/2550"))
        for method in ("ibp", "crown", "exact")
    }
    for facts in found.values():
        assert facts["eps"] == pytest.approx(1 / 2550)
        assert facts["clean"]["of"] == 30
        assert (
            facts["certified"]["count"] + facts.get("fooled", {"count": 0})["count"] + facts["open"]["count"]
            == (facts["clean"]["count"])
        )
    proved = [found[method]["certified"]["count"] for method in ("ibp", "crown", "exact")]
    assert proved == sorted(proved)
    assert "fooled" in found["exact"]
    noisy = json.loads(invoke(*asked, "--method", "smoothing", "--std", "0.1", "--samples", "50"))
    counts = [share["count"] for name, share in noisy.items() if name.startswith("L2")]
    assert len(counts) == 8
    assert counts == sorted(counts, reverse=True)
    assert "certified: " in invoke(*asked[:-1], "--method", "ibp")


def test_what_cannot_be_certified_is_one_sentence(small: str) -> None:
    with pytest.raises(SaccadeError, match="no method 'hope'; there are ibp, crown-ibp, crown, exact"):
        invoke("attack", "certify", small, "--data", "scenes", "--method", "hope")
    gelu = nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(3 * 24 * 24, 10)).eval()
    with pytest.raises(SaccadeError, match="Could not certify: the network runs 'gelu'"):
        survey(gelu, torch.zeros(1, 3, 24, 24), gelu(torch.zeros(1, 3, 24, 24)).argmax(1), 0.1)
