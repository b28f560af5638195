"""A small training to be killed at any moment (no test itself; run by test_resume.py).

Started as a program, it reads lines "variant folder seconds calls" and trains each in a forked process, so that
PyTorch is imported once. The process is killed with SIGKILL after so many seconds, or by itself in the middle of its
n-th access to the disk (0: never). What is printed is its exit status.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.data.images import ImageSet
from saccade.engine.precision import Precision
from saccade.engine.run import Run
from saccade.networks.fast import FastNet
from saccade.networks.network import Network
from saccade.networks.tiny import TinyNet
from saccade.train.fit import Fitted, fit
from saccade.train.recipe import Recipe

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 12}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {**SHORT, "optimiser": "sgd", "flip": "random"},
    "dropout-mixed-ema": {"ema": 0.5, "mixup": 0.4, "cutmix": 1.0, "crop": 0.5, "translate": 2, "epochs": 5},
    "fast-muon-adversarial": {
        "whiten": True, "lookahead": True, "optimiser": "muon", "muon_lr": 0.05, "flip": "alternating", "cutout": 3,
        "adversarial": "linf", "eps": 0.03, "whiten_bias_epochs": 1, "label_smoothing": 0.2, "epochs": 3,
    },
    "adamw-l2-sizes": {
        "optimiser": "adamw", "lr": 0.003, "adversarial": "l2", "eps": 0.3, "attack_steps": 2, "sizes": (12, 16),
        "clip": 1.0, "patience": 2, "epochs": 4,
    },
    "free": {**SHORT, "adversarial": "linf", "eps": 0.03, "attack_steps": 2, "defence": "free"},
    "bounds": {**SHORT, "adversarial": "linf", "eps": 0.02, "defence": "ibp", "clean_weight": 0.3},
    "trades-worse-weights": {**SHORT, "adversarial": "l2", "eps": 0.3, "defence": "trades", "awp": 0.01, "ema": 0.5},
}  # fmt: skip


def prepare(variant: str) -> tuple[Network, ImageSet, ImageSet, Recipe]:
    """Network, training and validation pictures, and recipe of a variant."""
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (112, 12, 12, 3), generator=g, dtype=torch.uint8)
    labels = torch.randint(0, 3, (112,), generator=g)
    pictures[labels == 1, :6] //= 2
    pictures[labels == 2, :, 6:] //= 2
    images = ImageSet("noise", pictures, labels, ("a", "b", "c"))
    settings = {"epochs": 3, "batch_size": 8, "lr": 0.02, "flip": "none", **VARIANTS[variant]}
    recipe = Recipe(variant, "tinynet", "noise", **settings)
    torch.manual_seed(3)
    if recipe.whiten:
        module: nn.Module = FastNet(num_classes=3, widths=(8, 8, 8))
    else:
        tiny = TinyNet(num_classes=3, widths=(8, 12), units=(1, 1))
        module = nn.Sequential(nn.Dropout2d(0.2), tiny) if variant.startswith("dropout") else tiny
    network = Network(module, mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3), architecture=(variant, {}))
    return network, images.subset(range(80)), images.subset(range(80, 112)), recipe


def train(variant: str, folder: str | Path, callback: Callable[[dict[str, Any]], None] | None = None) -> Fitted:
    """Train, or go on, with a checkpoint at every second step."""
    network, images, val, recipe = prepare(variant)
    run = Run(folder, recipe.as_dict())
    precision = Precision("fp32", "test")
    return fit(
        network, images, recipe, val=val, run=run, precision=precision, callback=callback, log_every=2, save_every=-1
    )


def die_at(call: int) -> None:
    """Kill this process in the middle of its n-th access to the disk: after half of the bytes, before the rename."""
    count = 0
    write, replace = Path.write_bytes, os.replace

    def counted() -> bool:
        nonlocal count
        count += 1
        return count == call

    def half_written(path: Path, data: Any) -> int:
        if counted():
            write(path, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data)

    def replaced(source: Any, target: Any) -> None:
        if counted():
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if counted():
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes, os.replace = half_written, replaced  # type: ignore[assignment,method-assign]


def sitting(variant: str, folder: str, seconds: float, calls: int) -> int:
    """Train in a process of its own, kill it as asked, and give its exit status (-9 for a killed one)."""
    child = os.fork()
    if child == 0:
        try:
            if calls:
                die_at(calls)
            train(variant, folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)  # not yet waited for, so it is still ours
            end = float("inf")
        time.sleep(0.001)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train("plain", folder)  # what PyTorch sets up when first used is then there in every forked process
    for line in sys.stdin:
        variant, folder, seconds, calls = line.split()
        print(sitting(variant, folder, float(seconds), int(calls)), flush=True)
