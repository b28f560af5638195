"""Optimisers: PyTorch's SGD and AdamW with sensible groups, and Muon for convolutions."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.train.recipe import Recipe


def decoupled(lr: float, weight_decay: float, momentum: float, batch_size: int) -> tuple[float, float]:
    """Settings for PyTorch's SGD from a learning rate and weight decay per 1024 pictures.

    In PyTorch the step that a picture causes grows with momentum and shrinks with the batch, and weight decay is
    multiplied by the learning rate. Given per 1024 pictures and independent of each other, each can be tuned alone
    (Jordan 2024, arXiv:2404.00498, section 3; for a loss that is a mean over the batch).
    """
    kilostep = 1024 * (1 + 1 / (1 - momentum))
    return lr * batch_size / kilostep, weight_decay / lr


def orthogonalised(matrix: Float[Tensor, "rows columns"], steps: int = 3) -> Float[Tensor, "rows columns"]:
    """The matrix with its singular values drawn towards 1, by a quintic Newton-Schulz iteration.

    Coefficients of Jordan et al. 2024, "Muon: an optimizer for hidden layers": steep at zero, values end in about
    0.7 to 1.2. The iteration runs on the smaller side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised, for weights of convolutions (O, I, k, k) read as O x (I k k) matrices.

    Before each step a weight is rescaled to norm sqrt(O), so that the learning rate is relative to the weight; this
    wants a batch norm behind each convolution. Jordan et al. 2024 (the record of airbench94).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.6) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 - PyTorch's signature
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(parameter.grad)
                update = parameter.grad.add(buffer, alpha=group["momentum"])  # Nesterov
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                parameter.add_(orthogonalised(update.reshape(len(update), -1)).view(update.shape), alpha=-group["lr"])


def optimisers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe. Each group keeps its peak learning rate in "peak"; `set_rate` scales from it.

    Weight decay is left off one-dimensional parameters (biases, norms) unless `decay_all`.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    shifts = {id(layer.bias) for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)}
    convolutions = [p for p in trained if p.ndim == 4 and recipe.optimiser == "muon"]
    taken = {id(p) for p in convolutions}
    groups = []
    for matrices, is_shift in ((True, False), (False, False), (False, True)):
        chosen = [
            p for p in trained if id(p) not in taken and (p.ndim > 1) == matrices and (id(p) in shifts) == is_shift
        ]
        lr, decay = recipe.lr * (recipe.bias_lr if is_shift else 1.0), recipe.weight_decay
        if recipe.decoupled:
            lr, decay = decoupled(lr, decay, recipe.momentum, recipe.batch_size)
        if not (matrices or recipe.decay_all or recipe.decoupled):
            decay = 0.0
        if chosen:
            groups.append({"params": chosen, "lr": lr, "weight_decay": decay})
    made: list[torch.optim.Optimizer] = []
    if convolutions:
        made.append(Muon(convolutions, lr=recipe.muon_lr))
    if groups and recipe.optimiser == "adamw":
        made.append(torch.optim.AdamW(groups))
    elif groups:
        nesterov = recipe.nesterov and recipe.momentum > 0
        made.append(torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made


def set_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
