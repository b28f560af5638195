"""The loss of a batch, by what a recipe does against attacks."""

from collections.abc import Callable

import torch
from torch import Tensor

from saccade.engine.precision import Precision
from saccade.networks.network import Network
from saccade.train.adversarial import perturb
from saccade.train.ibp import interval_loss
from saccade.train.mix import mix
from saccade.train.recipe import Recipe
from saccade.train.robust import mart_loss, trades_loss


def objective(
    network: Network,
    pictures: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    precision: Precision,
    generator: torch.Generator,
    attack_steps: int,
    progress: float,
) -> Callable[[], Tensor]:
    """A function that gives the loss with the weights as they are when it is called; the pictures are perturbed now.

    attack_steps: of the search for the worst pictures. progress: the share of the run that is done.
    """

    def logits(seen: Tensor) -> Tensor:
        with precision.autocast(pictures.device):
            given: Tensor = network(seen)
        return given.float()

    if recipe.defence == "ibp":
        risen = min(1.0, progress / recipe.ramp) if recipe.ramp else 1.0

        def bounded() -> Tensor:
            with precision.autocast(pictures.device):
                weight = 1 - risen * (1 - recipe.clean_weight)
                return interval_loss(network, pictures, labels, eps=risen * recipe.eps, clean=weight)

        return bounded
    seen = pictures
    if recipe.noise:
        seen = pictures + recipe.noise * torch.randn(pictures.shape, generator=generator).to(pictures)
    if recipe.adversarial != "none":
        reference = None
        if recipe.defence == "trades":
            with torch.no_grad():
                reference = logits(pictures)
        with precision.autocast(pictures.device):
            seen = perturb(
                network,
                pictures,
                labels,
                norm=recipe.adversarial,
                eps=recipe.eps,
                steps=attack_steps,
                generator=generator,
                reference=reference,
            )
    seen, targets = mix(seen, labels, mixup=recipe.mixup, cutmix=recipe.cutmix, generator=generator)

    def loss() -> Tensor:
        given = logits(seen)
        if recipe.defence == "trades":
            return trades_loss(logits(pictures), given, labels, beta=recipe.beta)
        if recipe.defence == "mart":
            return mart_loss(logits(pictures), given, labels, beta=recipe.beta)
        return targets.loss(given, smoothing=recipe.label_smoothing)

    return loss
