"""What a method costs: passes through the network, seconds and memory."""

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saccade.engine.guards import evaluating


@dataclass
class Cost:
    """Filled in when `counting` ends: rows of pictures that ran forwards and backwards, and seconds.

    A row that runs through a part of the network counts as that part's share of the multiplications. What a method
    computes beside the network's own layers is only in the seconds.
    """

    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0


@contextmanager
def counting(network: nn.Module, pictures: Tensor) -> Iterator[Cost]:
    """Count what runs through the network; pictures: those that will be explained, one of which is run first."""
    layers = [layer for layer in network.modules() if _weight(layer) is not None] or [network]
    cost, whole = Cost(), 0.0

    def forward(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
        if not isinstance(output, Tensor):
            return
        weight = _weight(layer)
        work = output.numel() * (weight.numel() / len(weight) if weight is not None else 1.0)
        cost.forwards += work
        if output.requires_grad:
            output.register_hook(lambda _: backward(work))  # type: ignore[no-untyped-call]

    def backward(work: float) -> None:
        cost.backwards += work

    hooks = [layer.register_forward_hook(forward) for layer in layers]
    try:
        with evaluating(network):
            network(pictures[:1])
        whole, cost.forwards = max(cost.forwards, 1.0), 0.0
        _wait(pictures)
        began = time.perf_counter()
        yield cost
        _wait(pictures)
        cost.seconds = time.perf_counter() - began
    finally:
        for hook in hooks:
            hook.remove()
        cost.forwards, cost.backwards = cost.forwards / max(whole, 1.0), cost.backwards / max(whole, 1.0)


def peak_memory(call: Callable[[], Any], device: torch.device) -> tuple[int, str]:
    """Bytes of tensors alive at once while `call` runs, at most, above what was there before; and how it was measured.

    On a GPU by its allocator; elsewhere each tensor that an operation makes is followed until it is freed (the
    operations' own scratch memory is not seen, nor weights in an order of a library's own).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before, "torch.cuda"
    with _Live() as live:
        call()
    return live.peak, "tensors followed"


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive, and keeps the largest sum."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and asking PyTorch to skip that imports all of its compiler: seconds

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if _has_storage(each)}
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if _has_storage(each) and (key := id(storage := each.untyped_storage())) not in self.known | given:
                size = storage.nbytes()
                self.known.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key, size)
        return made

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_mkldnn


def _weight(layer: nn.Module) -> Tensor | None:
    weight = layer._parameters.get("weight")
    return weight if weight is not None and weight.ndim > 1 else None


def _wait(pictures: Tensor) -> None:
    if pictures.is_cuda:
        torch.cuda.synchronize(pictures.device)
