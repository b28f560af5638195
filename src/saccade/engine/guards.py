"""Leave no trace: states of a network and of the random generators that are put back afterwards."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients into parameters; all modes and flags are put back, also after an error."""
    modes = [(layer, layer.training) for layer in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        module.eval()
        module.requires_grad_(False)
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """`frozen`, and with gradients on whatever is turned off around it: for derivatives by the pictures."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen(module))
        if any(isinstance(layer, nn.RNNBase) for layer in module.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its LSTM has no gradient in eval mode
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without a graph; every layer's mode is put back, also after an error."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextmanager
def output_to_error() -> Iterator[None]:
    """What native code writes to the standard output of the process goes to its standard error for the time.

    For libraries that print of their own accord: somebody may be reading JSON there.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def random_state() -> Iterator[None]:
    """Put the global generators of PyTorch (CPU and the current CUDA device) back afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
