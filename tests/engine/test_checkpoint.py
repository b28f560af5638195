"""Checkpoints come back bit for bit, and a damaged, foreign or dangerous file is one clear sentence."""

import os
import pickle
import random
import subprocess
import sys

import pytest
import torch

from saccade.engine import files
from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.errors import SaccadeError


def some_state():
    g = torch.Generator().manual_seed(0)
    return {
        "weights": {"a": torch.randn(4, 3, 5, 5, generator=g).to(memory_format=torch.channels_last)},
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "half": torch.randn(7, generator=g).to(torch.bfloat16),
        "step": 12345678901234,
        "pair": (0.1 + 0.2, -1),
        "nothing": None,
        "text": "é",
        "history": [{"step": 1, "loss": 2.5, "note": "x"}],
    }


def bits(tensor):
    return tensor.stride(), tensor.dtype, tensor.contiguous().view(torch.uint8).tolist()


def test_round_trip_is_exact(tmp_path):
    state = some_state()
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert bits(loaded["weights"]["a"]) == bits(state["weights"]["a"])
    assert bits(loaded["odd"]) == bits(state["odd"])
    assert bits(loaded["half"]) == bits(state["half"])
    plain = ("step", "pair", "nothing", "text", "history")
    assert [loaded[key] for key in plain] == [state[key] for key in plain]


def test_tensors_are_written_as_they_are_now(tmp_path):
    """A checkpoint is a copy: training on does not change it."""
    state = {"w": torch.zeros(3)}
    save_checkpoint(tmp_path / "last.pt", state)
    state["w"].add_(1)
    assert load_checkpoint(tmp_path / "last.pt")["w"].tolist() == [0, 0, 0]


def test_every_truncation_is_reported(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, some_state())
    whole = path.read_bytes()
    for length in [*range(64), *range(64, len(whole), max(1, len(whole) // 150)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(SaccadeError, match="damaged and cannot be read"):
            load_checkpoint(path)


def test_a_flipped_bit_never_goes_unnoticed(tmp_path):
    """Whichever byte is hit: a clear error, or (in a field that is not read) the same state."""
    path = tmp_path / "last.pt"
    state = some_state()
    save_checkpoint(path, state)
    whole = path.read_bytes()
    rng = random.Random(0)
    caught = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            loaded = load_checkpoint(path)
        except SaccadeError as error:
            caught += 1
            assert "Delete it to start the run anew" in str(error)  # noqa: PT017
        else:
            assert bits(loaded["weights"]["a"]) == bits(state["weights"]["a"])
            assert loaded["history"] == state["history"]
    assert caught > 50  # most of so small a file is padding of the zip


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, b"PK\x03\x04 no zip", os.urandom(3000), b"{}\n"])
def test_garbage(tmp_path, garbage):
    (tmp_path / "last.pt").write_bytes(garbage)
    with pytest.raises(SaccadeError, match=r"last\.pt is damaged and cannot be read"):
        load_checkpoint(tmp_path / "last.pt")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_does_not_go_off(tmp_path, zipped):
    target = tmp_path / "it went off"
    if zipped:
        torch.save({"network": Bomb(str(target))}, tmp_path / "last.pt")
    else:
        (tmp_path / "last.pt").write_bytes(pickle.dumps({"network": Bomb(str(target))}))
    with pytest.raises(SaccadeError, match="damaged and cannot be read"):
        load_checkpoint(tmp_path / "last.pt")
    assert not target.exists()


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(SaccadeError, match=r"There is no checkpoint .*last\.pt"):
        load_checkpoint(tmp_path / "last.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(SaccadeError, match=r"list\.pt is no checkpoint of a run \(it holds a list\)"):
        load_checkpoint(tmp_path / "list.pt")


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(SaccadeError, match="the disk is full"):
            save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file size are a matter of POSIX")
def test_a_real_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    """The system refuses to write on in the middle of a tensor."""
    path = tmp_path / "last.pt"
    script = f"""
import resource, torch
from saccade.engine.checkpoint import save_checkpoint
from saccade.errors import SaccadeError
save_checkpoint({str(path)!r}, {{"step": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_checkpoint({str(path)!r}, {{"w": torch.zeros(100, 1000)}})
except SaccadeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "the disk is full" in done.stdout
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pt"]
