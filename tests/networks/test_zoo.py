"""Networks by name and by path."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from saccade.engine import fetch
from saccade.errors import SaccadeError
from saccade.networks import ARCHITECTURES, Network, build, catalogue, imagenet_classes, load, zoo

RED = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no archives, nothing shipped, no internet."""
    for name in ("cache", "shipped", "archive"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SACCADE_ARCHIVES", str(tmp_path / "archive"))
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path / "shipped")

    def offline(*_: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr(fetch, "_download", offline)
    return tmp_path / "cache"


def made(architecture: str = "fast", **keywords: object) -> Network:
    keywords = {"num_classes": 3, **({"widths": (24, 24)} if architecture == "fast" else {}), **keywords}
    module = build(architecture, **keywords)
    names = ("a", "b", "c")
    return Network(module, classes=names, input_size=32, name="mine", architecture=(architecture, keywords)).eval()


def same(one: Network, other: Network) -> bool:
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(one(x), other(x))


def test_a_file_of_ours_by_path_says_all(tmp_path: Path) -> None:
    network = made()
    network.save(tmp_path / "x.safetensors")
    for source in (tmp_path / "x.safetensors", str(tmp_path / "x.safetensors")):
        again = load(source)
        assert same(network, again)
        assert (again.classes, again.input_size, again.training) == (("a", "b", "c"), 32, False)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_alone_with_their_architecture(tmp_path: Path, suffix: str) -> None:
    network = Network(build("cifar-resnet20", num_classes=4), **RED).eval()
    path = tmp_path / f"w.{suffix}"
    state = {f"module.{key}": value for key, value in network.module.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    again = load(path, architecture="cifar-resnet20", classes=("p", "q", "r", "s"), **RED)
    assert same(network, again)
    assert again.class_name(2) == "r"
    again.save(tmp_path / "again.safetensors")  # it knows how it was built
    assert same(load(tmp_path / "again.safetensors"), network)


def test_buffers_that_no_file_holds_are_there(tmp_path: Path) -> None:
    network = Network(build("tinynet", num_classes=3), **RED).eval()
    torch.save(network.module.state_dict(), tmp_path / "w.pth")
    assert same(network, load(tmp_path / "w.pth", architecture="tinynet", **RED))


def test_keywords_of_the_architecture(tmp_path: Path) -> None:
    network = Network(build("fast", widths=(24, 30), num_classes=2), **RED).eval()
    torch.save(network.module.state_dict(), tmp_path / "w.pth")
    assert same(network, load(tmp_path / "w.pth", architecture="fast", widths=(24, 30), **RED))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "architecture="),
        ({"mean": (0.0, 0.0, 0.0)}, "along with architecture"),
        ({"architecture": "cifar-resnet20"}, "normalisation"),
        ({"architecture": "cifar-resnet32", **RED}, "do not fit: 6[0-9] missing"),
        ({"architecture": "cifar-resnet20", "num_classes": 5, **RED}, "linear.weight is 3x64, not 5x64"),
        ({"architecture": "cifar-resnet21", **RED}, "cifar-resnet20"),
    ],
)
def test_what_is_wrong_with_a_path_is_one_sentence(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    torch.save(build("cifar-resnet20", num_classes=3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(SaccadeError, match=words):
        load(tmp_path / "w.pth", **settings)


def test_plain_safetensors_missing_and_damaged_files(tmp_path: Path) -> None:
    save_file(build("plain32").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(SaccadeError, match="architecture="):
        load(tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-100])
    with pytest.raises(SaccadeError, match=r"cut\.safetensors"):
        load(tmp_path / "cut.safetensors")
    for name in ("absent.pth", "absent.safetensors"):
        with pytest.raises(SaccadeError, match="no weight file"):
            load(tmp_path / name)


def test_order_shipped_cache_archive(cache: Path) -> None:
    for folder in ("archive", "cache", "shipped"):
        network = made()
        network.save(cache.parent / folder / "mine.safetensors")
        assert same(load("mine"), network)


def test_unknown_names_offer_close_ones_and_settings_belong_to_paths(cache: Path) -> None:
    made().save(cache / "mine.safetensors")
    with pytest.raises(SaccadeError, match="Did you mean mine"):
        load("nine")
    with pytest.raises(SaccadeError, match="path of a file"):
        load("mine", num_classes=3)


def test_official_weights_in_an_archive_under_either_name(cache: Path) -> None:
    state = build("squeezenet1_1").state_dict()
    save_file(state, cache.parent / "archive" / "squeezenet1_1.safetensors")
    first = load("squeezenet1_1")
    assert first.meta["accuracy"] == "not stated"  # it may be anybody's
    torch.save(state, cache.parent / "archive" / "squeezenet1_1-b8a52dc0.pth")
    network = load("squeezenet1_1")
    assert same(network, first)
    assert "58.2 %" in network.meta["accuracy"]
    assert network.classes == imagenet_classes()
    assert network.input_size == 224
    torch.testing.assert_close(network.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(network.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


def test_a_download_that_is_not_the_official_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def wrong(url: str, path: Path, _: object) -> None:
        asked.append(url)
        path.write_bytes(b"a login page")

    monkeypatch.setattr(fetch, "_download", wrong)
    with pytest.raises(SaccadeError, match="f37072fd"):
        load("resnet18")
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_offline_the_error_names_the_three_ways() -> None:
    with pytest.raises(SaccadeError, match=r"resnet50-0676ba61\.pth.*SACCADE_ARCHIVES.*download\.pytorch\.org"):
        load("resnet50")


def test_catalogue(cache: Path) -> None:
    network = made()
    network.save(cache.parent / "shipped" / "mine.safetensors", meta={"accuracy": "99 %", "licence": "MIT"})
    (cache.parent / "shipped" / "mine.md").write_text("# mine")
    run = {"metrics": {"test": {"accuracy": 0.6254}}, "recipe": {"data": "cifar10"}}
    made("plain32").save(cache / "other.safetensors", meta=run)
    made("plain32").save(cache.parent / "archive" / "mine.safetensors")
    save_file(build("plain32").state_dict(), cache / "undescribed.safetensors")
    (cache / "broken.safetensors").write_bytes(b"\x01")
    rows = {row.name: row for row in catalogue()}
    assert set(rows) == {"mine", "other", *zoo.OFFICIAL}
    mine = rows["mine"]
    assert mine.found == cache.parent / "shipped" / "mine.safetensors"
    assert (mine.architecture, mine.accuracy, mine.licence, mine.classes) == ("fast", "99 %", "MIT", 3)
    assert mine.parameters == sum(p.numel() for p in network.parameters())
    assert mine.card == cache.parent / "shipped" / "mine.md"
    assert rows["other"].card is None
    assert rows["other"].accuracy == "62.5 % top-1, cifar10 test"
    assert rows["resnet18"].found is None


@pytest.mark.parametrize("name", zoo.OFFICIAL)
def test_the_table_of_official_weights(name: str) -> None:
    official = zoo.OFFICIAL[name]
    assert name in ARCHITECTURES
    with torch.device("meta"):
        assert sum(p.numel() for p in build(name).parameters()) == official.parameters
    assert len(official.sha256) == 8
    assert int(official.sha256, 16) >= 0
    assert official.file == f"{name}-{official.sha256}.pth"
    # Four bytes a parameter, and some more for statistics and names.
    assert -0.06 < official.megabytes - official.parameters * 4e-6 < 0.7


def test_imagenet_classes() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    known = {0: "tench", 6: "stingray", 76: "tarantula", 366: "gorilla", 604: "hourglass", 683: "oboe"}
    assert {i: names[i].split(",")[0] for i in known} == known


# ---- real weights and photographs -------------------------------------------------------------------


def photograph(path: Path) -> Tensor:
    """Shorter side 256, the middle 224x224, in [0, 1]."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    data = picture.crop((left, top, left + 224, top + 224)).tobytes()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1) / 255


def test_squeezenet_classifies_photographs() -> None:
    folder = fetch.find("imagenet_samples")
    if folder is None or fetch.find(["squeezenet1_0-b66bff10.pth", "squeezenet1_0.safetensors"]) is None:
        pytest.skip("SACCADE_ARCHIVES holds no imagenet_samples or no SqueezeNet 1.0")
    files = sorted(folder.glob("*.jpg"))
    labels = torch.tensor([int(path.name[:3]) for path in files])
    network = load("squeezenet1_0")
    with torch.no_grad():
        best = torch.cat([network(photograph(path)[None]).topk(5).indices for path in files])
    hits = best == labels[:, None]
    print(json.dumps({"pictures": len(files), "top-1": int(hits[:, 0].sum()), "top-5": int(hits.sum())}))
    assert hits[:, 0].float().mean() > 0.55
    assert hits.sum() / len(files) > 0.8
