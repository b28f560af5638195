"""The explorer: what is on its pages, that they hang together, and that a killed run goes on."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from saccade.data import ImageSet
from saccade.errors import SaccadeError
from saccade.imagine.explorer import GROUP, explorer
from saccade.imagine.explorer_pages import histogram_figure
from saccade.imagine.top_patches import top_patches
from saccade.imagine.unit_layers import unit_layers
from saccade.networks import Network, build


def network(classes: tuple[str, ...] = ("a cat", "b<i>g dog", "owl")) -> Network:
    torch.manual_seed(0)
    module = build("tinynet", num_classes=3, widths=(6, 10), units=(1, 1))
    return Network(module, classes=classes, input_size=16, name="little & odd")


def photographs(n: int = 13) -> ImageSet:
    levels = torch.randint(0, 256, (n, 16, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return ImageSet("some", levels, torch.arange(n) % 2, ("grass, green grass", "sky & <sea>"))


def flat(layer: str, channels: Sequence[int]) -> torch.Tensor:
    """A plain grey for each channel."""
    return torch.tensor([channel / 50 for channel in channels])[:, None, None, None].expand(-1, 3, 8, 8)


class WellFormed(HTMLParser):
    """Checks that tags are closed in order; collects addresses, and ids."""

    VOID = ("meta", "img", "link", "input", "br", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute of {tag} twice"
        assert tag != "img" or "alt" in given
        self.addresses += [value for name, value in attrs if name in ("href", "src") and value]
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(folder: Path) -> dict[Path, WellFormed]:
    return {path: WellFormed(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer") / "pages"
    assert explorer(network(), folder, pictures=photographs(), grow=flat, top=4) == folder / "index.html"
    return folder


def test_there_is_a_page_for_each_layer_and_unit(whole: Path) -> None:
    units = {"stem": 3, "stage1.unit1": 6, "stage2.unit1": 10, "classifier": 3}
    expected = {"index.html"} | {f"{layer}/index.html" for layer in units}
    expected |= {f"{layer}/{c:04d}.html" for layer, count in units.items() for c in range(count)}
    assert {str(path.relative_to(whole)) for path in whole.rglob("*.html")} == expected


def test_pages_are_well_formed_and_all_addresses_exist(whole: Path) -> None:
    reached = {whole / "index.html"}
    for path, page in pages(whole).items():
        assert len(set(page.ids)) == len(page.ids)
        for address in page.addresses:
            if address.startswith("data:image/webp;base64,"):
                continue
            assert not re.match(r"[a-z]+:|/", address), address  # nothing from outside, nothing absolute
            target = (path.parent / address).resolve()
            assert target.is_file(), address
            reached.add(target)
    assert set(whole.rglob("*.html")) <= {*reached}, "a page that no other leads to"
    assert "url(" not in (whole / "explorer.css").read_text("utf-8")
    assert "prefers-color-scheme: dark" in (whole / "explorer.css").read_text("utf-8")


def test_names_are_escaped_and_classes_named(whole: Path) -> None:
    found = pages(whole)
    assert "little & odd" in found[whole / "index.html"].text
    assert "13 pictures" in found[whole / "index.html"].text
    assert "b<i>g dog" in found[whole / "classifier" / "0001.html"].text
    assert "Unit 1" in found[whole / "stem" / "0001.html"].text
    assert "sees 3 × 3 of 20 × 16 pixels" in found[whole / "stem" / "index.html"].text


def test_a_unit_shows_its_patches_and_what_was_grown(whole: Path) -> None:
    found = top_patches(network(), photographs(), ["stage2.unit1"], top=4)["stage2.unit1"]
    silent = 0
    for channel in range(10):
        path = whole / "stage2.unit1" / f"{channel:04d}.html"
        page = WellFormed(path.read_text("utf-8"))
        values = [float(v) for v in found.values[channel].tolist() if v != 0]
        silent += not values
        assert sum(address.startswith("data:") for address in page.addresses) == 2 * len(values)
        assert path.with_suffix(".top.webp").is_file() == bool(values)
        said = [f"{v:.3g}" for v in values]
        words = ["grass" if p % 2 == 0 else "sky & <sea>" for p in found.pictures[channel].tolist()]
        for value, word in zip(said, words, strict=False):
            assert f"{value} {word}" in page.text
        grown = Image.open(path.with_suffix(".grown.webp")).convert("RGB")
        assert grown.size == (8, 8)
        assert abs(grown.getpixel((3, 3))[0] - 255 * channel / 50) <= 2  # type: ignore[index]
        if not values:
            assert "zero everywhere" in page.text
    assert silent < 10


def test_arrow_keys_walk_along_all_units(whole: Path) -> None:
    walked, address = [], "0000.html"
    while address:
        walked.append(address)
        text = (whole / "stage2.unit1" / address).read_text("utf-8")
        back = re.search(r'rel="prev" href="([^"]*)"', text)
        assert (back[1] if back else None) == (walked[-2] if len(walked) > 1 else None)
        on = re.search(r'rel="next" href="([^"]*)"', text)
        address = on[1] if on else ""
    assert walked == [f"{c:04d}.html" for c in range(10)]


class Killed(Exception):
    pass


@pytest.mark.parametrize("calls", [0, 1, 2, 4])
def test_a_killed_run_goes_on_to_the_same_pages(tmp_path: Path, whole: Path, calls: int) -> None:
    asked: list[tuple[str, int]] = []

    def tiring(layer: str, channels: Sequence[int]) -> torch.Tensor:
        if len(asked) == calls:
            raise Killed
        asked.append((layer, len(channels)))
        return flat(layer, channels)

    with pytest.raises(Killed):
        explorer(network(), tmp_path, pictures=photographs(), grow=tiring, top=4)
    for path, page in pages(tmp_path).items():  # what is there can be looked at
        if path.name == "index.html":
            assert all((path.parent / a).exists() for a in page.addresses if not a.startswith("data:")), path
    (tmp_path / "stem" / ".0001.grown.0123abcd.webp").write_bytes(b"half")  # as a kill leaves it
    (tmp_path / "stem" / "0002.html").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0000.*")}
    searched = []

    def again(layer: str, channels: Sequence[int]) -> torch.Tensor:
        asked.append((layer, len(channels)))
        return flat(layer, channels)

    explorer(
        network(), tmp_path, pictures=photographs(), grow=again, top=4,
        callback=lambda what, done, total: searched.append(what),
    )  # fmt: skip
    assert "pictures" not in searched  # they were searched once
    assert {path: path.stat().st_mtime_ns for path in before} == before
    redone = [("stem", 3)] if calls else []
    assert asked == [*[("stem", 3), ("stage1.unit1", 6), ("stage2.unit1", GROUP), ("stage2.unit1", 2)][:calls], *redone,
                     *[("stem", 3), ("stage1.unit1", 6), ("stage2.unit1", GROUP), ("stage2.unit1", 2),
                       ("classifier", 3)][calls:]]  # fmt: skip
    assert contents(tmp_path) == contents(whole)


def test_only_photographs_or_only_grown(tmp_path: Path) -> None:
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    explorer(network(), tmp_path / "a", layers=["stage2.unit1"], pictures=x, grow=None)
    explorer(network(), tmp_path / "b", layers=["classifier", "stem"], grow=flat)
    for folder in ("a", "b"):
        for path, page in pages(tmp_path / folder).items():
            assert "show-" not in path.read_text("utf-8")
            assert all((path.parent / a).exists() for a in page.addresses if not a.startswith("data:")), path
    assert not list((tmp_path / "a").rglob("*.grown.webp"))
    assert not list((tmp_path / "b").rglob("*.top.webp"))
    text = "".join(path.read_text("utf-8") for path in (tmp_path / "a" / "stage2.unit1").glob("0*.html"))
    assert {f"picture {i}" in text for i in range(5)} == {True}


def test_layers_may_be_added(tmp_path: Path) -> None:
    explorer(network(), tmp_path, layers=["stem"], pictures=photographs(), grow=flat, top=4)
    asked = []

    def grow(layer: str, channels: Sequence[int]) -> torch.Tensor:
        asked.append(layer)
        return flat(layer, channels)

    explorer(network(), tmp_path, layers=["stem", "classifier"], pictures=photographs(), grow=grow, top=4)
    assert asked == ["classifier"]
    assert "classifier/index.html" in (tmp_path / "index.html").read_text("utf-8")


def test_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    explorer(network(), tmp_path / "a", layers=["stem"], grow=flat)
    other = network()
    other.module.stem.conv.weight.data[0] += 1
    with pytest.raises(SaccadeError, match="another network"):
        explorer(other, tmp_path / "a", layers=["stem"], grow=flat)
    with pytest.raises(SaccadeError, match="another network"):
        explorer(network(), tmp_path / "a", layers=["stem"], grow=flat, pictures=photographs())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text("mine")
    with pytest.raises(SaccadeError, match="another page"):
        explorer(network(), tmp_path / "b", grow=flat)
    assert (tmp_path / "b" / "index.html").read_text() == "mine"


def test_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match="expected pictures to search for patches, or grow"):
        explorer(network(), tmp_path / "a", grow=None)
    with pytest.raises(SaccadeError, match="no layer 'nine'"):
        explorer(network(), tmp_path / "b", layers=["nine"], grow=flat)
    with pytest.raises(SaccadeError, match=r"expected \(3, 3, height, width\)"):
        explorer(network(), tmp_path / "c", layers=["stem"], grow=lambda layer, channels: torch.zeros(3, 8, 8))
    with pytest.raises(SaccadeError, match="empty"):
        explorer(network(), tmp_path / "a", pictures=photographs().subset([]), grow=flat)
    with pytest.raises(SaccadeError, match="expected floats"):
        explorer(network(), tmp_path / "a", pictures=torch.zeros(3, 1, 16, 16), grow=flat)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_leaves_no_trace(tmp_path: Path) -> None:
    net = network().train()
    net.module.stem.conv.weight.requires_grad_(False)
    random = torch.get_rng_state()
    explorer(net, tmp_path, pictures=photographs(), grow=flat, top=2)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(layer.training and not layer._forward_hooks for layer in net.modules())
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert all(p.grad is None for p in net.parameters())


class Reused(nn.Module):
    """A residual block whose one ReLU runs twice, as those of torchvision do."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(cin, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.b(self.relu(self.a(x))) + x[:, :1])
        return out


