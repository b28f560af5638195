"""SPSA and NES: gradients estimated from pairs of scores, for networks that only answer."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.attack.balls import Norm
from saccade.attack.candidates import ask_all, portions, values_of, widen
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import Loss, find_loss
from saccade.attack.question import Budget, check_settings, per_picture
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

Draw = Callable[[torch.Size, torch.Generator], Tensor]
"""Directions (C, H, W) whose entries are independent, of mean 0 and variance 1."""


def spsa(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    steps: int = 100,
    samples: int = 128,
    delta: float = 0.01,
    lr: float = 0.01,
    loss: str | Loss = "margin",
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """Adam up a gradient that is estimated along random signs, projected onto the ball.

    Simultaneous perturbation stochastic approximation, Spall 1992; as an attack Uesato and others 2018,
    arXiv:1802.05666. A step costs 2 * `samples` + 1 queries of each picture that still stands.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: "linf", "l2" or "l1".
        eps: the radius of the ball, one or one for each picture, in pixel units; by default 8/255, 0.5 or 12.
        steps: gradients estimated.
        samples: random directions, each asked about on both sides.
        delta: how far on each side, in pixel units; what is asked about may leave [0, 1] by as much.
        lr: of Adam, about the change of every pixel by a step.
        loss: see `LOSSES`, or a function.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most points at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `backwards` are 0.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    operation = "attack with SPSA"
    check_settings(operation, 0, steps=steps)
    _check_estimate(operation, samples, delta, lr)
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
    ) as search:
        widen(search, batch_size)
        radius = per_picture(EPS.get(norm, 0) if eps is None else eps, search.x, "eps", operation)
        rows = search.active
        where, z = search.ball(rows, radius), search.x[rows]
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, steps + 1):
            if len(rows) == 0:
                break
            drawn = generator(seed, step)
            gradient = estimated_gradient(search, z, rows, samples=samples, delta=delta, draw=signs, drawn=drawn)
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
            change = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            z = where.project(z + lr * change)
            on = ~search.offer(z, rows, search.ask(z, rows))
            rows, where, z, mean, square = kept(on, rows, where, z, mean, square)
        return search.result()


def nes(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "linf",
    eps: Budget | None = None,
    steps: int = 100,
    samples: int = 50,
    delta: float = 0.01,
    stride: float = 0.1,
    loss: str | Loss = "margin",
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """PGD up a gradient that is estimated along random normal directions (natural evolution strategies).

    Ilyas and others 2018, arXiv:1804.08598. A step costs 2 * `samples` + 1 queries of each picture that still stands.

    Args:
        network, pictures, labels, targets, norm, eps, steps, samples, delta, loss, mask, seed, batch_size: as in
            `spsa`; `delta` is the standard deviation of each pixel of what is asked about.
        stride: the length of a step as a share of `eps`.

    Returns:
        `Result`; its `backwards` are 0.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    operation = "attack with NES"
    check_settings(operation, 0, steps=steps)
    _check_estimate(operation, samples, delta, stride)
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
    ) as search:
        widen(search, batch_size)
        radius = per_picture(EPS.get(norm, 0) if eps is None else eps, search.x, "eps", operation)
        rows = search.active
        where, z = search.ball(rows, radius), search.x[rows]
        for step in range(1, steps + 1):
            if len(rows) == 0:
                break
            drawn = generator(seed, step)
            gradient = estimated_gradient(search, z, rows, samples=samples, delta=delta, draw=normals, drawn=drawn)
            z = where.climb(z, gradient, stride * where.eps)
            on = ~search.offer(z, rows, search.ask(z, rows))
            rows, where, z = kept(on, rows, where, z)
        return search.result()


def estimated_gradient(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    *,
    samples: int,
    delta: float,
    draw: Draw,
    drawn: torch.Generator,
) -> Float[Tensor, "m c h w"]:
    """The mean of (loss(z + delta v) - loss(z - delta v)) / (2 delta) v over directions v, the same for all pictures.

    Its expectation is the gradient of a linear loss, and of any the gradient up to an error of order delta^2. Outside
    the mask of the search it is zero, and nothing there is touched.
    """
    total = torch.zeros_like(z)
    for part in portions(search, torch.cat([rows, rows]), samples):
        v = torch.stack([draw(z.shape[1:], drawn) for _ in range(part.stop - part.start)]).to(z)[None]
        if search.mask is not None:
            v = v * search.mask[rows, None]
        scores = ask_all(search, torch.cat([z[:, None] + delta * v, z[:, None] - delta * v], 1), rows)
        up, down = values_of(search, scores, rows).chunk(2, 1)
        slope = ((up - down) / (2 * delta)).to(z)
        total = total + (slope[:, :, None, None, None] * v).sum(1)
    return total / samples


def signs(shape: torch.Size, drawn: torch.Generator) -> Float[Tensor, "c h w"]:
    """Random signs, of SPSA."""
    return torch.randint(0, 2, shape, generator=drawn) * 2.0 - 1


def normals(shape: torch.Size, drawn: torch.Generator) -> Float[Tensor, "c h w"]:
    """Normal numbers, of NES."""
    return torch.randn(shape, generator=drawn, dtype=torch.float64)


def _check_estimate(operation: str, samples: int, delta: float, step: float) -> None:
    """Raise `SaccadeError` for an estimate of nothing."""
    if samples < 1 or not delta > 0 or not step > 0:
        raise SaccadeError(
            f"Could not {operation}: samples, delta and the size of a step are {samples}, {delta} and {step}, expected "
            "1 or more, and numbers above 0."
        )
