"""What two processes do together (no test itself; started by torchrun in test_distributed.py).

Each rank writes what it found to `<folder>/<rank>.pt`.
"""

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.images import ImageSet
from saccade.engine.distributed import (
    SharedBatchNorm,
    World,
    average_gradients,
    holds_everywhere,
    joined,
    share_batch_norm,
    spread,
    sum_over_processes,
)
from saccade.engine.precision import Precision
from saccade.engine.run import Run
from saccade.networks.network import Network
from saccade.networks.tiny import TinyNet
from saccade.train.evaluate import evaluate
from saccade.train.fit import fit
from saccade.train.recipe import Recipe
from saccade.train.state import Fit

FP32 = Precision("fp32", "test")


def make_data() -> tuple[ImageSet, ImageSet]:
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (75, 12, 12, 3), generator=g, dtype=torch.uint8)
    labels = torch.randint(0, 12, (75,), generator=g)
    images = ImageSet("noise", pictures, labels, tuple(map(str, range(12))))
    return images.subset(range(56)), images.subset(range(56, 75))  # 19 to validate on: an odd number


def make_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = TinyNet(num_classes=12, widths=(8, 12), units=(1, 1))
    return Network(module, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3), architecture=("tinynet", {}))


def make_recipe(**changes: Any) -> Recipe:
    settings = {"epochs": 2, "batch_size": 16, "lr": 0.05, "flip": "random", "translate": 2, "ema": 0.5, **changes}
    return Recipe("two", "tinynet", "noise", **settings)


RECIPES = {
    "sgd": make_recipe(),
    "muon": make_recipe(optimiser="muon", muon_lr=0.02, lookahead=True, clip=1.0),
}


def make_norm(dtype: torch.dtype = torch.float32, **keywords: Any) -> tuple[nn.BatchNorm2d, Tensor, Tensor]:
    """A batch norm, a batch of 8 far from zero mean, and the weights of a loss that is linear in the output."""
    g = torch.Generator().manual_seed(1)
    norm = nn.BatchNorm2d(5, **keywords)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(5, generator=g))
    x = torch.randn(8, 5, 4, 3, generator=g) * torch.tensor([1.0, 0.1, 3, 1, 0.5]).view(1, 5, 1, 1)
    x = x + torch.tensor([0.0, 20, -5, 1, 300]).view(1, 5, 1, 1)
    return norm, x.to(dtype), torch.randn(8, 5, 4, 3, generator=g)


NORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cumulative": {"momentum": None},
    "stateless": {"track_running_stats": False},
    "fixed": {"affine": False},
    "half": {"dtype": torch.bfloat16},
}


def run_norm(norm: nn.BatchNorm2d, x: Tensor, weights: Tensor) -> dict[str, Any]:
    """Two training passes; the second one's output, gradients and statistics."""
    norm.train()
    norm(x)
    x = x.detach().requires_grad_()
    y = norm(x)
    (y.float() * weights).sum().backward()
    assert x.grad is not None
    found = {"y": y.detach(), "x": x.grad, "state": {k: v.clone() for k, v in norm.state_dict().items()}}
    return found | {"parameters": [p.grad for p in norm.parameters()]}


def share(x: Tensor, world: World) -> Tensor:
    size = len(x) // world.size
    return x[world.rank * size : (world.rank + 1) * size]


def main(folder: Path, world: World) -> dict[str, Any]:
    found: dict[str, Any] = {"rank": world.rank, "size": world.size}
    for name, keywords in NORMS.items():
        norm, x, weights = make_norm(**keywords)
        share_batch_norm(norm)
        assert type(norm) is SharedBatchNorm
        found[f"norm {name}"] = run_norm(norm, share(x, world), share(weights, world))

    parameter, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 2.0]) * (world.rank + 1)
    average_gradients([parameter, unused], world)
    found["gradient"], found["no gradient"] = parameter.grad, unused.grad
    found["sum"] = sum_over_processes(torch.tensor([1.0, world.rank]), world)
    found["holds"] = [holds_everywhere(flag, world) for flag in (True, False, world.first)]

    network = make_network(seed=world.rank)  # different weights, until rank 0's are spread
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spread(network, world)
    found["spread"] = network.state_dict()

    train, val = make_data()
    found["evaluate"] = [evaluate(make_network(), part, world=world) for part in (val, val.subset([3]))]

    for name, recipe in RECIPES.items():
        run = Run(folder / name, recipe.as_dict(), write=world.first)
        network = make_network(seed=world.rank)
        fitted = fit(network, train, recipe, val=val, run=run, world=world, precision=FP32, log_every=2)
        layers = {type(layer) for layer in [*network.modules(), *fitted.network.modules()]}
        found[name] = (fitted.network.state_dict(), fitted.history, SharedBatchNorm in layers)

    class Interrupt(BaseException):
        pass

    def interrupt(row: dict[str, Any]) -> None:
        if row["step"] == 5:  # each process stops here; the checkpoint is of step 4
            raise Interrupt

    recipe = RECIPES["sgd"]
    for callback in (interrupt, None):
        run = Run(folder / "again", recipe.as_dict(), write=world.first)
        with suppress(Interrupt):
            fitted = fit(make_network(), train, recipe, val=val, run=run, world=world, precision=FP32,
                         callback=callback, log_every=1, save_every=-1)  # fmt: skip
    found["again"] = fitted.network.state_dict()

    state_module = importlib.import_module("saccade.train.state")
    state_module.choose_precision = lambda *_: Precision("bf16" if world.first else "fp32", "made up")
    found["precision"] = Fit(make_network(), train, recipe, world=world).precision.name
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined("cpu") as world:
        torch.save(main(folder, world), folder / f"{world.rank}.pt")