def test_layers_by_default() -> None:
    x = torch.rand(1, 3, 16, 16)
    assert unit_layers(network(), x) == ["stem", "stage1.unit1", "stage2.unit1", "classifier"]
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert unit_layers(nn.Sequential(Reused(3), Reused(4), *pool), x) == ["0.relu", "0", "1.relu", "1", "4"]
    assert unit_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), *pool), x) == ["0", "1", "4"]
    plain = build("resnet18", num_classes=3)
    assert unit_layers(plain, x)[:3] == ["relu", "layer1.0.relu1", "layer1.0"]
    with pytest.raises(SaccadeError, match="name layers"):
        unit_layers(nn.Flatten(), x)
    hooks = [layer for layer in plain.modules() if layer._forward_hooks]
    assert hooks == []


def test_a_histogram_has_a_bar_for_each_part_that_is_used() -> None:
    counts = [0] * 64
    counts[32], counts[34], counts[35] = 8, 2, 4
    html = histogram_figure(counts, 16.0, "Its value")
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]*)"', html)]
    assert heights == [90.0, 22.5, 45.0]
    assert re.findall(r">([^<>]*)</text>", html) == ["0", "2"]  # from bin 32 to the end of bin 35, half a unit each
    assert "Its value in each of 14 pictures" in html
