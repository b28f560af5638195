"""The public names are the ones in public_names.txt: none appears or vanishes unnoticed."""

import importlib
from pathlib import Path

import pytest

LISTED = [
    line.split(maxsplit=1)
    for line in (Path(__file__).parent / "public_names.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("room", "names"), LISTED, ids=[room for room, _ in LISTED])
def test_names_of_a_room_are_those_listed(room: str, names: str) -> None:
    module = importlib.import_module(room)
    assert sorted(module.__all__) == sorted(names.split())
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name in (
            "__version__",
            "ARCHITECTURES",
            "RECIPES",
            "DATASETS",
            "DECODERS",
            "METHODS",
            "Target",
            "CAPTION_RECIPES",
            "IMAGENET_MEAN",
            "IMAGENET_STD",
        ), f"{name} has no docstring"


def test_every_room_is_listed() -> None:
    package = Path(importlib.import_module("saccade").__file__ or "").parent
    rooms = {f"saccade.{path.parent.name}" for path in package.glob("*/__init__.py")} - {"saccade.engine"}
    assert rooms | {"saccade"} == {room for room, _ in LISTED}
