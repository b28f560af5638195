"""What the command line shows: progress with an estimate on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

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
        if "val_accuracy" in row or row["step"] == row["steps"]:
            spent, done = start[-1][0] - start[0][0], row["step"] - start[0][1]
            left = spent / done * (row["steps"] - row["step"]) if done else 0.0
            say(describe(row) + (f", about {left / 60:.0f} min to go" if left > 30 else ""))

    if not err.is_terminal:
        yield line
        return
    with _bar() as bar:
        task = bar.add_task("training", total=None)

        def update(row: dict[str, Any]) -> None:
            bar.update(task, completed=row["step"], total=row["steps"], description=f"loss {row['loss']:.3f}")
            if "val_accuracy" in row:
                bar.console.print(describe(row), markup=False, highlight=False)

        yield update


def describe(row: dict[str, Any]) -> str:
    """One row of measurements in words."""
    text = f"epoch {row['epoch'] + 1}, step {row['step']} of {row['steps']}: loss {row['loss']:.3f}"
    names = {
        "val_accuracy": "validation",
        "val_accuracy_raw": "without averaging",
        "val_accuracy_attacked": "under attack",
    }
    text += "".join(f", {name} {row[key]:.1%}" for key, name in names.items() if key in row)
    return text + (f" ({row['note']})" if "note" in row else "")


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
