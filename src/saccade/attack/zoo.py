"""ZOO: the attack of Carlini and Wagner with slopes from pairs of scores, a few values of the picture at a time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.attack.candidates import ask_all, portions, values_of, widen
from saccade.attack.carlini_wagner import next_constant
from saccade.attack.engine import Result, Search, searching
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with ZOO"


def zoo(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    steps: int = 300,
    samples: int = 128,
    delta: float = 1e-3,
    lr: float = 0.02,
    constant: float = 1.0,
    searches: int = 3,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """A small change in L2 by the scores alone: Adam, value by value, down |change|^2 + c * max(0, -margin).

    Zeroth order optimisation, Chen and others 2017, arXiv:1708.03999 (ZOO-ADAM): each step draws some values of the
    picture and asks for the slope of the margin along each on both sides; every value has its own means and its own
    count of steps. What the square of the change contributes is known without asking. A search costs each picture
    `steps` * (2 * `samples` + 1) queries. The paper's hierarchy of smaller pictures is left out.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        steps: of each search.
        samples: values that a step asks about, at most as many as there are.
        delta: how far on each side, in pixel units; what is asked about may leave [0, 1] by as much. In float32 less
            than 1e-3 loses slopes to rounding.
        lr: of Adam, about the change of a value by a step.
        constant: the first c.
        searches: how many c are tried: ten times as large while it fails, then between those that failed and fooled.
        mask: the region that may be touched, see `check_mask`.
        seed: of the draws, which are the same for every picture.
        batch_size: the most points at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `norm` is l2, its `loss` the margin, its `backwards` 0.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    check_settings(OPERATION, 0, steps=steps, searches=searches)
    if samples < 1 or not all(value > 0 for value in (delta, lr, constant)):
        raise SaccadeError(
            f"Could not {OPERATION}: samples, delta, lr and constant are {samples}, {delta}, {lr} and {constant}, "
            "expected 1 or more, and numbers above 0."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm="l2", mask=mask, batch_size=batch_size
    ) as search:
        widen(search, batch_size)
        rows = search.active
        c = search.x.new_full((len(rows),), constant)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for number in range(searches if len(rows) and steps else 0):
            fooled = _search(search, rows, c, steps, samples, delta, lr, (seed, number))
            c, lower, upper = next_constant(c, lower, upper, fooled)
        return search.result()


def _search(
    search: Search,
    rows: Int[Tensor, " m"],
    c: Float[Tensor, " m"],
    steps: int,
    samples: int,
    delta: float,
    lr: float,
    key: tuple[int, int],
) -> Tensor:
    """Adam for one c of each picture; who was fooled on the way."""
    x, (low, high) = search.x[rows], search.box(rows)
    z, mean, square = x.flatten(1).clone(), torch.zeros_like(x).flatten(1), torch.zeros_like(x).flatten(1)
    count = z.new_zeros(z.shape[1])
    fooled = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        drawn = torch.randperm(z.shape[1], generator=generator(*key, step))[:samples].to(z.device)
        slope = c[:, None] * slopes(search, z.view_as(x), rows, drawn, delta) + 2 * (z - x.flatten(1))[:, drawn]
        count[drawn] += 1
        mean[:, drawn] = 0.9 * mean[:, drawn] + 0.1 * slope
        square[:, drawn] = 0.999 * square[:, drawn] + 0.001 * slope.square()
        root = (square[:, drawn] / (1 - 0.999 ** count[drawn])).sqrt() + 1e-8
        z[:, drawn] -= lr * mean[:, drawn] / (1 - 0.9 ** count[drawn]) / root
        point = torch.minimum(torch.maximum(z.view_as(x), low), high)
        z = point.flatten(1)
        fooled |= search.offer(point, rows, search.ask(point, rows))
    return fooled


def slopes(
    search: Search,
    z: Float[Tensor, "m c h w"],
    rows: Int[Tensor, " m"],
    drawn: Int[Tensor, " k"],
    delta: float,
) -> Float[Tensor, "m k"]:
    """Of max(0, -margin) along K of the values, numbered as in a flattened picture, from both sides of `z`."""
    found = []
    for part in portions(search, torch.cat([rows, rows]), len(drawn)):
        step = torch.zeros(part.stop - part.start, z[0].numel(), dtype=z.dtype, device=z.device)
        step[torch.arange(len(step)), drawn[part]] = delta
        step = step.view(1, -1, *z.shape[1:])
        scores = ask_all(search, torch.cat([z[:, None] + step, z[:, None] - step], 1), rows)
        up, down = (-values_of(search, scores, rows)).clamp_min(0).chunk(2, 1)
        found.append(((up - down) / (2 * delta)).to(z))
    return torch.cat(found, 1)
