"""The one loop of all attacks that climb a loss by its gradient within a ball: FGSM, PGD, and what was made of them.

`saccade.attack.attacks` names them all; each is this function with other settings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attack.balls import Ball, Norm
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.losses import Loss, find_loss
from saccade.attack.question import Budget, per_picture
from saccade.attack.spread import Patchwise, spread
from saccade.attack.views import Repeats, View, chained
from saccade.engine.seeding import generator, mix
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

EPS: dict[str, float] = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
"""The budget where none is given: those that CIFAR-10 is usually judged at."""

_START, _STEP, _NEAR = range(3)  # what random numbers are for


def gradient_attack(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    alpha: Budget | None = None,
    stride: float = 2.5,
    steps: int = 10,
    start: str = "random",
    restarts: int = 1,
    loss: str | Loss = "ce",
    stop: bool = True,
    momentum: float = 0.0,
    nesterov: bool = False,
    views: Sequence[View] = (),
    pooled: bool = False,
    neighbours: int = 0,
    reach: float = 1.5,
    kernel: Float[Tensor, "k k"] | None = None,
    patchwise: Patchwise | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    name: str = "PGD",
) -> Result:
    """Projected gradient ascent on a loss, within `eps` of each picture and within [0, 1].

    Each step adds `alpha` times the sign of the gradient (linf), the gradient at a length of `alpha` (l2), or a change
    of that length on the steepest values alone (l1), and projects exactly onto the ball and the box at once. Madry and
    others 2018, arXiv:1706.06083.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: "linf", "l2" or "l1".
        eps: the radius of the ball, one or one for each picture, in pixel units; see `EPS`.
        alpha: the length of a step, likewise; by default stride * eps / steps.
        stride: how far all steps reach together, in units of eps.
        steps: of each start.
        start: "random", uniform in the ball; "signs", eps/2 along random signs; "near", Gaussian noise of deviation
            0.001; or "picture".
        restarts: how many starts; pictures that are fooled leave.
        loss: see `LOSSES`, or a function.
        stop: a picture leaves as soon as it fools the network. False makes all steps, as is wanted of a picture that
            shall fool other networks too, and judges the last point.
        momentum: the share of the past gradients, scaled to a mean magnitude of 1, that is kept (arXiv:1710.06081).
        nesterov: take the gradient where the momentum leads (arXiv:1908.06281).
        views: what the network is shown in place of a point, see `saccade.attack.views`.
        pooled: the loss of the mean probabilities over the views, instead of the mean loss.
        neighbours: how many points around the last one correct the gradient's variance (arXiv:2103.15571).
        reach: how far these lie, uniformly in each value, in units of eps.
        kernel: smooths the gradient of each channel (arXiv:1904.02884).
        patchwise: amplified steps whose excess over eps goes to the pixels around; for linf alone.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.
        name: of the attack, for messages.

    Returns:
        `Result`; its `loss` is the one attacked.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    operation = f"attack with {name}"
    _check(operation, locals())
    repeats = [isinstance(view, Repeats) for view in views]
    with searching(
        network,
        pictures,
        labels,
        operation=operation,
        targets=targets,
        norm=norm,
        loss=find_loss(loss),
        mask=mask,
        batch_size=batch_size,
        random=any(repeats),
    ) as search:
        radius = per_picture(EPS[norm] if eps is None else eps, search.x, "eps", operation)
        length = stride * radius / max(steps, 1) if alpha is None else per_picture(alpha, search.x, "alpha", operation)
        at_point = not nesterov and all(repeats)  # the gradient's scores are those of the point itself
        for restart in range(restarts):
            rows = search.active
            if len(rows) == 0:
                break
            where, a = search.ball(rows, radius), length[rows]
            z = STARTS[start](where, mix(seed, restart, _START))
            velocity = torch.zeros_like(z) if momentum else None
            variance = torch.zeros_like(z) if neighbours else None
            spent = torch.zeros_like(z) if patchwise else None
            for step in range(steps):
                key = mix(seed, restart, _STEP, step)
                ahead = z if velocity is None or not nesterov else z + momentum * a * velocity
                shown = chained(views, key) if views else None
                look = search.look(ahead, rows, views=shown, pooled=pooled, stop=stop and at_point, seed=key)
                gradient = look.gradient
                if stop:
                    scores = look.scores if at_point else search.ask(z, rows)
                    on = ~search.offer(z, rows, scores)
                    rows, where, z, a, gradient, velocity, variance, spent = kept(
                        on, rows, where, z, a, gradient, velocity, variance, spent
                    )
                    if len(rows) == 0:
                        break
                if variance is not None:
                    corrected = gradient + variance
                    variance = _around(search, z, rows, reach * where.eps, neighbours, mix(key, _NEAR)) - gradient
                    gradient = corrected
                if kernel is not None:
                    gradient = spread(gradient, kernel)
                if velocity is not None:
                    gradient = velocity = momentum * velocity + _scaled(gradient)
                if patchwise is None or spent is None:
                    z = where.climb(z, gradient, a)
                else:
                    z, spent = patchwise(where, z, a, gradient, spent)
            if len(rows):
                search.offer(z, rows, search.ask(z, rows))
        return search.result()


