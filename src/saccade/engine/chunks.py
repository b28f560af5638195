"""How many pictures at once: as many as are fast, as long as memory allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError

FAST = {"cpu": 16, "cuda": 128}  # more at once is not faster; on a CPU fewer stay in its caches
SHARE = 0.25  # of the free memory


def rows_at_once(
    network: nn.Module, pictures: Tensor, batch_size: int | None = None, *, wanted: int | None = None, pixels: int = 0
) -> int:
    """How many rows to give to `network` at a time: `batch_size`, or as many as are fast and fit into memory.

    pictures: (N, 3, H, W), one of which is run to see what its layers hold; nothing is run for small pictures of which
    any number fits. wanted: how many there are to run at all, if these may be few. pixels: as many rows as hold these
    are fast too. Raises `SaccadeError` for a batch size below 1.
    """
    if batch_size is not None:
        if batch_size < 1:
            raise SaccadeError(f"batch_size is {batch_size}, expected 1 or more.")
        return batch_size
    fast = max(FAST.get(pictures.device.type, 32), pixels // pictures[0, 0].numel())
    fast = fast if wanted is None else max(1, min(fast, wanted))
    free = free_memory(pictures.device) * SHARE
    if 512 * pictures[0].numel() * pictures.element_size() * fast < free:  # no usual network holds so much a pixel
        return fast
    return max(1, min(fast, int(free / max(1, _held(network, pictures[:1])))))


def chunks(total: int, size: int) -> Iterator[slice]:
    """`total` rows in slices of at most `size`."""
    for first in range(0, total, size):
        yield slice(first, min(first + size, total))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; 4 GB where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 4 * 2**30


def _held(network: nn.Module, picture: Tensor) -> int:
    """Bytes of all outputs of the network's layers for a picture: about what a graph holds."""
    held = 0

    def add(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
        nonlocal held
        held += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    leaves = [layer for layer in network.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(add) for layer in leaves]
    try:
        with torch.no_grad():
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return held
