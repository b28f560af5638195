"""What the command line shows: progress with an estimate on a terminal, plain lines elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import Tensor
from typer.core import TyperGroup

from saccade.errors import SaccadeError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
NetworkName = Annotated[str, typer.Option("--network", "-n", help="A name of `saccade models`, or a weight file.")]


class PicturesFirst(TyperGroup):
    """A group of commands of which the first is meant when none is named: `saccade caption cat.jpg` is short for
    `saccade caption pictures cat.jpg`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["pictures", *args]
        return super().parse_args(ctx, args)


out = Console()
err = Console(stderr=True, soft_wrap=True, highlight=False)


def say(sentence: str) -> None:
    """A line about what is being done; to stderr, so that stdout holds results only."""
    err.print(sentence, style="dim" if err.is_terminal else None, markup=False)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that draws a bar on a terminal and nothing elsewhere."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def training() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A callback for rows of measurements: a bar with the loss on a terminal; a line an epoch elsewhere."""
    start: list[tuple[float, int]] = []

    def line(row: dict[str, Any]) -> None:
        start.append((time.monotonic(), row["step"]))
        if _ends_epoch(row) or row["step"] == row["steps"]:
            spent, done = start[-1][0] - start[0][0], row["step"] - start[0][1]
            left = spent / done * (row["steps"] - row["step"]) if done else 0.0
            say(describe(row) + (f", about {left / 60:.0f} min to go" if left > 30 else ""))

    if not err.is_terminal:
        yield line
        return
    with _bar() as bar:
        task = bar.add_task("training", total=None)

        def update(row: dict[str, Any]) -> None:
            bar.update(task, completed=row["step"], total=row["steps"], description=_aim(row))
            if _ends_epoch(row):
                bar.console.print(describe(row), markup=False, highlight=False)

        yield update


def describe(row: dict[str, Any]) -> str:
    """One row of measurements in words."""
    text = f"epoch {row['epoch'] + 1}, step {row['step']} of {row['steps']}: {_aim(row)}"
    names = {
        "val_accuracy": "validation",
        "val_accuracy_raw": "without averaging",
        "val_accuracy_attacked": "under attack",
    }
    text += "".join(f", {name} {row[key]:.1%}" for key, name in names.items() if key in row)
    text += f", CIDEr {100 * row['val_cider']:.1f}" if "val_cider" in row else ""
    return text + (f" ({row['note']})" if "note" in row else "")


def _aim(row: dict[str, Any]) -> str:
    """What is being brought down, or up."""
    return f"loss {row['loss']:.3f}" if "loss" in row else f"reward {row['reward']:.3f}"


def _ends_epoch(row: dict[str, Any]) -> bool:
    return any(key.startswith("val_") for key in row)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )


def fail(message: str) -> None:
    """Print an error for a person and leave with status 2."""
    err.print(f"saccade: {message}", markup=False, style="red" if err.is_terminal else None)
    sys.exit(2)


def picture(name: str) -> Tensor:
    """A picture file, or the sample photograph of that name, as (3, H, W)."""
    from saccade.pictures import read, sample, sample_names

    return sample(name) if name in sample_names() and not Path(name).exists() else read(name)


def pairs(arguments: list[str]) -> dict[str, str]:
    """`--field value` and `--field=value` as a mapping."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        head = rest.pop(0)
        if not head.startswith("--"):
            raise SaccadeError(f"did not expect {head!r}; fields of the recipe are given as --field value.")
        key, equals, value = head[2:].partition("=")
        if not equals:
            if not rest:
                raise SaccadeError(f"--{key} needs a value.")
            value = rest.pop(0)
        found[key] = value
    return found


def result(values: dict[str, Any], as_json: bool) -> None:
    """Named values, one a line, or as JSON."""
    if as_json:
        typer.echo(json.dumps(values))
        return
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
        elif isinstance(value, float):
            value = f"{value:.4g}"
        typer.echo(f"{key.replace('_', ' ')}: {value}")


def entry(name: str, facts: list[str], lines: list[str]) -> None:
    """A name with its facts on one line, and further lines below."""
    out.print(f"[bold]{name}[/]  {' · '.join(facts)}", highlight=False)
    for line in lines:
        out.print(f"    {line}", style="dim", highlight=False)


def table(head: list[str], rows: list[list[str]], as_json: bool) -> None:
    """Rows under a head, or as a list of JSON objects."""
    if as_json:
        typer.echo(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
        return
    drawn = Table(*head, box=None, header_style="bold")
    for row in rows:
        drawn.add_row(*row)
    out.print(drawn)
