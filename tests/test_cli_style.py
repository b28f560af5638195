"""`saccade style` as a person meets it."""

import inspect
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from saccade import cli, cli_style
from saccade.errors import SaccadeError
from saccade.networks import load
from saccade.pictures import read
from saccade.style import PRESETS, score, style_transfer
from saccade.style.fast.network import shipped_styles
from saccade.style.fast.train import FastRecipe

runner = CliRunner()
QUICK = ["--size", "48", "--steps", "2", "--smallest", "32", "--precision", "fp32", "--device", "cpu"]


def run(*arguments: str) -> Any:
    result = runner.invoke(cli.app, ["style", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def invoke(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a photograph and two paintings, of noise about a colour."""
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name, colour, size in (("photo", 90, (40, 60, 3)), ("red", 160, (50, 50, 3)), ("dark", 40, (30, 44, 3))):
        levels = draw.integers(-40, 41, size) + colour + (np.array([60, 0, 0]) if name == "red" else 0)
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(f"{name}.png")
    return tmp_path


def tensor(name: str) -> torch.Tensor:
    return read(name)[None]


def near(file: str | Path, expected: torch.Tensor) -> bool:
    """Whether a file holds a picture, to half a level of 255 and a float's rounding."""
    return float((read(file) - expected[0]).abs().max()) < 0.51 / 255


def made(styles: list[torch.Tensor] | None = None, **options: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"size": 48, "steps": 2, "smallest": 32, "precision": "fp32"}
    found: torch.Tensor = style_transfer(tensor("photo.png"), styles or tensor("red.png"), **(settings | options))
    return found


@pytest.mark.parametrize(
    ("command", "function", "left_out"),
    [
        ("pictures", style_transfer, {"content", "styles", "callback", "stop", "checkpoint"}),
        ("train", FastRecipe, set()),
    ],
)
def test_options_are_those_of_the_function(command: str, function: Callable[..., Any], left_out: set[str]) -> None:
    parameters: Any = {p.name: p for p in typer.main.get_command(cli.app).commands["style"].commands[command].params}  # type: ignore[attr-defined]
    said = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        if name in left_out:
            continue
        option, default = parameters[name], parameter.default
        assert option.opts[0] == f"--{name.replace('_', '-')}"
        if name == "size" and command == "pictures":
            default = 512
        assert option.default == default or option.default == str(default), name
        first = option.help.split(".")[0]
        assert len(first) > 5 or function is FastRecipe  # which says some settings together
        if f"{name}:" in said or f"{name}," in said:
            assert first in " ".join(said.split()), name


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--preserve-colour"], {"colour": "content"}),
        (["--colour", "linear", "--optimiser", "adam"], {"colour": "linear", "optimiser": "adam"}),
        (["--start", "0.3", "--seed", "4"], {"start": 0.3, "seed": 4}),
        (["--start", "dark.png"], {"start": "dark.png"}),
        (["--preset", "gatys", "--style-weight", "5"], {"preset": "gatys", "style_weight": 5.0}),
        (["--size", "0"], {"size": None}),
        (
            ["--content-layers", "stage1.unit1", "--style-layers", "stem, stage1.unit1"],
            {"content_layers": ["stage1.unit1"], "style_layers": ["stem", "stage1.unit1"]},
        ),
        (["-n", "tinynet"], {"network": "tinynet"}),
    ],
)
def test_the_command_does_what_the_function_does(options: list[str], expected: dict[str, Any]) -> None:
    invoke("photo.png", "red.png", "-o", "out.png", *QUICK, *options)
    if expected.get("start") == "dark.png":
        expected = {"start": tensor("dark.png")}
    assert near("out.png", made(**expected))
    assert not Path("out.png.part").exists()


def test_several_styles_and_their_sizes() -> None:
    options = ["--style-shares", "3,1", "--style-scale", "1,0.8"]
    row = json.loads(invoke("photo.png", "red.png", "dark.png", *QUICK, *options, "--json"))
    assert row["file"] == "style.png"
    assert row["size"] == [32, 48]
    assert row["step"] == row["steps"] == 2
    both = [tensor("red.png"), tensor("dark.png")]
    assert near("style.png", made(both, style_shares=[3.0, 1.0], style_scale=[1.0, 0.8]))


def test_masks_as_a_drawing_and_as_grey_pictures() -> None:
    drawing = np.zeros((40, 60, 3), np.uint8)
    drawing[:, :40] = (255, 0, 0)  # the larger region comes first
    drawing[:, 40:] = (0, 0, 255)
    Image.fromarray(drawing).save("drawing.png")
    left = drawing[..., 0]
    Image.fromarray(left).save("left.png")
    Image.fromarray(255 - left).save("right.png")
    masks = torch.from_numpy(np.stack([left, 255 - left])).float() / 255
    own = np.zeros((50, 50, 3), np.uint8)
    own[:30, :, 0], own[30:, :, 2] = 255, 255
    Image.fromarray(own).save("own.png")
    own_masks = [torch.from_numpy(own[None, ..., k]).float() / 255 for k in (0, 2)]

    result = run("photo.png", "red.png", "dark.png", *QUICK, "--masks", "drawing.png", "-o", "a.png")
    assert "in the order of the styles: #ff0000, #0000ff" in result.stderr
    expected = made([tensor("red.png"), tensor("dark.png")], masks=masks)
    assert near("a.png", expected)
    invoke("photo.png", "red.png", "dark.png", *QUICK, "--masks", "left.png,right.png", "-o", "b.png")
    assert near("b.png", expected)
    invoke("photo.png", "red.png", "red.png", *QUICK, "--masks", "drawing.png", "--style-masks", "own.png")
    both = [tensor("red.png")] * 2
    assert near("style.png", made(both, masks=masks, style_masks=own_masks))

    with pytest.raises(SaccadeError, match="--masks gives 2 regions for 3 styles"):
        run("photo.png", "red.png", "dark.png", "red.png", *QUICK, "--masks", "drawing.png")
    with pytest.raises(SaccadeError, match="40 x 60 and the picture is 50 x 50"):
        run("red.png", "red.png", "dark.png", *QUICK, "--masks", "drawing.png")


def test_a_folder_is_done_picture_by_picture_and_gone_on_with() -> None:
    Path("photos").mkdir()
    for name in ("a", "b"):
        Path("photo.png").rename("photos/a.png") if name == "a" else Image.open("dark.png").save("photos/b.png")
    Path("styled").mkdir()
    Path("styled/b.png").write_bytes(b"there already")
    rows = json.loads(invoke("photos", "red.png", *QUICK, "--json"))
    assert [row["file"] for row in rows] == [str(Path("styled/a.png"))]
    assert Path("styled/b.png").read_bytes() == b"there already"
    assert json.loads(invoke("photos", "red.png", *QUICK, "--json")) == []


def test_what_kind_of_file_it_was_is_kept() -> None:
    grey = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(grey).save("grey.png")
    invoke("grey.png", "red.png", *QUICK, "--keep-grey", "-o", "deep.png")
    with Image.open("deep.png") as image:
        assert image.mode.startswith("I")
    pixels = np.full((40, 60, 4), 200, np.uint8)
    pixels[:, :30, 3] = 0
    Image.fromarray(pixels).save("cut.png")
    invoke("cut.png", "red.png", *QUICK)
    with Image.open("style.png") as image:
        alpha = np.array(image.getchannel("A"))
    assert alpha[:, :20].max() == 0
    assert alpha[:, 30:].min() > 190


def interrupt_at(step: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C while the picture of a step is written."""
    write = cli_style.write_like

    def pressed(picture: Any, path: Path, *rest: Any, **more: Any) -> None:
        write(picture, path, *rest, **more)
        if path.stem.endswith(f"-{step:04}"):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli_style, "write_like", pressed)


LONGER = ["photo.png", "red.png", "-o", "out.png", *QUICK, "--steps", "6", "--size", "64"]
"""Twelve steps at 32 pixels and six at 64."""


def test_interrupted_once_it_writes_what_there_is_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    invoke(*LONGER)
    whole = Path("out.png").read_bytes()
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_at(14, 1, patch)
        stopped = run(*LONGER, "--every", "7")
    assert stopped.exit_code == 130
    assert "same command goes on" in stopped.stderr
    assert signal.getsignal(signal.SIGINT) is before
    assert sorted(path.name for path in Path().glob("out*")) == [
        "out-0007.png",
        "out-0014.png",
        "out.png",
        "out.png.part",
    ]
    with Image.open("out-0007.png") as small, Image.open("out-0014.png") as large:
        assert (max(small.size), max(large.size)) == (32, 64)
    assert Path("out.png").read_bytes() != whole
    for other in (["--seed", "1"], ["--style-weight", "2"], ["--colour", "linear"]):
        with pytest.raises(SaccadeError, match=r"Could not go on from out\.png\.part"):
            run(*LONGER, *other)
    invoke(*LONGER, "--seconds", "1000")  # another limit is the same run
    assert Path("out.png").read_bytes() == whole
    assert not Path("out.png.part").exists()


def test_interrupted_twice_it_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(2, 2, monkeypatch)
    stopped = run(*LONGER, "--every", "1")
    assert stopped.exit_code != 0
    assert not Path("out.png").exists()


def test_score_is_that_of_the_judge() -> None:
    found = json.loads(
        invoke("score", "red.png", "red.png", "dark.png", "--preset", "gatys", "--device", "cpu", "--json")
    )
    expected = score(
        tensor("red.png"),
        tensor("red.png"),
        [tensor("dark.png")],
        network=load("tinynet-robust"),
        preset=PRESETS["gatys"],
    )
    assert found == {name: pytest.approx(float(getattr(expected, name)), rel=1e-6) for name in found}
    assert list(found) == ["content", "style", "variation", "total"]
    assert found["content"] == 0 < found["style"]
    with pytest.raises(SaccadeError, match="the content is"):
        run("score", "red.png", "photo.png", "dark.png")


def test_train_and_apply_a_network() -> None:
    Path("photos").mkdir()
    Path("photo.png").rename("photos/photo.png")
    options = ["--steps", "2", "--batch-size", "1", "--size", "32", "--shift", "4", "--device", "cpu"]
    row = json.loads(
        invoke("train", "red.png", "dark.png", "--data", "photos", *options, "-o", "net.safetensors", "--json")
    )
    assert row == {"file": "net.safetensors", "styles": ["red", "dark"], "steps": 2}
    assert not Path("net.safetensors.part").exists()
    for style in ("red", "dark"):
        invoke("apply", "net.safetensors", "photos/photo.png", "--style", style, "-o", f"{style}-out.png")
    assert Path("red-out.png").read_bytes() != Path("dark-out.png").read_bytes()
    files = json.loads(invoke("apply", "net.safetensors", "photos", "--size", "32", "-o", "done", "--json"))["files"]
    with Image.open(files[0]) as image:
        assert image.size == (48, 32)


def test_lists() -> None:
    assert [row["preset"] for row in json.loads(invoke("presets", "--json"))] == list(PRESETS)
    assert [row["network"] for row in json.loads(invoke("networks", "--json"))] == list(shipped_styles())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "red.png"], r"none\.png"),
        (["photo.png", "none.png"], r"none\.png"),
        (["photo.png", "red.png", "-o", "photo.png"], "the result would replace it"),
        (["photo.png", "red.png", "-o", "out.gif"], r"suffix is '\.gif'"),
        (["photo.png", "red.png", "-o", "red.png/out.png"], r"Could not write red\.png/out\.png"),
        (["photo.png", "red.png", "--preset", "gatis"], "Did you mean gatys"),
        (["photo.png", "red.png", "-n", "vgg91"], "There is no network 'vgg91'"),
        (["photo.png", "red.png", "--content-layers", "none", "--style-layers", "stem"], "none"),
        (["photo.png", "red.png", "--content-layers", "stem"], "give both"),
        (["photo.png", "red.png", "--style-shares", "1,x"], "--style-shares got '1,x'"),
        (["photo.png", "red.png", "--style-scale", "1,2"], "scales"),
        (["photo.png", "red.png", "--preserve-colour", "--colour", "linear"], "--colour linear is another"),
        (["photo.png", "red.png", "--start", "none.png"], r"none\.png"),
        (["train", "red.png", "-o", "net.pt"], r"expected \.safetensors"),
        (["apply", "none", "photo.png"], "There is no style network 'none'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        run(*arguments, *(QUICK if arguments[0] not in ("train", "apply") else []))


def test_a_backbone_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_ARCHIVES", raising=False)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing is there
    with pytest.raises(SaccadeError, match=r"SACCADE_ARCHIVES.*let this machine reach"):
        run("photo.png", "red.png", *QUICK, "--network", "vgg19")
