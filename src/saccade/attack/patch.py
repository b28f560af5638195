"""Adversarial patch: a sticker that makes the network say a class wherever it lies in whatever picture."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attack.engine import Result, searching
from saccade.attack.losses import cross_entropy
from saccade.attack.question import check_settings
from saccade.engine.chunks import chunks
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "make an adversarial patch"


@dataclass(frozen=True)
class Patch:
    """A square picture in [0, 1], of which the inscribed circle counts, and what it does where it lies at random.

    seen: to the pictures it was made with. unseen: to others, None if none were given.
    """

    patch: Float[Tensor, "c side side"]
    seen: Result
    unseen: Result | None


def adversarial_patch(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    target: Target,
    unseen: tuple[Tensor, Target] | None = None,
    side: int | None = None,
    scales: tuple[float, float] = (0.3, 0.6),
    degrees: float = 22.5,
    epochs: int = 20,
    at_once: int = 16,
    lr: float = 0.05,
    seed: int = 0,
    batch_size: int | None = None,
) -> Patch:
    """A round patch that makes the network say `target`, trained over pictures, places, scales and rotations.

    Each time a picture is seen the patch lies elsewhere in it, wholly inside. Adam climbs the log-probability of the
    target. Brown and others 2017, arXiv:1712.09665.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network; the patch is made with these.
        labels: the true class of each picture.
        target: the class to be said.
        unseen: other pictures and their labels, on which the patch is judged, each at one random place.
        side: of the patch in pixels; by default that of the pictures' shorter side.
        scales: the least and the greatest diameter of the circle in the picture, as shares of its shorter side.
        degrees: the largest rotation, either way.
        epochs: times every picture is gone through.
        at_once: pictures a step.
        lr: of Adam, about the change of every pixel by a step.
        seed: of all random numbers.
        batch_size: the most pictures the network is given at once; by default as many as are fast and fit into memory.

    Returns:
        `Patch`; the norm of its results is l0, the values that changed.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, epochs=epochs, degrees=degrees)
    check_settings(OPERATION, 1, at_once=at_once)
    if not 0 < scales[0] <= scales[1] <= 1 or not lr > 0 or (side is not None and side < 1):
        raise SaccadeError(
            f"Could not {OPERATION}: scales, lr and side are {scales}, {lr} and {side}, expected rising shares in "
            "(0, 1], a number above 0, and 1 or more."
        )
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        targets=target,
        norm="l0",
        loss=cross_entropy,
        batch_size=batch_size,
    ) as search:
        x = search.x
        side = min(x.shape[-2:]) if side is None else side
        patch = x.new_full((x.shape[1], side, side), 0.5)
        mean, square = torch.zeros_like(patch), torch.zeros_like(patch)
        step = 0
        for epoch in range(epochs):
            drawn = generator(seed, epoch)
            order = torch.randperm(len(x), generator=drawn)
            for part in chunks(len(order), at_once):
                rows, step = order[part].to(x.device), step + 1
                theta = places(len(rows), x.shape, scales, degrees, drawn).to(x)
                with torch.enable_grad():
                    leaf = patch.clone().requires_grad_()
                    z = pasted(x[rows], leaf, theta)
                look = search.look(z.detach(), rows)
                (gradient,) = torch.autograd.grad(z, leaf, look.gradient / len(rows))  # the chain rule
                mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
                change = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
                patch = (patch + lr * change).clamp(0, 1)
    judge = partial(patched, network, patch=patch, target=target, scales=scales, degrees=degrees, batch_size=batch_size)
    other = None if unseen is None else judge(*unseen, seed=seed + 2)
    return Patch(patch, judge(pictures, labels, seed=seed + 1), other)


def patched(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    patch: Float[Tensor, "c side side"],
    target: Target,
    scales: tuple[float, float] = (0.3, 0.6),
    degrees: float = 22.5,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """What a patch does at one random place in each picture that the network does not take for the target anyway.

    Arguments and errors as of `adversarial_patch`.
    """
    with searching(
        network, pictures, labels, operation=OPERATION, targets=target, norm="l0", batch_size=batch_size
    ) as search:
        theta = places(len(search.x), search.x.shape, scales, degrees, generator(seed)).to(search.x)
        rows = search.active
        if len(rows):
            z = pasted(search.x[rows], patch.to(search.x), theta[rows])
            search.offer(z, rows, search.ask(z, rows))
        return search.result()


def places(
    count: int, shape: torch.Size, scales: tuple[float, float], degrees: float, drawn: torch.Generator
) -> Float[Tensor, "count 2 3"]:
    """Where a patch lies in each of `count` pictures: the maps from their coordinates to its, both in [-1, 1].

    Diameter, rotation and the place inside the picture are uniform.
    """
    height, width = shape[-2:]
    u = torch.rand(count, 4, generator=drawn, dtype=torch.float64) * 2 - 1
    radius = (sum(scales) + u[:, 0] * (scales[1] - scales[0])) / 4 * min(height, width)
    turn = u[:, 1] * math.radians(degrees)
    across, down = u[:, 2] * (width / 2 - radius), u[:, 3] * (height / 2 - radius)
    cos, sin = turn.cos() / radius, turn.sin() / radius
    rows = [
        torch.stack([cos * width / 2, -sin * height / 2, sin * down - cos * across], 1),
        torch.stack([sin * width / 2, cos * height / 2, -sin * across - cos * down], 1),
    ]
    return torch.stack(rows, 1)


def pasted(
    x: Float[Tensor, "m c h w"], patch: Float[Tensor, "c side side"], theta: Float[Tensor, "m 2 3"]
) -> Float[Tensor, "m c h w"]:
    """Pictures with the circle of a patch on each, bilinear; differentiable by the patch."""
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    lying = F.grid_sample(
        patch.expand(len(x), *patch.shape), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = (grid.square().sum(3) <= 1)[:, None]
    return torch.where(inside, lying, x)
