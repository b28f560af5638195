"""From a recipe to a folder with a measured network, on a made-up data set."""

import importlib
import json

import pytest
import torch

from saccade.data.statistics import channel_statistics
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.train.evaluate import evaluate
from saccade.train.recipe import Recipe
from saccade.train.train import load_splits, make_network, train

module = importlib.import_module("saccade.train.train")  # not the function of that name
OPTIONS = {"widths": [8, 12], "units": [1, 1]}


@pytest.fixture
def catalogue(images, monkeypatch):
    """`saccade.data.load`, with three splits of squares; notes what was asked for."""
    asked = []

    def load(name, *, split, **settings):
        asked.append((name, split, settings))
        count, seed = {"train": (64, 0), "val": (24, 1), "test": (30, 2)}[split]
        return images(count, seed=seed)

    monkeypatch.setattr(module, "load_data", load)
    return asked


def without_times(metrics):
    return {key: value for key, value in metrics.items() if key != "seconds"}


def test_a_run_from_end_to_end(catalogue, images, recipe, tmp_path):
    plan = recipe(options=OPTIONS, epochs=4, tta="six", ema=0.3)
    said, rows = [], []
    trained = train(plan, folder=tmp_path / "run", say=said.append, callback=rows.append)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"recipe.json", "metrics.jsonl", "metrics.json", "last.pt", "best.safetensors", "final.safetensors"} <= names
    assert {"loss.png", "accuracy.png"} <= names
    assert any("64 pictures" in sentence for sentence in said)
    test = images(30, seed=2)
    assert trained.metrics["test"] == evaluate(trained.network, test)
    assert trained.metrics["test_tta_six"] == evaluate(trained.network, test, tta="six")
    assert trained.metrics["epochs"] == 4
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"] == trained.metrics
    final = Network.load(tmp_path / "run" / "final.safetensors")
    assert final.meta["metrics"] == trained.metrics
    assert final.meta["recipe"] == plan.as_dict()
    assert evaluate(final, test)["accuracy"] == trained.metrics["test"]["accuracy"]
    assert trained.history == rows
    assert [split for _, split, _ in catalogue] == ["train", "val", "test"]


def test_an_interrupted_run_ends_with_the_same_bits(catalogue, recipe, tmp_path):
    plan = recipe(options=OPTIONS, epochs=3, mixup=0.4, flip="alternating")

    def interrupt(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    whole = train(plan, folder=tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train(plan, folder=tmp_path / "b", callback=interrupt)
    said = []
    resumed = train(plan, folder=tmp_path / "b", say=said.append)
    assert any("Going on" in sentence for sentence in said)
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    a, b = (Network.load(tmp_path / x / "final.safetensors").state_dict() for x in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_adversarial_figures_say_what_they_are(catalogue, recipe, tmp_path):
    plan = recipe(options=OPTIONS, epochs=1, adversarial="linf", eps=0.02)
    metrics = train(plan, folder=tmp_path / "run").metrics
    assert metrics["test_attacked"]["accuracy"] <= metrics["test"]["accuracy"]
    assert metrics["test_attacked"]["attack"] == "10-step PGD, linf, eps 0.02000, 30 pictures"


def test_another_recipe_in_the_same_folder_is_refused_before_anything_is_loaded(catalogue, recipe, tmp_path):
    train(recipe(options=OPTIONS, epochs=1), folder=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    catalogue.clear()
    with pytest.raises(SaccadeError, match="holds a run of another recipe"):
        train(recipe(options=OPTIONS, epochs=2), folder=tmp_path / "run")
    assert catalogue == []
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_what_is_asked_of_the_data(catalogue, recipe):
    plan = recipe(size=8, val=12.0, seed=4, count=20)
    training, _, _ = load_splits(plan)
    assert len(training) == 20
    assert {settings["val"] for _, _, settings in catalogue} == {12.0}
    assert {settings["size"] for _, _, settings in catalogue} == {8}
    assert {settings["seed"] for _, _, settings in catalogue} == {4}
    again, _, _ = load_splits(plan)
    assert torch.equal(again.rows, training.rows)
    assert not torch.equal(load_splits(recipe(count=20, seed=5))[0].rows, training.rows)
    catalogue.clear()
    load_splits(recipe())
    assert {(s["val"], s["size"]) for _, _, s in catalogue} == {(None, None)}


def test_the_network_of_a_recipe(images, recipe, tmp_path):
    data = images(40)
    before = torch.get_rng_state()
    a, b = (make_network(recipe(options=OPTIONS), data) for _ in range(2))
    other = make_network(recipe(options=OPTIONS, seed=1), data)
    assert torch.equal(before, torch.get_rng_state())
    key = "module.stem.conv.weight"
    assert torch.equal(a.state_dict()[key], b.state_dict()[key])
    assert not torch.equal(a.state_dict()[key], other.state_dict()[key])
    mean, std = channel_statistics(data)
    assert a.mean.flatten().tolist() == pytest.approx(mean)
    assert a.std.flatten().tolist() == pytest.approx(std)
    assert a.classes == data.classes
    a.save(tmp_path / "x.safetensors")
    started = make_network(recipe(start=str(tmp_path / "x.safetensors")), data)
    assert torch.equal(started.state_dict()[key], a.state_dict()[key])
    with pytest.raises(SaccadeError, match="whose classes are not those of squares"):
        make_network(recipe(start=str(tmp_path / "x.safetensors")), images(40, classes=3))


def test_whitening_from_the_data(images, recipe):
    """The first layer's responses to the normalised training pictures: uncorrelated, of about unit power."""
    data = images(200)
    plan = Recipe("fast", "fast", "squares", options={"widths": [8, 8, 8]}, whiten=True)
    network = make_network(plan, data)
    pictures = data.pictures.permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        out = network.module.whitening((pictures - network.mean) / network.std)[:, :12]
    flat = out.permute(1, 0, 2, 3).flatten(1).double()
    torch.testing.assert_close(flat @ flat.T / flat.shape[1], torch.eye(12).double(), rtol=0, atol=0.02)
