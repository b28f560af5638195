"""The scoreboard: its numbers are those of the measures, it goes on after an interruption, the controls are there."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain import methods as table
from saccade.explain import saliency
from saccade.explain.board import Measured, Row, Scoreboard
from saccade.explain.controls import centre_map
from saccade.explain.scoreboard import scoreboard
from saccade.explain.scores import deletion, infidelity, pointing, road, sensitivity

METHODS = ["gradient", "saliency", "input-x-gradient"]
QUICK = {"steps": 4, "again": 3, "redraws": 2, "stages": 2}


class Quadrants(nn.Module):
    """Class 0 to 3: in which quarter of the picture the red lies; with layers that can be drawn anew."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Linear(16, 4)
        self.first.weight.data.mul_(0.1)
        self.first.bias.data.zero_()
        self.first.weight.data[:, 0] += 0.2
        self.last.weight.data = torch.eye(4).repeat(1, 4).mul(4) + 0.1 * torch.rand(4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.adaptive_avg_pool2d(torch.relu(self.first(x)), 2).flatten(1))


def data(n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures with a red square in a quarter, their labels (the last is wrong), and where the squares are."""
    draw = torch.Generator().manual_seed(0)
    x, y = 0.3 * torch.rand(n, 3, 12, 12, generator=draw), torch.arange(n) % 4
    masks = torch.zeros(n, 12, 12, dtype=torch.bool)
    for i, quarter in enumerate(y.tolist()):
        top, left = 6 * (quarter // 2), 6 * (quarter % 2)
        masks[i, top + 1 : top + 5, left + 1 : left + 4] = True
        x[i, 0][masks[i]] += 0.7
    y[-1] = (y[-1] + 1) % 4
    return x, y, masks


def run(folder: Path | None = None, methods: list[str] = METHODS, **settings: object) -> Scoreboard:
    x, y, masks = data()
    return scoreboard(Quadrants(), x, y, methods, masks=masks, folder=folder, **(QUICK | settings))  # type: ignore[arg-type]


def untimed(board: Scoreboard) -> dict[str, object]:
    rows = tuple(replace(row, seconds=0.0) for row in board.rows)
    return replace(board, rows=rows, settings={**board.settings, "methods": None}).as_dict()


@pytest.fixture(scope="module")
def board() -> Scoreboard:
    return run()


def test_one_row_a_method_and_the_controls_always(board: Scoreboard) -> None:
    assert [row.name for row in board.rows] == [*METHODS, "control-random", "control-edges", "control-centre"]
    assert [row.control for row in board.rows] == [False] * 3 + [True] * 3
    assert (board.given, board.correct, board.scored) == (12, 11, 11)
    assert board.accuracy == pytest.approx(11 / 12)
    for row in board.rows:
        assert set(row.measures) >= set(board.better)
        assert row.measures["deletion (mean)"].n == 11
        assert row.measures["sensitivity"].n == 3
        assert (row.not_finite, row.constant, row.failed) == (0, 0, "")
        assert len(row.curve[0]) == len(row.curve[1]) == len(row.stages) == 2
        assert row.seconds > 0
        assert row.memory > 0
    assert [round(row.forwards, 6) for row in board.rows] == [1, 1, 1, 0, 0, 0]
    assert [round(row.backwards, 6) for row in board.rows] == [1, 1, 1, 0, 0, 0]
    assert [row.how for row in board.rows] == ["abs", *["sum"] * 5]
    for row in board.rows[3:]:
        assert row.measures["randomisation (magnitudes)"] == Measured(1, 0, 3)
        assert row.curve == ((1, 1), (1, 1))


def test_the_numbers_are_those_of_the_measures(board: Scoreboard) -> None:
    network, (x, y, masks) = Quadrants(), data()
    x, y, masks = x[:-1], y[:-1], masks[:-1]
    row = board.rows[1]
    maps = saliency(network, x, y)
    expected = {
        "deletion (blur)": deletion(network, x, y, maps, fill="blur", steps=4).area,
        "ROAD (least first)": road(network, x, y, maps, order="least").area,
        "infidelity": infidelity(network, x, y, maps, kind="contribution", scaled=True),
        "pointing": pointing(maps, masks).hit,
        "mass in mask": pointing(maps, masks).mass,
        "sensitivity": sensitivity(network, x[:3], y[:3], saliency),
    }
    for name, values in expected.items():
        found = row.measures[name]
        assert found.mean == pytest.approx(float(values.double().mean()), rel=1e-5), name
        assert found.error == pytest.approx(float(values.double().std()) / len(values) ** 0.5, rel=1e-4), name
    centre = pointing(centre_map(network, x, y), masks)
    assert board.rows[-1].measures["pointing"].mean == pytest.approx(float(centre.centre_hit.mean()))
    assert row.measures["pointing"].mean > 0.7 > board.rows[-1].measures["pointing"].mean


def test_goes_on_after_an_interruption(tmp_path: Path, board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Exception):
        pass

    def cut(done: int, total: int) -> None:
        assert total == 6
        if done == 2:
            raise Cut

    with pytest.raises(Cut):
        run(tmp_path, progress=cut)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gradient.json", "saliency.json"]
    before = (tmp_path / "gradient.json").read_bytes()
    ran: list[str] = []
    for name in METHODS:
        method = table.METHODS[name]

        def spy(*given: object, name: str = name, inner: object = method.function, **more: object) -> torch.Tensor:
            ran.append(name)
            return inner(*given, **more)  # type: ignore[operator, no-any-return]

        monkeypatch.setitem(table.METHODS, name, replace(method, function=spy))
    seen: list[tuple[int, int]] = []
    again = run(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert set(ran) == {"input-x-gradient"}
    assert seen == [(i, 6) for i in range(7)]
    assert untimed(again) == untimed(board)
    assert (tmp_path / "gradient.json").read_bytes() == before
    ran.clear()
    assert run(tmp_path).as_dict() == again.as_dict()
    assert ran == []
    assert [row.name for row in run(tmp_path, methods=["saliency"]).rows][:1] == ["saliency"]  # of the same folder
    assert ran == []
    (tmp_path / "saliency.json").write_text('{"of": ')  # damaged: made again
    assert untimed(run(tmp_path)) == untimed(board)
    assert set(ran) == {"saliency"}
    with pytest.raises(SaccadeError, match="another folder"):
        run(tmp_path, seed=1)
    with pytest.raises(SaccadeError, match="another folder"):
        run(tmp_path, settings={"gradient": {"odd": 1}})


def test_the_tables_and_the_dictionary_hold_everything(board: Scoreboard) -> None:
    text = board.markdown()
    assert "11 of 12 pictures correctly (91.7 %)" in text
    assert "softmax probability" in text
    assert "tensors followed" in text
    assert "| CONTROL centre |" in text
    assert "deletion (blur), low, n=11" in text
    assert "sensitivity, low, n=3" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
    held = json.loads(json.dumps(board.as_dict(), allow_nan=False))
    assert held["rows"][0]["measures"]["pointing"]["n"] == 11
    assert held["flips"] == board.flips()


def made(values: dict[str, dict[str, float]], better: dict[str, str]) -> Scoreboard:
    rows = tuple(
        Row(name, name, name.startswith("C"), "sum", {key: Measured(value, 0.1, 5) for key, value in given.items()})
        for name, given in values.items()
    )
    told = {"all_pictures": False, "score": "logit", "steps": 1, "redraws": 1, "pictures": "", "device": "", "seed": 0}
    return Scoreboard(rows, 5, 5, 5, better, told)  # type: ignore[arg-type]


def test_flips_are_found() -> None:
    values = {
        "a": {"x": 0.1, "y": 0.1},
        "b": {"x": 0.2, "y": 0.2},
        "c": {"x": 0.3, "y": 0.9},
        "C": {"x": 0.25, "y": 0.05},
    }
    board = made(values, {"x": "low", "y": "high"})
    assert board.agreement()["x", "y"] == pytest.approx(
        (2 - 4) / 6
    )  # of 6 pairs only C with a and with b are ranked alike
    said = board.flips()
    assert said[0] == "Best: a at x; c at y."
    assert "between x and y: Kendall's tau -0.33; 1 of 1 pairs" in said[1]
    assert said[2:] == ["x: C is as good as or better than 1 of 3 methods."]
    assert "**0.100**" in board.markdown()
    assert "**0.900**" in board.markdown()
    same = made({name: {"x": v["x"], "z": 2 * v["x"]} for name, v in values.items()}, {"x": "low", "z": "low"})
    assert same.agreement()["x", "z"] == 1
    assert same.flips()[0] == "a is best at every measure."


def test_bad_maps_are_counted_and_scored_as_saying_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(network: nn.Module, pictures: torch.Tensor, target: object) -> torch.Tensor:
        found = saliency(network, pictures, target)  # type: ignore[arg-type]
        found[0, 0, 0] = torch.nan
        if len(found) > 1:
            found[1] = 0
        return found

    def broken(network: nn.Module, pictures: torch.Tensor, target: object) -> torch.Tensor:
        raise SaccadeError("Could not do it.")

    monkeypatch.setitem(table.METHODS, "bad", replace(table.METHODS["saliency"], name="bad", title="bad", function=bad))
    monkeypatch.setitem(table.METHODS, "broken", replace(table.METHODS["saliency"], name="broken", function=broken))
    board = run(methods=["bad", "broken"])
    row = board.rows[0]
    assert (row.not_finite, row.constant) == (1, 1)
    assert row.measures["deletion (mean)"].n == 11
    assert row.measures["randomisation (signed)"].n == 1  # of 3, one is not finite, one constant
    assert board.rows[1].failed == "Could not do it."
    text = board.markdown()
    assert "could not run: Could not do it." in text
    assert "(n=1)" in text


def test_completeness_is_measured_where_it_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(
        network: nn.Module, pictures: torch.Tensor, target: torch.Tensor, *, baseline: float = 0.5
    ) -> torch.Tensor:
        """Half of the difference from the baseline, at one pixel."""
        found = torch.zeros_like(pictures)
        with torch.no_grad():
            gap = (network(pictures) - network(torch.full_like(pictures, baseline))).gather(1, target[:, None])[:, 0]
        found[:, 0, 0, 0] = gap / 2
        return found

    few = {"again": 1, "redraws": 1, "stages": 1, "fills": (0.0,)}
    for complete, baseline in (("difference", 0.5), ("difference", 0.25), ("score", 0.5)):
        method = replace(table.METHODS["gradient"], name="half", function=half, complete=complete, slope=False)  # type: ignore[arg-type]
        monkeypatch.setitem(table.METHODS, "half", method)
        row = run(methods=["half"], settings={"half": {"baseline": baseline}}, **few).rows[0]
        assert row.how == "sum"
        if complete == "difference":
            assert row.measures["completeness"].mean == pytest.approx(0.5, rel=1e-4)
        else:
            assert abs(row.measures["completeness"].mean - 0.5) > 0.01


def test_says_what_is_wrong() -> None:
    x, y, masks = data()
    with pytest.raises(SaccadeError, match="no method 'magic'"):
        scoreboard(Quadrants(), x, y, ["magic"])
    with pytest.raises(SaccadeError, match="none of 12"):
        scoreboard(Quadrants(), x, torch.full((12,), 7), ["gradient"])
    with pytest.raises(SaccadeError, match="the labels are"):
        scoreboard(Quadrants(), x, y[:3], ["gradient"])
    with pytest.raises(SaccadeError, match="expected bool"):
        scoreboard(Quadrants(), x, y, ["gradient"], masks=masks[:3])
    with pytest.raises(SaccadeError, match="again is 0"):
        scoreboard(Quadrants(), x, y, ["gradient"], again=0)
    one = scoreboard(Quadrants(), x[:1], y[:1], [], fills=(0.0,), all_pictures=True, **QUICK)  # type: ignore[arg-type]
    assert "deletion (black)" in one.better
    assert "pointing" not in one.better
    assert math.isnan(one.rows[0].measures["deletion (black)"].error)
