"""HopSkipJump: along the decision boundary by estimated normals, from the network's decisions alone."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.balls import Norm, distance, steepest
from saccade.attack.candidates import ask_all, fooled_by, portions, widen
from saccade.attack.engine import Result, Search, kept, searching
from saccade.attack.question import check_settings
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with HopSkipJump"


def hop_skip_jump(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    targets: Target | None = None,
    norm: Norm = "l2",
    steps: int = 30,
    samples: int = 100,
    starts: Tensor | None = None,
    noises: int = 100,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """The nearest picture that fools the network, by walking along its decision boundary.

    A step estimates the boundary's normal from decisions about points around, jumps along it, and comes back to the
    boundary on the way to the picture. Only the class that the network says is used. Chen, Jordan and Wainwright 2019,
    arXiv:1904.02144.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: "l2" or "linf".
        steps: normals estimated.
        samples: points asked about for the first; the t-th takes sqrt(t) as many.
        starts: (N, C, H, W), pictures that fool the network, as others that are of the class to be said; without, or
            where one does not fool it, uniform noise that does is looked for.
        noises: how many noises are tried.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most points at once; by default as many as are fast and fit into memory.

    Returns:
        `Result`; its `forwards` are the queries.

    Raises:
        SaccadeError: for whatever cannot be attacked, and settings out of range.
    """
    if norm not in ("l2", "linf"):
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected 'l2' or 'linf'.")
    check_settings(OPERATION, 0, steps=steps, noises=noises)
    check_settings(OPERATION, 1, samples=samples)
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm=norm, mask=mask, batch_size=batch_size
    ) as search:
        widen(search, batch_size)
        rows, z = starting_points(search, starts, noises, seed)
        if len(rows) == 0:
            return search.result()
        d = z[0].numel()
        nearness = 1 / d**1.5 if norm == "l2" else 1 / d**2  # how exactly the boundary is found
        far = distance(z - search.x[rows], norm)
        z = to_boundary(search, z, rows, nearness)
        for step in range(1, steps + 1):
            probe = (math.sqrt(d) if norm == "l2" else d) * nearness * far if step > 1 else torch.full_like(far, 0.1)
            drawn = generator(seed, step)
            normal = _normal(search, z, rows, probe, int(samples * math.sqrt(step)), drawn)
            far = distance(z - search.x[rows], norm)
            z = _jump(search, z, rows, normal, far / math.sqrt(step))
            far = distance(z - search.x[rows], norm)
            z = to_boundary(search, z, rows, nearness)
        return search.result()


def starting_points(
    search: Search, starts: Tensor | None, noises: int, seed: int
) -> tuple[Int[Tensor, " m"], Float[Tensor, "m c h w"]]:
    """The pictures for which a point was found that fools the network, and these points: of `starts`, or noise."""
    rows = search.active
    z = search.x.clone()
    found = torch.zeros_like(search.success)
    drawn = generator(seed, 0)
    for trial in range(-1, noises):
        if len(rows) == 0:
            break
        if trial < 0:
            if starts is None:
                continue
            if starts.shape != search.x.shape:
                raise SaccadeError(
                    f"Could not {search.operation}: starts are {tuple(starts.shape)}, expected the shape of the "
                    f"pictures, {tuple(search.x.shape)}."
                )
            point = starts.to(search.x)[rows]
        else:
            noise = torch.rand(search.x.shape[1:], generator=drawn, dtype=torch.float64)
            point = noise.to(search.x).expand(len(rows), *noise.shape)
        low, high = search.box(rows)
        point = torch.minimum(torch.maximum(point, low), high)
        fooled = search.offer(point, rows, search.ask(point, rows))
        z[rows[fooled]] = point[fooled]
        found[rows[fooled]] = True
        (rows,) = kept(~fooled, rows)
    rows = search.every_row[found]
    return rows, z[rows]


def to_boundary(
    search: Search, z: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"], nearness: float
) -> Float[Tensor, "m c h w"]:
    """The last points that fool the network on the way from `z`, which do, to the pictures; these are offered.

    For l2 along the line; for linf through the balls that shrink. nearness: the share of the way left between the two
    sides; for linf at most this in pixel units.
    """
    x = search.x[rows]
    reach = distance(z - x, search.measure).view(-1, 1, 1, 1)
    low, high = torch.zeros_like(reach), torch.ones_like(reach)
    best = z
    for _ in range(math.ceil(math.log2(1 / nearness))):
        middle = (low + high) / 2
        if search.measure == "l2":
            point = x + middle * (z - x)
        else:
            point = torch.minimum(torch.maximum(z, x - middle * reach), x + middle * reach)
        fooled = search.offer(point, rows, search.ask(point, rows)).view(-1, 1, 1, 1)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        best = torch.where(fooled, point, best)
    return best


def _normal(
    search: Search, z: Tensor, rows: Tensor, probe: Tensor, samples: int, drawn: torch.Generator
) -> Float[Tensor, "m c h w"]:
    """The direction into the region that fools the network, of length 1, or of signs for linf."""
    low, high = (edge if len(edge) == 1 else edge[:, None] for edge in search.box(rows))
    plain, weighted, count = torch.zeros_like(z), torch.zeros_like(z), z.new_zeros(len(z))
    for part in portions(search, rows, samples):
        v = torch.stack([_direction(z.shape[1:], search.measure, drawn) for _ in range(part.stop - part.start)])
        probes = z[:, None] + probe.view(-1, 1, 1, 1, 1) * v.to(z)
        probes = torch.minimum(torch.maximum(probes, low), high)
        told = fooled_by(search, ask_all(search, probes, rows), rows).to(z) * 2 - 1
        moved = (probes - z[:, None]) / probe.view(-1, 1, 1, 1, 1).clamp_min(1e-12)
        plain = plain + moved.sum(1)
        weighted = weighted + (told[..., None, None, None] * moved).sum(1)
        count = count + told.sum(1)
    mean = (count / samples).view(-1, 1, 1, 1)
    # less the mean decision as a baseline, which lowers the variance; where all agree there is nothing to lower
    normal = torch.where(mean.abs() == 1, weighted, weighted - mean * plain)
    return steepest(normal, search.measure)


def _direction(shape: torch.Size, norm: Norm, drawn: torch.Generator) -> Float[Tensor, "c h w"]:
    """A direction drawn uniformly from the sphere (l2) or the cube (linf), of length 1."""
    if norm == "linf":
        v = torch.rand(shape, generator=drawn, dtype=torch.float64) * 2 - 1
    else:
        v = torch.randn(shape, generator=drawn, dtype=torch.float64)
    length: Tensor = torch.linalg.vector_norm(v)
    return v / length


def _jump(search: Search, z: Tensor, rows: Tensor, normal: Tensor, size: Tensor) -> Float[Tensor, "m c h w"]:
    """A step along the normal, halved until its end fools the network; none where that does not come about."""
    pending: Bool[Tensor, " m"] = torch.ones_like(rows, dtype=torch.bool)
    for _ in range(30):
        which = rows[pending]
        if len(which) == 0:
            break
        low, high = search.box(which)
        point = z[pending] + size[pending].view(-1, 1, 1, 1) * normal[pending]
        point = torch.minimum(torch.maximum(point, low), high)
        fooled = search.offer(point, which, search.ask(point, which))
        z = z.clone()
        z[which_of(pending, fooled)] = point[fooled]
        pending = pending.clone()
        pending[which_of(pending, fooled)] = False
        size = size / 2
    return z


def which_of(pending: Bool[Tensor, " m"], chosen: Bool[Tensor, " k"]) -> Int[Tensor, " j"]:
    """The numbers of those pending that were chosen."""
    return pending.nonzero()[:, 0][chosen]
