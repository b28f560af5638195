"""An honest scoreboard: every method beside controls that look at no network, many measures, and no sum of them.

Measures of attributions disagree, each has a bias, and a fixed blob in the middle of the picture does well by some. So
the board shows all of them, says how many methods do not beat the controls, and where the rankings contradict.
"""

import inspect
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.files import write_text
from saccade.engine.fingerprint import fingerprint
from saccade.errors import SaccadeError
from saccade.explain.board import Better, Measured, Row, Scoreboard, plain
from saccade.explain.controls import CONTROLS
from saccade.explain.question import MapWarning, asking
from saccade.explain.reduce import How
from saccade.explain.scores.completeness import completeness
from saccade.explain.scores.cost import counting, peak_memory
from saccade.explain.scores.deletion import deletion, insertion
from saccade.explain.scores.infidelity import infidelity
from saccade.explain.scores.pointing import pointing
from saccade.explain.scores.randomisation import randomisation
from saccade.explain.scores.road import road
from saccade.explain.scores.sensitivity import sensitivity

FILLS = ("mean", "blur")


def scoreboard(
    network: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    methods: Sequence[str],
    *,
    masks: Tensor | None = None,
    folder: str | Path | None = None,
    fills: Sequence[str | float] = FILLS,
    steps: int = 24,
    score: Literal["probability", "logit"] = "probability",
    again: int | None = 16,
    redraws: int = 3,
    stages: int = 4,
    all_pictures: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scoreboard:
    """Score methods by every measure, beside the controls.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W).
        labels: integers (N,), the true classes; these are explained.
        methods: names in `METHODS`.
        masks: bool (N, H, W), where the object is; for the pointing game.
        folder: where each method's row is kept as soon as it is done; a call with the same arguments goes on there.
        fills: of deletion and insertion, see there; a number is a grey, 0 black.
        steps: of deletion and insertion.
        score: softmax "probability" or raw "logit" that deletion, insertion and ROAD follow.
        again: for how many pictures, the first ones, the measures that run a method again and again are taken
            (randomisation and sensitivity); None for all.
        redraws, stages: seeds and stages of `randomisation`.
        all_pictures: also score pictures that the network gets wrong.
        settings: keyword settings of methods, by their names.
        batch_size: rows given to the network at once by the measures; methods choose by themselves.
        progress: called with (rows done, rows in all).

    Returns:
        A `Scoreboard`; a method that raises `SaccadeError` has a row that says why.

    Raises:
        SaccadeError: an unknown method, shapes that do not belong together, no picture that is classified correctly,
            or a folder with rows of other pictures, another network or other settings.
    """
    from saccade.explain.methods import find_method

    operation = "make a scoreboard"
    found = [find_method(name) for name in methods]
    given = {find_method(name).name: dict(keywords) for name, keywords in (settings or {}).items()}
    labels = labels.to(pictures.device)
    right = _correct(network, pictures, labels, operation, batch_size)
    if again is not None and again < 1:
        raise SaccadeError(f"Could not {operation}: again is {again}, expected 1 or more, or None for all pictures.")
    if masks is not None and (masks.dtype != torch.bool or masks.shape != (len(pictures), *pictures.shape[2:])):
        raise SaccadeError(
            f"Could not {operation}: the masks are {masks.dtype} of shape {tuple(masks.shape)}, expected bool "
            f"{(len(pictures), *pictures.shape[2:])}."
        )
    chosen = torch.ones_like(right) if all_pictures else right
    if not chosen.any():
        raise SaccadeError(
            f"Could not {operation}: the network classifies none of {len(pictures)} pictures correctly; check the "
            "labels, or give all_pictures=True."
        )
    x, y = pictures.detach()[chosen], labels[chosen]
    few = min(len(x) if again is None else again, len(x))
    keywords_of = {method.name: repr(sorted(given.get(method.name, {}).items())) for method in found}
    told: dict[str, Any] = {
        "fills": [str(fill) for fill in fills],
        "steps": steps,
        "score": score,
        "again": few,
        "redraws": redraws,
        "stages": stages,
        "all_pictures": all_pictures,
        "methods": keywords_of,
        "seed": seed,
        "pictures": f"{x.shape[2]} x {x.shape[3]} pixels, {str(x.dtype).removeprefix('torch.')}",
        "device": torch.cuda.get_device_name(x.device) if x.is_cuda else "the CPU",
    }
    key = fingerprint(network, [x, y, *([] if masks is None else [masks])], {**told, "methods": None})
    entries = [
        _Entry(
            method.name,
            method.title,
            partial(method.function, **({"seed": seed} if method.sampled else {}) | given.get(method.name, {})),
            slopes=method.slope,
            complete=method.complete,
            note=method.note,
        )
        for method in found
    ]
    entries += [
        _Entry(f"control-{name}", f"CONTROL {name}", partial(function, seed=seed), control=True)
        for name, function in CONTROLS.items()
    ]
    judge = _Judge(network, x, y, None if masks is None else masks.to(x.device)[chosen], tuple(fills), steps, score,
                   few, redraws, stages, seed, batch_size)  # fmt: skip
    rows = []
    for number, entry in enumerate(entries):
        if progress is not None:
            progress(number, len(entries))
        path = None if folder is None else Path(folder) / f"{entry.name}.json"
        own = f"{key} {keywords_of.get(entry.name, '')}"
        row = _kept(path, own)
        if row is None:
            try:
                row = judge.row(entry)
            except SaccadeError as error:
                row = Row(entry.name, entry.title, entry.control, entry.how, {}, note=entry.note, failed=str(error))
            if path is not None and not row.failed:
                write_text(path, json.dumps({"of": own, "row": plain(asdict(row))}, indent=1) + "\n")
        rows.append(row)
    if progress is not None:
        progress(len(entries), len(entries))
    return Scoreboard(tuple(rows), len(pictures), int(right.sum()), len(x), judge.better(), told)


@dataclass(frozen=True)
class _Entry:
    """A method or a control, ready to be called (network, pictures, target)."""

    name: str
    title: str
    call: Callable[..., Tensor]
    slopes: bool = False
    complete: str = ""
    control: bool = False
    note: str = ""

    @property
    def how(self) -> How:
        """Colours that are slopes count by magnitude, contributions add up."""
        return "abs" if self.slopes else "sum"


@dataclass(frozen=True, eq=False)
class _Judge:
    """Everything that one row is made from."""

    network: nn.Module
    x: Tensor
    y: Tensor
    masks: Tensor | None
    fills: tuple[str | float, ...]
    steps: int
    score: Literal["probability", "logit"]
    again: int
    redraws: int
    stages: int
    seed: int
    batch_size: int | None

    def better(self) -> dict[str, Better]:
        """The measures by which maps are ranked, and which values are good."""
        named: dict[str, Better] = {}
        for fill in self.fills:
            named |= {f"deletion ({_named(fill)})": "low", f"insertion ({_named(fill)})": "high"}
        named |= {"ROAD (most first)": "low", "ROAD (least first)": "high"}
        if self.masks is not None:
            named |= {"pointing": "high", "mass in mask": "high"}
        return named | {
            "randomisation (magnitudes)": "low",
            "randomisation (signed)": "low",
            "sensitivity": "low",
            "infidelity": "low",
        }

    def row(self, entry: _Entry) -> Row:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapWarning)  # counted below
            memory, memory_by = peak_memory(lambda: entry.call(self.network, self.x[:1], self.y[:1]), self.x.device)
            with counting(self.network, self.x) as cost:
                raw = entry.call(self.network, self.x, self.y)
            finite = torch.isfinite(raw).flatten(1).all(1)
            raw = raw.nan_to_num(0.0, 0.0, 0.0)  # what says nothing is scored as such
            flat = raw.flatten(1)
            constant = finite & (flat.amax(1) == flat.amin(1))
            measures = self._curves(entry, raw)
            if self.masks is not None:
                pointed = pointing(raw, self.masks, how=entry.how)
                measures |= {"pointing": pointed.hit, "mass in mask": pointed.mass}
            few = slice(self.again)
            redrawn = randomisation(self.network, self.x[few], self.y[few], entry.call, seeds=self.redraws,
                                    stages=self.stages, seed=self.seed)  # fmt: skip
            measures["randomisation (magnitudes)"], measures["randomisation (signed)"] = redrawn.mean
            measures["sensitivity"] = sensitivity(self.network, self.x[few], self.y[few], entry.call, seed=self.seed)
        large, signed = (tuple(each.tolist()) for each in redrawn.curve)
        return Row(
            entry.name,
            entry.title,
            entry.control,
            entry.how,
            {name: value for name, values in measures.items() if (value := _measured(values)).n},
            redrawn.layers,
            (large, signed),
            cost.forwards / len(self.x),
            cost.backwards / len(self.x),
            cost.seconds / len(self.x),
            memory,
            memory_by,
            int((~finite).sum()),
            int(constant.sum()),
            entry.note,
        )

    def _curves(self, entry: _Entry, raw: Tensor) -> dict[str, Tensor]:
        """What is measured of maps that are there already."""
        asked = (self.network, self.x, self.y, raw)
        shared: dict[str, Any] = {
            "score": self.score,
            "how": entry.how,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        found: dict[str, Tensor] = {}
        for fill in self.fills:
            for name, curve in (("deletion", deletion), ("insertion", insertion)):
                found[f"{name} ({_named(fill)})"] = curve(*asked, fill=fill, steps=self.steps, **shared).area
        found["ROAD (most first)"] = road(*asked, order="most", **shared).area
        found["ROAD (least first)"] = road(*asked, order="least", **shared).area
        found["infidelity"] = infidelity(*asked, kind="slope" if entry.slopes else "contribution", scaled=True,
                                         seed=self.seed, batch_size=self.batch_size)  # fmt: skip
        if entry.complete:
            baseline = _baseline(entry.call) if entry.complete == "difference" else None
            if baseline is not None or entry.complete == "score":
                gap = completeness(*asked, baseline=baseline, batch_size=self.batch_size)
                found["completeness"] = gap.relative
        return found


def _correct(network: nn.Module, pictures: Tensor, labels: Tensor, operation: str, batch_size: int | None) -> Tensor:
    """Which pictures the network classifies as labelled, bool (N,)."""
    with asking(network, pictures, labels, operation) as question:
        x = question.x
        if labels.shape != x.shape[:1] or labels.is_floating_point():
            raise SaccadeError(
                f"Could not {operation}: the labels are {labels.dtype} of shape {tuple(labels.shape)}, expected "
                f"integers ({len(x)},)."
            )
        with torch.no_grad():
            size = rows_at_once(network, x, batch_size)
            return torch.cat([network(x[part]).argmax(1) for part in chunks(len(x), size)]) == labels


def _baseline(call: Callable[..., Tensor]) -> Any:
    """The baseline that a method with its settings compares with, or None if it takes none that can be compared."""
    parameters = inspect.signature(call).parameters
    for name in ("baseline", "fill"):
        if name in parameters and isinstance(value := parameters[name].default, float | int | str | Tensor):
            return value
    return None


def _named(fill: str | float) -> str:
    return fill if isinstance(fill, str) else "black" if fill == 0 else f"grey {fill}"


def _measured(values: Tensor) -> Measured:
    values = values.detach().double().cpu()
    values = values[torch.isfinite(values)]
    n = len(values)
    if not n:
        return Measured(math.nan, math.nan, 0)
    return Measured(float(values.mean()), float(values.std() / n**0.5) if n > 1 else math.nan, n)


def _kept(path: Path | None, own: str) -> Row | None:
    """The row in a file, None if there is none; raises `SaccadeError` if it was made from something else."""
    if path is None or not path.is_file():
        return None
    try:
        held = json.loads(path.read_text("utf-8"))
        of, row = held["of"], held["row"]
        measures = {
            name: Measured(_number(v["mean"]), _number(v["error"]), v["n"]) for name, v in row["measures"].items()
        }
        large, signed = (tuple(_number(value) for value in each) for each in row["curve"])
        kept = Row(**{**row, "measures": measures, "curve": (large, signed), "stages": tuple(row["stages"])})
    except (ValueError, KeyError, TypeError):
        return None  # no row of this version: make it again
    if of != own:
        raise SaccadeError(
            f"Could not make a scoreboard: {path} was made from other pictures, another network or other settings; "
            "choose another folder, or remove the file."
        )
    return kept


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
