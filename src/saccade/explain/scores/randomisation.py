"""Parameter randomisation: a map that stays the same when the network forgets what it learned shows the picture.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292: the layers
are drawn anew one after the other, from the output towards the input, and each time the map is compared with that of
the trained network. Whether magnitudes or signed values are compared changes the verdict, so both are given; and a
method whose map has the picture as a factor keeps some likeness whatever the network (arXiv:2110.14297).
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import evaluating, random_state
from saccade.engine.seeding import mix
from saccade.errors import SaccadeError
from saccade.explain.question import Target
from saccade.explain.reduce import as_map
from saccade.explain.scores.correlation import spearman
from saccade.networks.targets import check_input

Draw = Literal["reset", "normal"]


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike the maps of the trained and the re-drawn networks are: 1 is the same, near 0 is what one wants.

    layers: the L stages, each named by the last layer drawn anew, from the output to the input. magnitude, signed:
    Spearman's correlation (seeds, L, N) of the magnitudes and of the signed values; NaN where a map was constant.
    ssim: structural similarity of the magnitudes, each map scaled to [0, 1], or None.
    """

    layers: tuple[str, ...]
    magnitude: Float[Tensor, "seeds l n"]
    signed: Float[Tensor, "seeds l n"]
    ssim: Float[Tensor, "seeds l n"] | None = None

    @property
    def curve(self) -> Float[Tensor, "2 l"]:
        """Means over seeds and pictures at each stage, of magnitudes and of signed values."""
        return torch.stack([self.magnitude.nanmean((0, 2)), self.signed.nanmean((0, 2))])

    @property
    def mean(self) -> Float[Tensor, "2 n"]:
        """Means over seeds and stages for each picture, of magnitudes and of signed values."""
        return torch.stack([self.magnitude.nanmean((0, 1)), self.signed.nanmean((0, 1))])


def randomisation(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    method: Callable[..., Tensor],
    *,
    seeds: int = 3,
    stages: int | None = None,
    draw: Draw = "reset",
    ssim: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Randomisation:
    """Run a method on a network whose layers are drawn anew one after the other, from the output towards the input.

    The layers are drawn in a copy; the network itself is not touched. All layers with parameters are drawn.

    Args:
        method: (network, pictures, target, **settings) -> (N, 3, H, W) or (N, H, W).
        seeds: how many re-drawn networks; a single one may by chance resemble the trained one.
        stages: draw the layers in so many groups of about equal size, instead of one by one: faster.
        draw: "reset" asks each layer to initialise itself (its `reset_parameters`; a layer that cannot is drawn as
            normal); "normal" draws from normal distributions with the mean and deviation of the trained weights.
        ssim: also compare by structural similarity; the pictures must be 7 x 7 or larger.

    Raises:
        SaccadeError: no layer has parameters; a number below 1; whatever the method raises.
    """
    operation = "score by randomisation"
    check_input(pictures, operation)
    if min(seeds, stages if stages is not None else 1) < 1 or draw not in ("reset", "normal"):
        raise SaccadeError(
            f"Could not {operation}: seeds={seeds}, stages={stages} and draw={draw!r} were given, expected 1 or more, "
            "and reset or normal."
        )
    if ssim and min(pictures.shape[2:]) < 7:
        raise SaccadeError(f"Could not {operation}: ssim needs pictures of 7 x 7 or more, not {pictures.shape[2:]}.")
    trained = method(network, pictures, target, **settings).detach()
    groups = list(_groups(_layers(network, pictures[:1], operation), stages))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(seeds):
        with torch.inference_mode(False):  # copies made there could not be differentiated through
            drawn = copy.deepcopy(network)
        for group in groups:
            for name in group:
                _redraw(drawn.get_submodule(name), draw, mix(seed, number, *name.encode()))
            map = method(drawn, pictures, target, **settings).detach()
            large, small = as_map(trained, "abs"), as_map(map, "abs")
            found.append(
                (
                    spearman(large, small),
                    spearman(as_map(trained), as_map(map)),
                    _ssim(large, small) if ssim else torch.empty(0),
                )
            )
    tables = [torch.stack(each).view(seeds, len(groups), -1).cpu() for each in zip(*found, strict=True)]
    return Randomisation(
        tuple(group[-1] or "network" for group in groups), tables[0], tables[1], tables[2] if ssim else None
    )


def _layers(network: nn.Module, picture: Tensor, operation: str) -> list[str]:
    """The layers with parameters of their own, in the order in which they run, the last first; one that is not called
    itself, because its owner uses its weights, runs with its owner."""
    began: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: began.append(name))
        for name, layer in network.named_modules()
    ]
    try:
        with evaluating(network):
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    first = {name: place for place, name in reversed(list(enumerate(began)))}
    found: list[tuple[int, int, str]] = []
    for number, (name, layer) in enumerate(network.named_modules()):
        if any(True for _ in layer.parameters(recurse=False)):
            owner = name
            while owner not in first:
                owner = owner.rpartition(".")[0]
            found.append((first[owner], number, name))
    if not found:
        raise SaccadeError(f"Could not {operation}: no layer of the network has parameters.")
    return [name for *_, name in sorted(found, reverse=True)]


def _groups(layers: list[str], stages: int | None) -> Iterator[list[str]]:
    count = min(len(layers), stages or len(layers))
    for stage in range(count):
        yield layers[stage * len(layers) // count : (stage + 1) * len(layers) // count]


def _redraw(layer: nn.Module, draw: Draw, key: int) -> None:
    """Draw a layer's own parameters anew; on the CPU, so that they are the same on every device."""
    with torch.inference_mode(False), torch.no_grad(), random_state():
        anew = copy.deepcopy(layer).cpu()
        torch.default_generator.manual_seed(key)
        if draw == "reset" and callable(reset := getattr(anew, "reset_parameters", None)):
            reset()
        else:
            for value in anew.parameters(recurse=False):
                if value.numel() > 1:
                    value.copy_(value.mean() + value.std() * torch.randn_like(value))
        layer.load_state_dict(anew.state_dict())


def _ssim(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    from skimage.metrics import structural_similarity as similarity

    pairs = [
        np.stack([_unit(x.double().cpu().numpy()), _unit(y.double().cpu().numpy())]) for x, y in zip(a, b, strict=True)
    ]
    return torch.tensor([similarity(*pair, data_range=1.0) for pair in pairs], dtype=torch.float64)  # type: ignore[no-untyped-call]


def _unit(values: Any) -> Any:
    span = np.ptp(values)
    return (values - values.min()) / (span if span > 0 else 1.0)
