"""A run that is killed at any moment and started again ends with the same bits as one that was not."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from saccade.engine.checkpoint import load_checkpoint
from saccade.engine.run import read_metrics

SCRIPT = Path(__file__).with_name("killable.py")
spec = importlib.util.spec_from_file_location("killable", SCRIPT)
assert spec is not None
assert spec.loader is not None
killable = importlib.util.module_from_spec(spec)
spec.loader.exec_module(killable)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The same bits are promised for the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sit() -> Iterator[Callable[..., int]]:
    """Run one sitting of a variant in another process; gives its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def sitting(variant: str, folder: Path, *, seconds: float = 1e6, calls: int = 0) -> int:
            stdin.write(f"{variant} {folder} {seconds} {calls}\n")
            stdin.flush()
            return int(stdout.readline())

        yield sitting
        stdin.close()


def outcome(folder: Path) -> dict[str, object]:
    """Everything that a run leaves behind, without times."""
    state = load_checkpoint(folder / "last.pt")
    state.pop("seconds")
    rows = read_metrics(folder / "metrics.jsonl")
    for row in [*rows, *state["history"]]:
        row.pop("seconds")
    files = {name: (folder / name).read_bytes() for name in ("best.safetensors", "final.safetensors")}
    return {"rows": rows, "state": plain(state), "files": files, "names": sorted(p.name for p in folder.iterdir())}


def plain(value: object) -> object:
    """Tensors as bytes, so that equal means equal bits."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def same(a: dict[str, object], b: dict[str, object]) -> None:
    """Assert piece by piece, so that a failure says what differs."""
    assert a["rows"] == b["rows"]
    assert a["names"] == b["names"]
    assert a["files"] == b["files"]
    assert a["state"] == b["state"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, object], float]]:
    """The outcome of a variant without interruption (trained once, in this process), and the seconds it took."""
    known: dict[str, tuple[dict[str, object], float]] = {}

    def of(variant: str) -> tuple[dict[str, object], float]:
        if variant not in known:
            folder = tmp_path_factory.mktemp(variant)
            start = time.monotonic()
            killable.train(variant, folder)
            known[variant] = outcome(folder), time.monotonic() - start
        return known[variant]

    return of


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("variant", killable.VARIANTS)
def test_interrupted_after_every_few_rows(variant, tmp_path, unbroken):
    """Raised in the middle of the loop, at rows chosen by chance, until the run comes through."""
    rng = random.Random(variant)
    interruptions = 0
    while True:
        left = rng.randint(1, 6)
        start = load_checkpoint(tmp_path / "last.pt")["step"] if (tmp_path / "last.pt").exists() else 0

        def callback(row, last=start + left):
            nonlocal interruptions
            if row["step"] >= last:
                interruptions += 1
                raise Interrupt

        try:
            fitted = killable.train(variant, tmp_path, callback)
            break
        except Interrupt:
            pass
    assert interruptions > 1
    expected, _ = unbroken(variant)
    same(outcome(tmp_path), expected)
    assert [row["step"] for row in fitted.history] == [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")]


def test_the_variants_do_what_they_are_for(unbroken):
    """Or the tests here would prove less than they say."""
    rows = {variant: unbroken(variant)[0]["rows"] for variant in killable.VARIANTS}
    assert len({json.dumps(part) for part in rows.values()}) == len(rows)
    assert "val_accuracy_raw" in rows["dropout-mixed-ema"][-1]
    assert "val_accuracy_attacked" in rows["fast-muon-adversarial"][-1]
    steps = [row["step"] for row in rows["plain"]]
    assert steps == sorted(set(steps))
    assert any(step % 6 for step in steps)  # rows, and so checkpoints, in the middle of an epoch


@needs_fork
def test_killed_in_the_middle_of_any_write(tmp_path, sit, unbroken):
    """SIGKILL after half of the bytes, before or after each rename: the n-th access to the disk, for each n."""
    expected, _ = unbroken("plain")
    calls = 1
    while True:
        folder = tmp_path / str(calls)
        code = sit("plain", folder, calls=calls)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert sit("plain", folder) == 0
        same(outcome(folder), expected)
        calls += 7 if calls > 20 else 2 if calls > 8 else 1
    assert calls > 25


@needs_fork
@pytest.mark.parametrize(("variant", "kills"), [("dropout-mixed-ema", 20), ("fast-muon-adversarial", 5)])
def test_killed_at_random_moments(variant, kills, tmp_path, sit, unbroken):
    """kill -9 again and again, wherever it hits."""
    expected, seconds = unbroken(variant)
    rng = random.Random(0)
    folder, done, inside, reached = tmp_path / "0", 0, 0, 0
    longest = 1.7 * seconds / kills
    while done < kills:
        code = sit(variant, folder, seconds=rng.uniform(0, longest))
        if code == 0:  # came through before all kills were spent: compare, and begin another
            same(outcome(folder), expected)
            folder, reached = tmp_path / str(done), 0
            continue
        assert code == -signal.SIGKILL
        done += 1
        step = load_checkpoint(folder / "last.pt")["step"] if (folder / "last.pt").exists() else 0
        inside += step % 10 != 0
        longest *= 1 if step > reached else 1.5  # a machine that needs longer to begin than this one
        reached = step
    assert sit(variant, folder) == 0
    same(outcome(folder), expected)
    assert inside > 0  # some were taken up in the middle of an epoch
