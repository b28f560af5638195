"""Which arithmetic to train in: decided by timing and checking, not by reading processor flags.

bfloat16 doubles the speed of some processors and slows others a hundredfold, and neither the flags nor the
name of a processor say reliably which. So one convolution is timed and compared at the start (well under a
second).
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.errors import SaccadeError

Choice = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Precision:
    """The precision of a run and, in a sentence, why."""

    name: Literal["fp32", "bf16"]
    reason: str

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """A context in which the forward pass runs; weights stay in float32 either way."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.name == "bf16")


def choose_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" takes CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SaccadeError(f"Device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def choose_precision(device: torch.device, wanted: str = "auto") -> Precision:
    """fp32 or bf16 for training on `device`; "auto" times one convolution, forward and backward, in both."""
    if wanted == "fp32" or wanted == "bf16":
        return Precision("bf16" if wanted == "bf16" else "fp32", "as asked")
    if wanted != "auto":
        raise SaccadeError(f"Precision must be auto, fp32 or bf16, got {wanted!r}.")
    if device.type == "mps":
        return Precision("fp32", "bfloat16 is not used on MPS")
    with torch.inference_mode(False), torch.enable_grad():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pictures, weight = torch.randn(16, 64, 16, 16), torch.randn(64, 64, 3, 3) / 24
        pictures = pictures.to(device, memory_format=torch.channels_last)
        weight = weight.to(device, memory_format=torch.channels_last).requires_grad_()
        full_time, full = _time_convolution(pictures, weight, enabled=False)
        half_time, half = _time_convolution(pictures, weight, enabled=True)
    error = float((half - full).norm() / full.norm())
    speed = full_time / half_time
    if not error < 0.02:  # so that NaN counts as wrong
        return Precision("fp32", f"bfloat16 is off by {error:.0%} in a test convolution")
    if speed < 1.15:
        return Precision("fp32", f"bfloat16 has {speed:.2f} times the speed of float32 in a test convolution")
    return Precision("bf16", f"{speed:.1f} times as fast as float32 in a test convolution, {error:.1%} apart")


def _time_convolution(pictures: Tensor, weight: Tensor, *, enabled: bool) -> tuple[float, Tensor]:
    """Best of three of a forward and backward pass; stops after the first that takes over a tenth of a second."""
    best, gradient = float("inf"), weight
    for turn in range(4):
        _synchronise(pictures.device)
        start = time.perf_counter()
        with torch.autocast(pictures.device.type, dtype=torch.bfloat16, enabled=enabled):
            scores = F.conv2d(pictures, weight, padding=1)
        (gradient,) = torch.autograd.grad(scores.float().square().sum(), weight)
        _synchronise(pictures.device)
        spent = time.perf_counter() - start
        if turn or spent > 0.1:  # the first pass also pays for set-up
            best = min(best, spent)
        if spent > 0.1:
            break
    return best, gradient.float()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
