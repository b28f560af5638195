"""What a scoreboard holds, and how it reads: tables, contradictions between the measures, and no sum of them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from saccade.explain.reduce import How
from saccade.explain.scores.correlation import kendall

Better = Literal["low", "high"]


@dataclass(frozen=True)
class Measured:
    """Mean over pictures, its standard error (NaN for one picture), and over how many: those where it is defined."""

    mean: float
    error: float
    n: int


@dataclass(frozen=True)
class Row:
    """One method.

    control: it looks at no network. how: how its colours were made a map. measures: by the names in
    `Scoreboard.better`. curve: mean rank correlation (magnitudes, signed) with the maps of networks re-drawn down to
    each of `stages`. forwards, backwards: rows of pictures through the network, for one picture. seconds: for one
    picture. memory: peak bytes for one picture. not_finite, constant: pictures with such maps. note: what its user
    must know. failed: why it could not run, or empty.
    """

    name: str
    title: str
    control: bool
    how: How
    measures: dict[str, Measured]
    stages: tuple[str, ...] = ()
    curve: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0
    memory: int = 0
    memory_by: str = ""
    not_finite: int = 0
    constant: int = 0
    note: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Scoreboard:
    """rows: the methods in the order asked for, then the controls. given, correct, scored: numbers of pictures.
    accuracy: of the network on the pictures given. better: each measure, and which of its values are good. settings:
    all that the numbers depend on."""

    rows: tuple[Row, ...]
    given: int
    correct: int
    scored: int
    better: dict[str, Better]
    settings: dict[str, Any]

    @property
    def accuracy(self) -> float:
        return self.correct / self.given

    def agreement(self) -> dict[tuple[str, str], float]:
        """Kendall's tau of each two measures' rankings of the rows that both score: 1 same, -1 reversed."""
        found = {}
        names = list(self.better)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                both = [row.measures for row in self.rows if one in row.measures and other in row.measures]
                found[one, other] = kendall(
                    [self._goodness(one, each) for each in both], [self._goodness(other, each) for each in both]
                )
        return found

    def flips(self) -> list[str]:
        """Sentences: what is best at what, which rankings contradict most, and which methods no control is below."""
        said = []
        ranked = {name: self._ranked(name) for name in self.better}
        ranked = {name: rows for name, rows in ranked.items() if rows}
        best: dict[str, list[str]] = {}
        for measure, rows in ranked.items():
            for row in rows:
                if self._goodness(measure, row.measures) == self._goodness(measure, rows[0].measures):
                    best.setdefault(row.title, []).append(measure)
        said.append(
            "Best: " + "; ".join(f"{title} at {', '.join(measures)}" for title, measures in best.items()) + "."
            if len(best) > 1
            else f"{next(iter(best), 'Nothing')} is best at every measure."
        )
        taus = {pair: tau for pair, tau in self.agreement().items() if not math.isnan(tau)}
        if taus:
            (one, other), tau = min(taus.items(), key=lambda each: each[1])
            said.append(
                f"The rankings flip most between {one} and {other}: Kendall's tau {tau:.2f}; "
                f"{sum(tau < 0 for tau in taus.values())} of {len(taus)} pairs of measures rank the maps more "
                "contrary than alike."
            )
        for measure, rows in ranked.items():
            methods = [row for row in rows if not row.control]
            ahead = []
            for control in (row for row in rows if row.control):
                level = self._goodness(measure, control.measures)
                count = sum(self._goodness(measure, row.measures) <= level for row in methods)
                if count:
                    ahead.append(f"{control.title} is as good as or better than {count} of {len(methods)} methods")
            if ahead:
                said.append(f"{measure}: {'; '.join(ahead)}.")
        return said

    def markdown(self) -> str:
        """The board as Markdown tables, with all that one must know to read it."""
        lines = self._heading()
        measures = [name for name in [*self.better, "completeness"] if any(name in row.measures for row in self.rows)]
        counts = {name: max(row.measures[name].n for row in self.rows if name in row.measures) for name in measures}
        best = {name: self._ranked(name)[0].measures[name].mean for name in measures if name in self.better}
        heads = [f"{name}, {self.better.get(name, 'low')}, n={counts[name]}" for name in measures]
        table = [["map", *heads, "NaN maps", "constant"]]
        for row in self.rows:
            if not row.failed:
                cells = [_cell(row.measures.get(name), counts[name], best.get(name)) for name in measures]
                table.append([row.title, *cells, str(row.not_finite), str(row.constant)])
        lines += [*_table(table), ""]
        lines += [f"- {said}" for said in self.flips()]
        lines += [f"- {row.title} could not run: {row.failed}" for row in self.rows if row.failed]
        lines += [f"- {row.title}: {row.note}" for row in self.rows if row.note and not row.failed]
        lines += ["", "Cost, for one picture:", ""]
        table = [["map", "colours", "forward rows", "backward rows", "ms", "peak MB"]]
        for row in self.rows:
            if not row.failed:
                passes = [_rows(row.forwards), _rows(row.backwards)]
                table.append([row.title, row.how, *passes, f"{1000 * row.seconds:.3g}", f"{row.memory / 2**20:.3g}"])
        lines += [*_table(table), ""]
        stages = next((row.stages for row in self.rows if row.stages), ())
        if stages:
            said = "Rank correlation with the map of a network drawn anew from the output down to a layer"
            lines += [f"{said} (magnitudes / signed):", ""]
            table = [["map", *stages]]
            for row in self.rows:
                if row.stages:
                    pairs = zip(*row.curve, strict=True)
                    table.append([row.title, *(f"{large:.2f} / {signed:.2f}" for large, signed in pairs)])
            lines += [*_table(table), ""]
        names = [name for name in measures if name in self.better]
        lines += ["Agreement of the rankings, Kendall's tau, controls included:", ""]
        taus = self.agreement()
        table = [["", *names[1:]]]
        for i, one in enumerate(names[:-1]):
            table.append([one, *("" if j <= i else f"{taus[one, names[j]]:.2f}" for j in range(1, len(names)))])
        return "\n".join([*lines, *_table(table)]) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold; what is not finite is None."""
        found = {
            "given": self.given,
            "correct": self.correct,
            "scored": self.scored,
            "accuracy": self.accuracy,
            "better": self.better,
            "settings": self.settings,
            "rows": [asdict(row) for row in self.rows],
            "agreement": [[one, other, tau] for (one, other), tau in self.agreement().items()],
            "flips": self.flips(),
        }
        finite: dict[str, Any] = plain(found)
        return finite

    def _goodness(self, measure: str, measures: Mapping[str, Measured]) -> float:
        mean = measures[measure].mean
        return -mean if self.better[measure] == "low" else mean

    def _ranked(self, measure: str) -> list[Row]:
        rows = [row for row in self.rows if measure in row.measures]
        return sorted(rows, key=lambda row: -self._goodness(measure, row.measures))

    def _heading(self) -> list[str]:
        s = self.settings
        which = "all of them" if s["all_pictures"] else "those that it classifies correctly"
        followed = "softmax probability" if s["score"] == "probability" else "raw score"
        memory = ", ".join(sorted({row.memory_by for row in self.rows if row.memory_by}))
        return [
            f"The network classifies {self.correct} of {self.given} pictures correctly ({100 * self.accuracy:.1f} %); "
            f"scored are {which}, n={self.scored}; explained is the label. Mean ± standard error over the pictures; "
            "differences of less than about two standard errors say nothing. In bold the best of a column. There is no "
            "sum of the columns: they ask different things, and each has a bias (a constant map is best at "
            "sensitivity, ROAD favours smooth maps, those with the picture as a factor change less with the network).",
            "",
            f"Deletion, insertion and ROAD: area below the {followed}; deletion and insertion in {s['steps']} steps, "
            "most relevant first (insertion is deletion of the least relevant first, read backwards). Randomisation: "
            f"Spearman's correlation with the maps of networks drawn anew, {s['redraws']} times. Sensitivity: radius "
            "0.02, 10 samples, relative. Infidelity: of the raw score, squares, optimally scaled. Completeness: the "
            "gap as a share of what the values should sum to, of methods that promise it. Peak memory of one picture: "
            f"{memory}. {s['pictures']}, on {s['device']}, seed {s['seed']}.",
            "",
        ]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(count: float) -> str:
    return f"{count:.4g}" if count >= 0.01 or count == 0 else "< 0.01"


def _cell(value: Measured | None, usual: int, best: float | None) -> str:
    if value is None:
        return "–"
    mean = f"{value.mean:.3g}" if abs(value.mean) >= 10 else f"{value.mean:.3f}"
    mean = f"**{mean}**" if best is not None and value.mean == best else mean
    error = "" if math.isnan(value.error) else f" ± {value.error:.2g}"
    return mean + error + ("" if value.n == usual else f" (n={value.n})")


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]
