"""Several networks in the place of one: what fools them all often fools another that was not asked.

An attack on an `Ensemble` or on networks `InTurn` is an attack like any other; whether it fools the network that is
meant is then asked of that one. `vicinity` makes many networks of one.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.data.images import ImageSet
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.train.fit import fit
from saccade.train.recipe import Recipe


class Ensemble(nn.Module):
    """The mean of the scores of several networks (Liu and others 2016, arXiv:1611.02770; of logits, as Dong and others
    2017, arXiv:1710.06081, found best).

    Pictures (N, C, H, W) -> scores (N, classes). All members take the same pictures and have the same classes in the
    same order; they are put into evaluation mode. Raises `SaccadeError` if there are none, or if they differ in the
    number of classes when they are asked.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise SaccadeError("Could not make one network of several: none was given.")
        self.networks = nn.ModuleList(networks)
        self.eval()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        scores = [network(x) for network in self.networks]
        if len({one.shape for one in scores}) > 1:
            numbers = ", ".join(str(one.shape[1]) for one in scores)
            raise SaccadeError(f"Could not make one network of several: they have {numbers} classes, expected as many.")
        return torch.stack(scores).mean(0)


class InTurn(Ensemble):
    """The same, but each look that needs a gradient asks the next network alone, so that many cost no more than one.

    For attacks that make all their steps, `stop=False`; looks without a gradient, which judge, ask all.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        self.looks = 0

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        network = self.networks[self.looks % len(self.networks)]
        self.looks += 1
        scores: Tensor = network(x)
        return scores


def vicinity(
    network: Network,
    images: ImageSet,
    *,
    epochs: int = 10,
    per_epoch: int = 4,
    lr: float = 0.05,
    batch_size: int = 256,
    seed: int = 0,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> list[Network]:
    """Networks from around a trained one: copies of it on a walk of SGD at a high, constant learning rate.

    LGV, Gubri and others 2022 (arXiv:2207.13129): what fools networks from all over this flat region of weights
    transfers better than what fools the one in its middle. Attack them `InTurn`:

        attack = find_attack("bim").set(eps=8 / 255, alpha=0.8 / 255, steps=50, stop=False)
        found = attack(InTurn(vicinity(network, images)), pictures, labels)

    with steps long enough that the ball's edge is reached although the networks do not all agree.

    Args:
        network: trained; it stays as it is.
        images: what it was trained on, mirrored at random here; they are resized to the network's own size.
        epochs, per_epoch: how long the walk is, and how many copies of each epoch are kept.
        lr: of SGD with momentum 0.9 and weight decay 1e-4; ten times the last rate of the training or more.
        batch_size: pictures of a step.
        seed: of their order and mirroring.
        callback: is told of each step, see `saccade.train.fit`.

    Returns:
        epochs x per_epoch networks in evaluation mode, of the device of `network`.

    Raises:
        SaccadeError: the numbers are out of range, the pictures are too few for a batch or of other classes, or the
            loss is no number any more, at too high a rate.
    """
    if epochs < 1 or per_epoch < 1 or batch_size < 1 or not lr > 0:
        raise SaccadeError(
            f"Could not walk around the network: epochs={epochs}, per_epoch={per_epoch}, batch_size={batch_size}, "
            f"lr={lr:g} were given, expected 1 or more of each and a rate above 0."
        )
    if network.classes is not None and len(images.classes) != len(network.classes):
        raise SaccadeError(
            f"Could not walk around the network: {images.name} has {len(images.classes)} classes, the network "
            f"{len(network.classes)}; expected what it was trained on."
        )
    walker, kept = copy.deepcopy(network).requires_grad_(True), []
    recipe = Recipe(
        name="vicinity",
        network=network.architecture[0] if network.architecture else "given",
        data=images.name,
        sizes=(network.input_size,) if network.input_size else (),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        nesterov=False,
        weight_decay=1e-4,
        decay_all=True,
        schedule="constant",
        warmup=0.0,
        seed=seed,
    )
    steps = len(images) // batch_size
    wanted = {-(-steps * part // per_epoch) for part in range(1, per_epoch + 1)}

    def step(row: dict[str, Any]) -> None:
        if (row["step"] - 1) % steps + 1 in wanted:
            kept.append(copy.deepcopy(walker).eval())
        if callback is not None:
            callback(row)

    fit(walker, images, recipe, log_every=1, callback=step)
    return kept
