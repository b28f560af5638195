"""The benchmarks run in small, can be stopped and taken up, and their reference sides are what they claim."""

import importlib
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data import ImageSet
from saccade.engine.distributed import World
from saccade.engine.precision import Precision
from saccade.networks import Network, build
from saccade.train import find_recipe
from saccade.train.state import Fit

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = ["train_step", "data_pipeline", "cifar_accuracy", "course_part1", "recurrent"]
SCRIPTS += [
    "caption_train",
    "caption_decode",
    "captioning",
    "explain",
    "scoreboard",
    "imagine",
    "style",
    "style_gallery",
    "attack",
    "certificates",
    "robustness",
]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The pipeline's benchmark sets PyTorch to one thread."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a file of the benchmarks as its script does, from beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        if name not in sys.modules or not hasattr(sys.modules[name], "main"):  # a folder of tests has such a name, too
            sys.modules.pop(name, None)
            importlib.invalidate_caches()
            monkeypatch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)

    return load


def noise(count: int, side: int = 32, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet("noise", pictures, labels, tuple("abcdefghij"))


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")  # PyTorch's workers, Python 3.12
def test_smoke_leaves_figures_and_a_page_and_is_not_done_twice(
    name: str, module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = module(name)
    if hasattr(script, "choose_precision"):  # it times, and a busy machine may decide otherwise the second time
        monkeypatch.setattr(script, "choose_precision", cache(script.choose_precision))
    script.main(["--smoke", "--folder", str(tmp_path)])
    path = tmp_path / "benchmarks" / "results" / f"{name}.json"
    written = path.read_text("utf-8")
    cells = json.loads(written)["cells"]
    assert cells
    for cell in cells.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", cell["date"])
        assert {"torch", "python", "saccade"} <= cell["versions"].keys()
        assert "threads" in cell["machine"]
        assert cell["values"]
    page = (tmp_path / "docs" / "results" / f"{name}.md").read_text("utf-8")
    assert f"python benchmarks/{name}.py" in page
    assert page.count("\n| ") >= 3
    assert "not measured" not in page
    capsys.readouterr()
    script.main(["--smoke", "--folder", str(tmp_path)])
    assert "..." not in capsys.readouterr().out  # nothing was measured again
    assert path.read_text("utf-8") == written


def test_the_command_of_the_docstring_starts_the_script() -> None:
    for name in SCRIPTS:
        first = (BENCHMARKS / f"{name}.py").read_text("utf-8").splitlines()[0]
        assert first.startswith(f'"""python benchmarks/{name}.py')
    found = subprocess.run(
        [sys.executable, "benchmarks/course_part1.py", "--help"], cwd=BENCHMARKS.parent, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "--smoke" in found.stdout


def test_a_cell_is_measured_once_and_kept_when_a_later_one_fails(module: Any, tmp_path: Path) -> None:
    common = module("common")
    results = common.Results("example", tmp_path, command="python benchmarks/example.py")
    assert results.measure("a", {"seed": 0}, lambda: {"x": 1.5}) == {"x": 1.5}

    def fail() -> dict[str, Any]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        results.measure("b", {}, fail)
    again = common.Results("example", tmp_path, command="python benchmarks/example.py")
    assert again.measure("a", {}, fail) == {"x": 1.5}
    assert again.find("a") == [{"x": 1.5}]
    assert list(again.cells) == ["a"]


def test_mean_and_spread(module: Any) -> None:
    mean_spread = module("common").mean_spread
    assert mean_spread([0.9, 0.92], scale=100) == "91.00 ± 1.41 (n=2)"  # 2 / sqrt(2)
    assert mean_spread([3.0], digits=0) == "3 (n=1)"
    assert mean_spread([]) == "not measured"


def test_operations_are_those_of_the_definition(module: Any) -> None:
    conv, x = nn.Conv2d(4, 6, 3, padding=1, bias=False), torch.randn(2, 4, 8, 8, requires_grad=True)
    forward = 2 * 2 * 8 * 8 * 6 * 4 * 9
    assert module("common").flops_of(lambda: conv(x)) == forward
    assert module("common").flops_of(lambda: conv(x).sum().backward()) == 3 * forward
    assert module("common").flops_of(lambda: torch.randn(3, 5) @ torch.randn(5, 7)) == 2 * 3 * 5 * 7


def test_sizes_of_the_reference_networks(module: Any) -> None:
    assert sum(p.numel() for p in module("plain").CifarResNet18().parameters()) == 11_173_962
    net = module("airbench94").Net((64, 256, 256))
    assert sum(p.numel() for p in net.parameters()) == 1_972_792
    assert sum(p.numel() for p in net.parameters() if not p.requires_grad) == 1_440


def test_pil_pictures_are_windows_of_the_padded_picture(module: Any) -> None:
    plain = module("plain")
    images = noise(3, side=8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    for border, mode in (("zero", "constant"), ("reflect", "reflect")):
        pictures = plain.PilPictures(images, mean, std, border=border)
        for i in range(3):
            found, label = pictures[i]
            padded = np.pad(images.pictures[i].numpy(), ((4, 4), (4, 4), (0, 0)), mode=mode)  # type: ignore[call-overload]
            wanted = (torch.tensor(padded).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
            windows = [wanted[y : y + 8, x : x + 8].permute(2, 0, 1) for y in range(9) for x in range(9)]
            assert any(
                torch.allclose(found, w, atol=1e-6) or torch.allclose(found, w.flip(2), atol=1e-6) for w in windows
            )
            assert label == int(images.labels[i])


def test_pil_transforms_use_every_shift_and_both_sides(module: Any) -> None:
    plain = module("plain")
    torch.manual_seed(0)
    bright = np.zeros((8, 8, 3), np.uint8)
    bright[3, 5] = 255
    found = set()
    for _ in range(3000):
        picture = np.asarray(plain.flip(plain.crop(Image.fromarray(bright), 4, "zero")))[..., 0]
        found |= {tuple(p) for p in np.argwhere(picture)}
    # rows 3 - 4 to 3 + 4 and columns 5 - 4 to 5 + 4 (mirrored: 7 - 9 to 7 - 1), as far as they lie inside
    assert found == {(y, x) for y in range(8) for x in range(8)}


def test_the_written_airbench94_and_the_library_take_the_same_steps(module: Any) -> None:
    """Two implementations: network, whitening, decoupled rates, schedule, lookahead, loss."""
    air = module("airbench94")
    images = noise(400)
    settings = air.Settings(epochs=2.0, batch=8, widths=(8, 16, 16))  # 100 steps, so that 23 % are whole
    training = air.Training(images, settings, seed=0, autocast=nullcontext)
    recipe = find_recipe("fast94-sgd").override({"epochs": "2", "batch-size": "8", "precision": "fp32"})
    network = Network(build("fast", num_classes=10, widths=(8, 16, 16)), mean=air.MEAN, std=air.STD)
    renamed = {}
    for key, value in training.net.state_dict().items():
        key = re.sub(r"^groups", "blocks", key).replace("whiten.", "whitening.").replace("head.", "linear.")
        renamed[key] = value.double()
    network.module.load_state_dict(renamed)
    x, labels = air.normalised(images)
    fit = Fit(network.double(), images, recipe, world=World(0, 1, torch.device("cpu")), precision=Precision("fp32", ""))
    training.net.double()
    training.slow = {k: v.clone() for k, v in training.net.state_dict().items()}
    assert training.steps == fit.steps == 100
    pictures = images.pictures.permute(0, 3, 1, 2).double() / 255
    torch.testing.assert_close(x.double(), (pictures - network.mean) / network.std, atol=1e-5, rtol=0)
    for step in range(12):
        rows = slice(8 * step, 8 * step + 8)
        training.update(((pictures - network.mean) / network.std)[rows], labels[rows])
        fit.advance(pictures[rows], labels[rows])
    ours = fit.network.module.state_dict()
    for key, value in training.net.state_dict().items():
        name = re.sub(r"^groups", "blocks", key).replace("whiten.", "whitening.").replace("head.", "linear.")
        torch.testing.assert_close(value, ours[name], rtol=1e-4, atol=1e-6)
    module_weights = {k: v for k, v in renamed.items() if k.endswith("conv2.weight")}
    assert all(not torch.equal(ours[k], v) for k, v in module_weights.items())  # and they did move


def test_airbench94_whitens_and_ends_on_the_average(module: Any) -> None:
    air = module("airbench94")
    generator = torch.Generator().manual_seed(0)
    x = F.avg_pool2d(torch.randn(500, 3, 14, 14, generator=generator), 3, 1)
    filters = air.whitening_filters(x)
    answers = F.conv2d(x, filters[:12]).transpose(0, 1).flatten(1)
    # eigenvalues far above 5e-4: unit power, no correlation
    torch.testing.assert_close(answers @ answers.T / answers.shape[1], torch.eye(12), atol=0.1, rtol=0)
    training = air.Training(noise(64), air.Settings(epochs=2, batch=16, widths=(8, 8, 8)), seed=0, autocast=nullcontext)
    factors = []
    while training.step < training.steps:
        factors.append(training.factor())
        x, labels = next(training.loader.epoch(0))
        training.update(x, labels)
    assert factors[0] == pytest.approx(0.2)
    assert max(factors) == 1.0
    assert factors[-1] == pytest.approx(1 - 0.93 * (7 - 1) / (8 - 1))
    for slow, fast in zip(training.slow.values(), training.net.state_dict().values(), strict=True):
        if fast.is_floating_point():
            assert torch.equal(slow, fast)


def test_airbench94_goes_on_after_a_stop(module: Any, tmp_path: Path) -> None:
    air = module("airbench94")
    images, settings = noise(64), air.Settings(epochs=2.5, batch=16, widths=(8, 8, 8))

    def fresh() -> Any:
        return air.Training(images, settings, seed=3, autocast=nullcontext)

    whole, first, second = fresh(), fresh(), fresh()
    whole.run()
    update = first.update

    def stop_in_the_second_epoch(x: Tensor, labels: Tensor) -> None:
        if first.step == 6:
            raise KeyboardInterrupt
        update(x, labels)

    first.update = stop_in_the_second_epoch
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "last.pt")
    second.run(tmp_path / "last.pt")
    assert second.step == whole.step == 10
    for a, b in zip(whole.net.state_dict().values(), second.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_flips_alternate_in_airbench94(module: Any) -> None:
    air = module("airbench94")
    images = noise(32)
    x, _ = air.normalised(images)
    loader = air.Loader(x, torch.arange(32), air.Settings(batch=32, translate=0), seed=1)
    sides = []
    for epoch in range(3):
        ((pictures, rows),) = list(loader.epoch(epoch))
        ordered = pictures[rows.argsort()]
        mirrored = torch.tensor([bool(torch.equal(a, b.flip(2))) for a, b in zip(ordered, x, strict=True)])
        straight = torch.tensor([bool(torch.equal(a, b)) for a, b in zip(ordered, x, strict=True)])
        assert torch.equal(mirrored, ~straight)
        sides.append(mirrored)
    assert torch.equal(sides[0], ~sides[1])
    assert torch.equal(sides[0], sides[2])
    assert 0 < int(sides[0].sum()) < 32


def test_loss_curves_are_compared_by_their_standard_error(module: Any) -> None:
    plain = [[2.0] * 20, [3.0] * 20, [4.0] * 20]
    ours = [[5.0] * 20, [6.0] * 20, [7.0] * 20]
    rows = module("train_step").compare(plain, ours)
    assert len(rows) == 11
    error = math.sqrt(2 * statistics.variance([2.0, 3.0, 4.0]) / 3)
    for row in rows:
        assert row["apart"] == pytest.approx(3 / error)
    assert math.isnan(module("train_step").compare(plain[:1], ours[:1])[0]["apart"])


def test_course_data_is_split_and_normalised_as_in_the_course(module: Any) -> None:
    course = module("course_part1")
    images = noise(200, side=8)
    data = course.Data(images, 30)
    assert data.train.tolist() == list(range(170))
    assert data.val.tolist() == list(range(170, 200))
    batches = list(data.epoch(0, 0))
    assert [len(labels) for _, labels in batches] == [64, 64, 42]
    x, _ = data.take(torch.tensor([7]))
    channel = (images.pictures[7, 2, 5, 1].item() / 255 - 0.4822) / 0.1994
    assert x[0, 1, 2, 5].item() == pytest.approx(channel, abs=1e-5)
    seen = torch.cat([labels for _, labels in batches]).sort().values
    assert torch.equal(seen, images.labels[:170].sort().values)


def test_course_data_of_class_folders_is_put_into_random_order(module: Any) -> None:
    course = module("course_part1")
    images = noise(200, side=8)
    sorted_set = ImageSet("sorted", images.pictures, images.labels.sort().values, images.classes)
    data = course.Data(sorted_set, 30)
    assert len(sorted_set.take(data.val)[1].unique()) > 5
    assert sorted([*data.train.tolist(), *data.val.tolist()]) == list(range(200))


def test_the_loop_by_hand_is_gradient_descent(module: Any) -> None:
    course = module("course_part1")
    data = course.Data(noise(100, side=8), 30)
    weights = [torch.randn(10, 192).mul(0.01).requires_grad_(), torch.zeros(10, requires_grad=True)]
    layer = nn.Linear(192, 10)
    with torch.no_grad():
        layer.weight.copy_(weights[0])
        layer.bias.copy_(weights[1])
    model = nn.Sequential(nn.Flatten(), layer)
    by_hand = course.by_hand(lambda x: F.linear(x.flatten(1), *weights), weights, 0.1, data, 5, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    assert by_hand == course.by_optimiser(model, optimiser, data, 5, 2, ())
    torch.testing.assert_close(weights[0], layer.weight, atol=1e-5, rtol=1e-4)


def test_the_course_divides_the_rate_by_ten(module: Any) -> None:
    course = module("course_part1")
    data = course.Data(noise(80, side=8), 10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    course.by_optimiser(model, optimiser, data, 0, 3, (1, 2))
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.01)


def test_every_experiment_of_the_course_is_there(module: Any) -> None:
    experiments = module("course_part1").EXPERIMENTS
    assert len(experiments) == 8
    sizes = {}
    for name, experiment in experiments.items():
        if experiment.tensors is not None:
            sizes[name] = sum(p.numel() for p in experiment.tensors()[1])
        else:
            sizes[name] = sum(p.numel() for p in experiment.module()[0].parameters())
    two, three = 12_332_010, 170_906
    assert list(sizes.values()) == [two, three, two, three, two, three, 117_386, 118_074]


def test_candidates_spend_less_than_the_reference(module: Any) -> None:
    """By pictures and their area alone: 476 steps of 1024 pictures at full size."""
    for recipe in module("cifar_accuracy").CANDIDATES.values():
        areas = [(recipe.size_at(epoch) or 32) ** 2 / 32**2 for epoch in range(recipe.epochs)]
        assert sum(areas) * 50_000 < 0.83 * 476 * 1024, recipe.name
