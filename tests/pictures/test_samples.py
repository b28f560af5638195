"""The samples: there without a network, and what they claim to be."""

import socket
from importlib.metadata import files

import pytest
import torch

from saccade.errors import SaccadeError
from saccade.pictures import sample, sample_names, samples


def test_all_samples_load_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket, "socket", no_network)
    shipped = {str(f) for f in files("scikit-image") or ()}
    for name in sample_names():
        assert f"skimage/data/{samples._FILES[name]}" in shipped
        picture = sample(name)
        assert picture.shape[0] == 3
        assert min(picture.shape[1:]) >= 300
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.std() > 0.03


def test_the_colours_stand_in_the_right_order() -> None:
    blue_sky, orange_suit = sample("rocket")[:, 50:100, 300:350], sample("astronaut")[:, 400:440, 60:100]
    assert blue_sky.mean((1, 2)).argmax() == 2
    assert orange_suit.mean((1, 2)).argmax() == 0
    camera = sample("camera")
    assert torch.equal(camera[0], camera[2])


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(SaccadeError, match=r"'eagle', expected one of astronaut, .*need a download"):
        sample("eagle")


def test_names_are_sorted() -> None:
    assert list(sample_names()) == sorted(sample_names())
