"""Network: normalisation inside, classes by name, files that come back bit for bit or say what is wrong."""

import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from saccade.errors import SaccadeError
from saccade.networks.network import Network, read_weights
from saccade.networks.registry import build

KEYWORDS = {"num_classes": 3, "widths": [8, 12], "units": [1, 1]}
CLASSES = ("tabby, tabby cat", "tiger_cat", "tiger shark")


def make(**changes):
    torch.manual_seed(0)
    module = build("tinynet", **KEYWORDS)
    settings = {"mean": (0.1, 1 / 3, 0.7), "std": (0.2, 0.3, 1 / 7), "classes": CLASSES, "input_size": 24}
    return Network(module, **{**settings, "name": "net", "architecture": ("tinynet", KEYWORDS), **changes})


def test_normalisation_happens_inside():
    x = torch.rand(2, 3, 4, 4)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    flat = Network(nn.Flatten(), mean=mean, std=std)
    expected = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1).flatten(1)
    torch.testing.assert_close(flat(x), expected)
    torch.testing.assert_close(Network(nn.Flatten())(x), x.flatten(1))
    assert all(key.startswith("module.") for key in flat.state_dict())


@pytest.mark.parametrize(
    "wrong", [{"mean": (0.1, 0.2)}, {"std": (1.0, 1.0)}, {"std": (1.0, 0.0, 1.0)}, {"std": (1.0, -1.0, 1.0)}]
)
def test_impossible_normalisation(wrong):
    with pytest.raises(SaccadeError, match="three numbers each are expected, std above zero"):
        Network(nn.Identity(), **wrong)


def test_layers_by_name():
    network = make()
    assert network.layer("stage1.unit1.conv") is network.module.get_submodule("stage1.unit1.conv")
    assert "" not in network.layers
    with pytest.raises(SaccadeError, match=r"net has no layer 'stage9'; its layers are stem, stem\.conv"):
        network.layer("stage9")


# ---- classes


@pytest.mark.parametrize(
    ("given_", "index"),
    [(0, 0), (2, 2), ("1", 1), ("tabby", 0), ("Tabby Cat", 0), ("tiger cat", 1), ("TIGER_CAT", 1), ("shark", 2)],
)
def test_class_index(given_, index):
    assert make().class_index(given_) == index


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (3, "net has no class 3; it has 3, counted from 0"),
        (-1, "net has no class -1"),
        ("-1", "net has no class -1"),
        ("99", "net has no class 99"),
        ("dog", "net has no class named 'dog'"),
        ("tiger", r"'tiger' may be any of 2 classes of net: 'tiger_cat', 'tiger shark'\. Give the whole name"),
    ],
)
def test_class_index_says_what_is_wrong(given_, message):
    with pytest.raises(SaccadeError, match=message):
        make().class_index(given_)


def test_classes_that_are_called_by_numbers():
    network = make(classes=("7", "0", "2019"))
    assert network.class_index("7") == 0
    assert network.class_index("0") == 1
    assert network.class_index("2019") == 2
    assert network.class_index("2") == 2  # no class of that name, so the index
    assert network.class_index(0) == 0
    with pytest.raises(SaccadeError, match="no class named '²'"):
        network.class_index("²")


def test_without_names():
    network = make(classes=None)
    assert network.class_index("12") == 12
    assert network.class_name(12) == "12"
    assert make().class_name(1) == "tiger_cat"
    with pytest.raises(SaccadeError, match="has no class names; give a class as a number instead of 'cat'"):
        network.class_index("cat")


@given(st.text(max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_class_or_an_error(text):
    try:
        assert 0 <= NETWORK.class_index(text) < 3
    except SaccadeError as error:
        assert len(str(error)) > 20  # noqa: PT017


NETWORK = Network(nn.Identity(), classes=CLASSES)


# ---- files


@given(st.lists(st.floats(2**-7, 1, width=32), min_size=6, max_size=6))
@settings(max_examples=15, deadline=None)
def test_round_trip_is_bit_identical(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("net") / "x.safetensors"
    network = make(mean=values[:3], std=values[3:], meta={"source": "here"}).eval()
    with torch.no_grad():
        network.module.stem.norm.running_mean.normal_()
    network.save(path, meta={"accuracy": 0.5})
    loaded = Network.load(path)
    assert not loaded.training
    assert torch.equal(loaded.mean, network.mean)
    assert torch.equal(loaded.std, network.std)
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(x), loaded(x))
    assert (loaded.classes, loaded.input_size, loaded.name) == (CLASSES, 24, "net")
    assert loaded.meta["source"] == "here"
    assert loaded.meta["accuracy"] == 0.5
    assert {"saccade", "torch"} <= loaded.meta["versions"].keys()
    loaded.save(path)  # a loaded network can be saved again
    assert torch.equal(Network.load(path)(x), loaded(x))


def test_half_precision_rounds_each_weight_once(tmp_path):
    network = make().eval()
    network.save(tmp_path / "half.safetensors", half=True)
    network.save(tmp_path / "full.safetensors")
    loaded = Network.load(tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[key], expected)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * (tmp_path / "full.safetensors").stat().st_size
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert file.get_tensor("stem.conv.weight").dtype == torch.float16


def test_channels_last_weights_can_be_saved(tmp_path):
    network = make().to(memory_format=torch.channels_last)
    network.save(tmp_path / "x.safetensors")
    loaded = Network.load(tmp_path / "x.safetensors")
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in network.state_dict().items())


def test_without_architecture_there_is_no_file(tmp_path):
    with pytest.raises(SaccadeError, match=r"was not made by saccade\.networks\.build.*state_dict"):
        Network(nn.Identity()).save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_one_sentence(tmp_path):
    path = tmp_path / "x.safetensors"
    make().save(path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SaccadeError, match="is no whole safetensors file"):
            Network.load(path)
    for garbage in (bytes(5000), b"PK\x03\x04" + bytes(100), random.Random(0).randbytes(5000)):
        path.write_bytes(garbage)
        with pytest.raises(SaccadeError, match="is no whole safetensors file"):
            Network.load(path)
    with pytest.raises(SaccadeError, match="There is no weight file"):
        Network.load(tmp_path / "none.safetensors")


def test_files_of_others_and_of_other_versions(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert read_weights(path)[0] is None
    with pytest.raises(SaccadeError, match="no description of their network; say which architecture"):
        Network.load(path)
    make().save(path)
    description, state = read_weights(path)
    assert description is not None
    for broken in ({}, {**description, "architecture": "resnet"}, {k: v for k, v in description.items() if k != "std"}):
        save_file(state, path, metadata={"saccade": json.dumps(broken)})
        with pytest.raises(SaccadeError, match="describes its network incompletely"):
            Network.load(path)
    save_file(state, path, metadata={"saccade": "{no json"})
    with pytest.raises(SaccadeError, match="is no whole safetensors file"):
        Network.load(path)
    unknown = {**description, "architecture": {"name": "perceptron", "keywords": {}}}
    save_file(state, path, metadata={"saccade": json.dumps(unknown)})
    with pytest.raises(SaccadeError, match="no architecture 'perceptron'"):
        Network.load(path)
    state.pop("stem.conv.weight")
    save_file(state, path, metadata={"saccade": json.dumps(description)})
    with pytest.raises(SaccadeError, match=r"does not fit its own architecture.*stem\.conv\.weight"):
        Network.load(path)