def _signs(where: Ball, seed: int) -> Tensor:
    """eps / 2 along the signs of normal numbers (arXiv:1705.07204)."""
    drawn = torch.randn(where.x.shape[1:], generator=generator(seed), dtype=torch.float64)
    return where.project(where.x + where.eps / 2 * drawn.sign().to(where.x))


def _near(where: Ball, seed: int) -> Tensor:
    """Gaussian noise of deviation 0.001 (arXiv:1901.08573)."""
    drawn = torch.randn(where.x.shape[1:], generator=generator(seed), dtype=torch.float64)
    return where.project(where.x + 0.001 * drawn.to(where.x))


STARTS: dict[str, Callable[[Ball, int], Tensor]] = {
    "random": lambda where, seed: where.random(seed),
    "signs": _signs,
    "near": _near,
    "picture": lambda where, seed: where.x.clone(),
}


def _around(
    search: Search, z: Float[Tensor, "m c h w"], rows: Tensor, reach: Float[Tensor, "m 1 1 1"], count: int, seed: int
) -> Float[Tensor, "m c h w"]:
    """The mean gradient at `count` points drawn uniformly, in each value, up to `reach` from `z`."""
    total = torch.zeros_like(z)
    for i in range(count):
        drawn = torch.rand(z.shape[1:], generator=generator(seed, i), dtype=torch.float64) * 2 - 1
        total += search.look(z + reach * drawn.to(z), rows, seed=seed).gradient
    return total / count


def _scaled(gradient: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
    """Each gradient at a mean magnitude of 1; one that is zero stays so."""
    mean = gradient.abs().mean((1, 2, 3), keepdim=True)
    return gradient / mean.where(mean > 0, 1)


def _check(operation: str, settings: dict[str, Any]) -> None:
    """Raise `SaccadeError` for settings out of range."""
    for key, choices in (("start", STARTS), ("norm", EPS)):
        if settings[key] not in choices:
            given = f"{key} is {settings[key]!r}"
            raise SaccadeError(f"Could not {operation}: {given}, expected one of {', '.join(choices)}.")
    for key, least in (("steps", 0), ("restarts", 1), ("neighbours", 0), ("stride", 0), ("momentum", 0), ("reach", 0)):
        if not least <= settings[key] < float("inf"):
            raise SaccadeError(f"Could not {operation}: {key} is {settings[key]}, expected {least} or more.")
    if settings["patchwise"] and settings["norm"] != "linf":
        raise SaccadeError(f"Could not {operation}: patchwise is for linf, the norm is {settings['norm']!r}.")
