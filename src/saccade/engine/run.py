"""The folder of a run: its recipe, its measurements line by line, its checkpoints."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from saccade.engine.files import explain_os_error, remove_leftovers, write_text
from saccade.errors import SaccadeError


class Run:
    """A folder with `recipe.json`, `metrics.jsonl`, `last.pt`, `best.safetensors` and `final.safetensors`.

    Opening a folder that holds a run of the same recipe takes that run up again; a different recipe is refused,
    so that nothing is overwritten by accident. tensorboard: also write TensorBoard events (extra `log`). write:
    False in processes that only read (all but the first of several).
    """

    def __init__(
        self, folder: str | Path, recipe: Mapping[str, Any], *, tensorboard: bool = False, write: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.metrics_path = self.folder / "metrics.jsonl"
        self.checkpoint_path = self.folder / "last.pt"
        self._writer: Any = None
        self._open(json.loads(json.dumps(dict(recipe))), write)
        if tensorboard:
            self._writer = _tensorboard_writer(self.folder)

    def _open(self, recipe: dict[str, Any], write: bool) -> None:
        path = self.folder / "recipe.json"
        if path.exists():
            try:
                before = json.loads(path.read_text("utf-8"))["recipe"]
            except (ValueError, KeyError, TypeError) as error:
                raise SaccadeError(
                    f"{path} is damaged, so the run in {self.folder} cannot be gone on with. Choose another folder "
                    "with --folder, or delete that one."
                ) from error
            changed = sorted(k for k in recipe.keys() | before.keys() if recipe.get(k) != before.get(k))
            if changed:
                first = changed[0]
                raise SaccadeError(
                    f"{self.folder} holds a run of another recipe ({first} was {before.get(first)!r}, now "
                    f"{recipe.get(first)!r}). Choose another folder with --folder, or delete that one."
                )
        elif write:
            write_text(path, json.dumps({"recipe": recipe, "versions": versions()}, indent=1) + "\n")

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoint_path.exists()

    def rewind(self, step: int) -> None:
        """Drop the measurements made after `step`, which will be made again, and what killed writers left."""
        for name in ("recipe.json", "metrics.jsonl", "last.pt", "best.safetensors", "final.safetensors"):
            remove_leftovers(self.folder / name)
        kept = [row for row in read_metrics(self.metrics_path) if row["step"] <= step]
        write_text(self.metrics_path, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row of measurements; it holds "step"."""
        try:
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(dict(row)) + "\n")
        except OSError as error:
            raise explain_os_error(error, self.metrics_path) from error
        if self._writer is not None:
            for key, value in row.items():
                if isinstance(value, int | float) and key != "step":
                    self._writer.add_scalar(key, value, row["step"])

    def close(self) -> None:
        """Finish the TensorBoard file, if any."""
        if self._writer is not None:
            self._writer.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line that a crash cut short is left out."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def versions() -> dict[str, str]:
    """What ran: versions of Python, PyTorch, this package, and the machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "saccade": version("saccade"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SaccadeError("TensorBoard is not installed; `pip install saccade[log]` brings it.") from error
    return SummaryWriter(str(folder / "tensorboard"))
