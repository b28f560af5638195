"""Adversarial weight perturbation: train where the weights themselves are a little worse."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from saccade.engine.distributed import World, sum_over_processes


@contextmanager
def worse_weights(network: nn.Module, loss: Callable[[], Tensor], *, size: float, world: World) -> Iterator[None]:
    """Every weight matrix moved by `size` times its own norm up the gradient of `loss`; put back bit by bit afterwards.

    Wu, Xia and Wang 2020 (arXiv:2004.05884): the gradient taken here and applied to the weights as they were flattens
    the loss around them, which narrows the gap between robust accuracy in training and in the test. Vectors (biases,
    norms) stay. The gradient is that of all processes together, so that their weights stay the same.
    """
    weights = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True, materialize_grads=True)
    kept = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                uphill = sum_over_processes(gradient, world)
                weight.add_(uphill * (size * weight.norm() / uphill.norm().clamp(min=1e-12)))
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
