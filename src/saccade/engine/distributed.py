"""Several processes started by `torchrun`: who am I, equal batch statistics, averaged gradients."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as shared

from saccade.engine.precision import choose_device


@dataclass(frozen=True)
class World:
    """This process among `size` processes; rank 0 writes files and talks."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the process group that torchrun's environment describes, or be alone; leave it afterwards.

    Uses nccl on CUDA (one device a process) and gloo elsewhere. torchrun limits a process to one thread; on a
    CPU the cores are shared out between the processes of this machine instead.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, choose_device(device))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and device in ("auto", "cuda"):
        torch.cuda.set_device(local)
    chosen = choose_device(device)
    if chosen.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", size))))
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: list[nn.Parameter], world: World) -> None:
    """Replace every gradient by its mean over the processes (one flat message)."""
    if world.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world.size
    for gradient, piece in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def sum_over_processes(values: Tensor, world: World) -> Tensor:
    """The sum of a tensor over the processes."""
    if world.size > 1:
        dist.all_reduce(values)
    return values


def holds_everywhere(flag: bool, world: World) -> bool:
    """Whether `flag` is true in all processes; the same answer in each."""
    return int(sum_over_processes(torch.tensor(int(flag), device=world.device), world)) == world.size


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose training statistics are those of the whole batch over all processes.

    PyTorch's SyncBatchNorm does this on accelerators only; this one also works on CPUs, so that two processes
    train as one does. Shares of the batch must be equal. Sums are taken in float32, the variance about the mean.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        processes = dist.get_world_size()
        values = input.float()
        mean: Tensor = _summed(values.mean((0, 2, 3))) / processes
        centred = values - mean.view(1, -1, 1, 1)
        variance: Tensor = _summed(centred.square().mean((0, 2, 3))) / processes
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                count = input.numel() // input.shape[1] * processes
                rate = self.momentum
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                    if rate is None:  # a plain mean of all batches
                        rate = 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, rate or 0.0)
                self.running_var.lerp_(variance * count / (count - 1), rate or 0.0)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        scaled = centred * scale.view(1, -1, 1, 1)
        if self.affine:
            scaled = scaled + self.bias.view(1, -1, 1, 1)
        return scaled.to(input.dtype)


def _summed(values: Tensor) -> Tensor:
    """The sum over the processes; gradients flow back to all of them."""
    total: Tensor = shared.all_reduce(values)  # type: ignore[no-untyped-call]
    return total


def share_batch_norm(module: nn.Module) -> None:
    """Turn every batch norm of `module` into one with statistics shared over the processes, in place."""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SharedBatchNorm


def unshare_batch_norm(module: nn.Module) -> None:
    """The inverse of `share_batch_norm`: what is left works in one process."""
    for layer in module.modules():
        if type(layer) is SharedBatchNorm:
            layer.__class__ = nn.BatchNorm2d  # type: ignore[assignment]


def spread(module: nn.Module, world: World) -> None:
    """Give all processes the weights of rank 0."""
    if world.size > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
