"""A training run under way: what it holds, what a step does, and how it is written down and taken up again."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from saccade.data.batches import Batches
from saccade.data.images import ImageSet
from saccade.engine.distributed import (
    World,
    average_gradients,
    holds_everywhere,
    share_batch_norm,
    spread,
    sum_over_processes,
)
from saccade.engine.precision import Precision, choose_precision
from saccade.engine.seeding import generator
from saccade.engine.seeding import mix as mix_keys
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.train.averaging import Average, Lookahead
from saccade.train.awp import worse_weights
from saccade.train.defence import objective
from saccade.train.free import replay
from saccade.train.monitor import Monitor
from saccade.train.optimisers import optimisers, set_rate
from saccade.train.recipe import Recipe
from saccade.train.schedule import factor


class Fit:
    """A run under way: the network, its optimisers and averages, and where it stands."""

    def __init__(
        self,
        network: Network,
        train: ImageSet,
        recipe: Recipe,
        *,
        world: World,
        precision: Precision | None = None,
    ) -> None:
        self.recipe, self.world, self.device = recipe, world, world.device
        self.precision = precision or choose_precision(world.device, recipe.precision)
        if not holds_everywhere(self.precision.name == "bf16", world) and self.precision.name == "bf16":
            self.precision = Precision("fp32", "another process found bfloat16 not worth it")
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.train()
        if world.size > 1:
            share_batch_norm(self.network)
            spread(self.network, world)
        self.batches = Batches(
            train,
            batch_size=recipe.batch_size,
            augment=recipe.augment,
            fill=tuple(network.mean.flatten().tolist()),
            seed=recipe.seed,
            device=self.device,
            rank=world.rank,
            world=world.size,
        )
        self.steps = len(self.batches) * recipe.epochs
        self.optimisers = optimisers(self.network, recipe)
        decay = 0.5 ** (1 / (recipe.ema * len(self.batches))) if recipe.ema else 0.0
        self.average = Average(self.network, decay) if recipe.ema else None
        self.lookahead = Lookahead(self.network) if recipe.lookahead else None
        self.step = 0
        self.loss_sum = torch.zeros((), device=self.device)  # since the last row, read once a row
        self.loss_count = 0
        self.monitor = Monitor(recipe)
        self.replayed: Tensor | None = None  # "free": the perturbation, which goes on from batch to batch
        self.best, self.best_epoch = -1.0, -1
        self.history: list[dict[str, Any]] = []
        self.seconds, self._clock = 0.0, time.monotonic()

    def values(self) -> dict[str, Any]:
        """What training has changed: weights, averages, states of the optimisers."""
        return {
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.state() if self.average else None,
            "lookahead": self.lookahead.values if self.lookahead else None,
        }

    def restore_values(self, values: dict[str, Any]) -> None:
        """The inverse of `values`, whose tensors are the run's from then on."""
        self.network.load_state_dict(values["network"])
        for optimiser, state in zip(self.optimisers, values["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        if self.average:
            self.average.restore(values["average"])
        if self.lookahead:
            self.lookahead.values = values["lookahead"]

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return self.values() | {
            "step": self.step,
            "steps": self.steps,
            "loss": (self.loss_sum, self.loss_count),
            "monitor": self.monitor.state(),
            "replayed": self.replayed,
            "best": (self.best, self.best_epoch),
            "history": self.history,
            "seconds": self.read_clock(),
            "precision": self.precision.name,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises `SaccadeError` if it belongs to another network, recipe or data set."""
        try:
            if state["steps"] != self.steps:
                raise ValueError(f"it is of a run of {state['steps']} steps, this one has {self.steps}")
            self._restore(state)
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise SaccadeError(
                f"The checkpoint does not fit this run ({str(error).splitlines()[0]}); the network, the data or the "
                "version of Saccade may have changed since. Choose another folder for the run, or delete that one."
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        if state["precision"] != self.precision.name:
            self.precision = Precision(state["precision"], "as the run began")
        self.restore_values(state)
        self.step = state["step"]
        self.loss_sum, self.loss_count = state["loss"]
        self.monitor.restore(state["monitor"])
        self.replayed = state["replayed"]
        self.best, self.best_epoch = state["best"]
        self.history = state["history"]
        self.seconds, self._clock = state["seconds"], time.monotonic()

    def advance(self, pictures: Tensor, labels: Tensor) -> None:
        """One step of the run: learning rate, update, averages, bookkeeping."""
        set_rate(self.optimisers, factor(self.step, self.steps, self.recipe))
        self.loss_sum += self.update(pictures, labels)
        self.loss_count += 1
        if self.average:
            self.average.update(self.network)
        if self.lookahead:
            self.lookahead.update(self.network, self.step, self.steps)
        self.step += 1

    def update(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Perhaps perturb and mix the pictures, or bound their loss; update the weights. The loss, not yet read."""
        recipe = self.recipe
        torch.manual_seed(mix_keys(recipe.seed, self.step, self.world.rank))  # for dropout and the like
        noise = generator(recipe.seed, self.step, self.world.rank, 1)
        if recipe.adversarial != "none" and recipe.defence == "free":
            self.replayed, loss = replay(
                self.logits,
                self.descend,
                pictures,
                labels,
                self.replayed,
                norm=recipe.adversarial,
                eps=recipe.eps,
                replays=recipe.attack_steps,
            )
            return loss
        aim = objective(
            self.network,
            pictures,
            labels,
            recipe,
            precision=self.precision,
            generator=noise,
            attack_steps=self.monitor.attack_steps,
            progress=self.step / self.steps,
        )
        return self.descend(aim)

    def logits(self, pictures: Tensor) -> Tensor:
        """The network's logits in float32, in the precision of the run until then."""
        with self.precision.autocast(self.device):
            logits: Tensor = self.network(pictures)
        return logits.float()

    def descend(self, objective: Callable[[], Tensor]) -> Tensor:
        """Move the weights down the gradient of what `objective` gives, perhaps as it is at worse weights."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        size, world = self.recipe.awp, self.world
        with worse_weights(self.network, objective, size=size, world=world) if size else nullcontext():
            loss = objective()
            loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        average_gradients(parameters, world)
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        with self.precision.autocast(self.device):  # Muon's matrix products
            for optimiser in self.optimisers:
                optimiser.step()
        return loss.detach()

    def read_loss(self) -> float:
        """Mean loss of the steps since the last reading, over all processes; the one place that waits for the device.

        Raises `SaccadeError` if it is not finite.
        """
        total = sum_over_processes(self.loss_sum.clone(), self.world)
        loss = float(total) / self.loss_count / self.world.size
        self.loss_sum.zero_()
        self.loss_count = 0
        self.check_finite(loss)
        return loss

    def check_finite(self, loss: float) -> None:
        """Raise `SaccadeError` if `loss` is not finite."""
        if not math.isfinite(loss):
            rate = self.recipe.muon_lr if self.recipe.optimiser == "muon" else self.recipe.lr
            raise SaccadeError(
                f"The loss became {loss} by step {self.step} of {self.steps} at a peak learning rate of {rate:g}. Try "
                "a tenth of it, or a longer warm-up; the last checkpoint and best.safetensors are from before."
            )

    def read_clock(self) -> float:
        """Seconds spent so far, over all sittings."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return self.seconds

    def averaged(self) -> Network:
        """The network to use: a copy with the averaged weights, or the network itself."""
        if self.average is None:
            return self.network
        network: Network = copy.deepcopy(self.network)
        network.load_state_dict(self.average.values)
        return network
