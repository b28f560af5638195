"""Reading weights that others wrote."""

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from saccade.errors import SaccadeError
from saccade.networks.weights import count_classes, fill, plain_names, read_state


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_prefixes_go(prefix: str) -> None:
    state = small().state_dict()
    assert list(plain_names({prefix + key: value for key, value in state.items()})) == list(state)


def test_a_name_that_only_some_have_stays() -> None:
    names = ["module.a", "b"]
    assert list(plain_names(dict.fromkeys(names, torch.zeros(1)))) == names
    assert plain_names({}) == {}


@pytest.mark.parametrize("nest", [None, "state_dict", "model", "net"])
def test_pth_in_its_usual_forms(tmp_path: Path, nest: str | None) -> None:
    state = small().state_dict()
    torch.save({nest: state, "epoch": 3, "best_prec1": 0.9} if nest else state, tmp_path / "w.pth")
    read = read_state(tmp_path / "w.pth")
    assert list(read) == list(state)
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_safetensors_and_the_old_format(tmp_path: Path) -> None:
    state = small().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    for name in ("w.safetensors", "w.pt"):
        assert torch.equal(read_state(tmp_path / name)["3.weight"], state["3.weight"])


def test_nothing_is_executed(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "trap": Trap(tmp_path / "sprung")}, tmp_path / "w.pth")
    with pytest.raises(SaccadeError, match="more than tensors"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
@pytest.mark.parametrize("part", [0, 10, 0.5, 0.99])
def test_a_cut_file_is_one_sentence(tmp_path: Path, name: str, part: float) -> None:
    whole = tmp_path / ("whole" + name)
    if name == "w.safetensors":
        save_file(small().state_dict(), whole)
    else:
        torch.save(small().state_dict(), whole, _use_new_zipfile_serialization=name == "w.pth")
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: int(part * len(data) if isinstance(part, float) else part)])
    with pytest.raises(SaccadeError, match=str(tmp_path / name)):
        read_state(tmp_path / name)


def test_foreign_content_is_one_sentence(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(SaccadeError, match="dictionary of tensors"):
        read_state(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(SaccadeError, match="damaged"):
        read_state(tmp_path / "zip.pth")
    with pytest.raises(SaccadeError, match="no weight file"):
        read_state(tmp_path / "absent.pth")


def test_fill_takes_half_precision_and_files_without_counters() -> None:
    giver, taker = small(), small()
    state = {key: value.half() for key, value in giver.state_dict().items() if "tracked" not in key}
    fill(taker, state, origin="here")
    assert taker[0].weight.dtype == torch.float32
    assert torch.equal(taker[0].weight, giver[0].weight.half().float())


def test_fill_says_what_differs_and_changes_nothing() -> None:
    module = small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    state["3.weight"] = torch.zeros(7, 4)
    del state["0.bias"]
    state |= {f"extra{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(SaccadeError) as caught:
        fill(module, state, origin="theirs.pth")
    for words in (
        "theirs.pth",
        "1 missing (0.bias)",
        "5 too many (extra0, extra1, extra2, ...)",
        "3.weight is 7x4, not 5x4",
    ):
        assert words in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_classes_are_counted() -> None:
    assert count_classes(small(), small().state_dict()) == 5
    assert count_classes(small(), {}) is None
