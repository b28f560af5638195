"""What the benchmarks share: settings from the command line, results that can be added to later, tables, data.

A result file holds cells: one measured thing with its date, machine, versions and settings. A script skips the cells
that are there, so it can be stopped at any time and started again; delete a cell (or the file) to measure it anew.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from saccade.data import ImageSet, load
from saccade.engine.files import write_text
from saccade.engine.memory import keep_freed_memory
from saccade.engine.run import versions
from saccade.engine.seeding import generator

ROOT = Path(__file__).resolve().parent.parent


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; its help text is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny settings, to see that the script works")
    parser.add_argument("--folder", type=Path, help="where results go (default: this repository; smoke: a new folder)")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch (default: its own choice)")
    return parser


def prepare(options: argparse.Namespace, name: str, doc: str | None) -> "Results":
    """Set the threads and open the results of the benchmark `name`. Freed memory is kept, for all sides alike."""
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    folder: Path = options.folder or (Path(tempfile.mkdtemp(prefix="saccade-")) if options.smoke else ROOT)
    return Results(name, folder, command=(doc or "").strip().splitlines()[0])


class Results:
    """Cells of a benchmark in `benchmarks/results/<name>.json`, and the page made of them, `docs/results/<name>.md`."""

    def __init__(self, name: str, folder: Path, *, command: str) -> None:
        self.name, self.folder, self.command = name, folder, command
        self.path = folder / "benchmarks" / "results" / f"{name}.json"
        self.page = folder / "docs" / "results" / f"{name}.md"
        self.cells = self.read()

    def read(self) -> dict[str, dict[str, Any]]:
        """The cells on file."""
        return dict(json.loads(self.path.read_text("utf-8"))["cells"]) if self.path.exists() else {}

    def measure(self, key: str, settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The values of cell `key`: what is on file, or what `make` returns, which is then filed.

        The machine is part of the provenance of a cell and not of its key: one file may hold cells of several.
        """
        if key not in self.cells:
            print(f"{self.name}: {key} ...", flush=True)
            values = make()
            self.cells = self.read()  # another process may have added to it meanwhile
            self.cells[key] = {
                "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
                "machine": machine(),
                "versions": {k: v for k, v in versions().items() if k in ("saccade", "torch", "python")},
                "settings": settings,
                "values": values,
            }
            text = json.dumps({"benchmark": self.name, "command": self.command, "cells": self.cells}, indent=1)
            write_text(self.path, text + "\n")
            print(f"{self.name}: {key}: {brief(values)}", flush=True)
        values = self.cells[key]["values"]
        return dict(values)

    def find(self, prefix: str) -> list[dict[str, Any]]:
        """The values of all cells whose key begins with `prefix`."""
        return [cell["values"] for key, cell in self.cells.items() if key.startswith(prefix)]

    def write_page(self, title: str, body: str) -> None:
        """Render the page: title, what was measured where and when, then `body`."""
        places: dict[str, list[str]] = {}
        for cell in self.cells.values():
            version = cell["versions"]
            where = f"{cell['machine']}, torch {version['torch']}, Python {version['python']}"
            places.setdefault(where, []).append(cell["date"][:10])
        lines = [f"- {where}: {len(dates)} measurements, {span(dates)}" for where, dates in sorted(places.items())]
        note = (
            f"Made by `{self.command}` from `benchmarks/results/{self.name}.json`, which has every single measurement "
            "with its date, machine, versions and settings."
        )
        write_text(self.page, "\n".join([f"# {title}", "", note, "", *lines, "", body.strip(), ""]))
        print(body.strip(), f"\n\n-> {self.page}", flush=True)


def span(dates: Sequence[str]) -> str:
    """The first and the last date."""
    first, last = min(dates), max(dates)
    return first if first == last else f"{first} to {last}"


def machine() -> str:
    """Processor, its cores, the threads in use, and which of the fast instructions it has."""
    found = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    family = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.split(":", 1) for line in info.read_text("utf-8", errors="replace").splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in pairs}
        found &= set(facts.get("flags", "").split())
        if "model" in facts:
            family = f" (family {facts.get('cpu family')}, model {facts['model']})"
    instructions = ", ".join(sorted(found)) or "instructions unknown"
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{versions()['device']}{family}, {threads}, {instructions}"


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in `work`; a multiply-add is two."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


def mean_spread(values: Iterable[float], *, digits: int = 2, scale: float = 1.0) -> str:
    """Mean, standard deviation and number, as "90.71 ± 0.12 (n=5)"; a single value has no spread to show."""
    scaled = [value * scale for value in values]
    if not scaled:
        return "not measured"
    spread = f" ± {statistics.stdev(scaled):.{digits}f}" if len(scaled) > 1 else ""
    return f"{statistics.fmean(scaled):.{digits}f}{spread} (n={len(scaled)})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)


def brief(values: dict[str, Any]) -> str:
    """The plain numbers among `values`, for a line on the terminal."""
    shown = {k: f"{v:.5g}" for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return ", ".join(f"{k} {v}" for k, v in shown.items())


def pictures_of(name: str, split: str, *, val: float = 0.0, count: int = 0) -> ImageSet:
    """A data set by name, or "synthetic": `count` pictures of noise tinted by their class (a net learns them fast).

    split: "train" (what `val` leaves of it), "val" or "test".
    """
    if name != "synthetic":
        images = load(name, split=split, val=val)  # type: ignore[arg-type]  # a word of its choice
        return images.subset(torch.arange(min(count, len(images)))) if count else images
    g = generator(77, len(split))
    count = count or 128
    labels = torch.arange(count) % 10
    tint = torch.rand(10, 3, generator=generator(77)) * 128
    noise = torch.rand(count, 32, 32, 3, generator=g) * 127
    pictures = (tint[labels][:, None, None] + noise).to(torch.uint8)
    return ImageSet("synthetic", pictures, labels, tuple("abcdefghij"))
