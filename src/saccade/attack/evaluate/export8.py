"""Adversarial pictures as 8-bit files that still fool: rounded within the ball, read back, and asked again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.attack.balls import ORDERS, Norm, distance, wide
from saccade.attack.engine import kept, searching
from saccade.attack.evaluate.evaluation import Evaluation
from saccade.attack.question import Budget, per_picture
from saccade.engine.files import write_text
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.targets import Target
from saccade.pictures import read, write

OPERATION = "export adversarial pictures"
SLACK = 1 + 1e-6  # of a budget, for the rounding of float32


@dataclass(frozen=True)
class Exported:
    """What became of N pictures as files.

    files: in the order of the pictures. pictures: as read back from the files. fools: whether they fool the network.
    within: whether they lie within the budget. norm: the size of the change. mended: which ones rounding alone would
    have lost.
    """

    files: tuple[Path, ...]
    pictures: Float[Tensor, "n 3 h w"]
    fools: Bool[Tensor, " n"]
    within: Bool[Tensor, " n"]
    norm: Float[Tensor, " n"]
    mended: Bool[Tensor, " n"]

    def rows(self) -> list[dict[str, Any]]:
        """What can be said of each file, for a list of them."""
        columns = (self.fools, self.within, self.mended, self.norm)
        names = ("fools", "within_budget", "mended", "norm")
        values = zip(*(column.tolist() for column in columns), strict=True)
        return [
            {"file": file.name, **dict(zip(names, row, strict=True))}
            for file, row in zip(self.files, values, strict=True)
        ]

    def __str__(self) -> str:
        good, mended = int((self.fools & self.within).sum()), int((self.fools & self.mended).sum())
        lost, out = int((~self.fools).sum()), int((self.fools & ~self.within).sum())
        said = [f"{good} of {len(self.files)} files fool the network within the budget"]
        said += [f"{mended} of these had lost it by rounding and were moved on"] if mended else []
        said += [f"{lost} do not fool it as 8-bit values"] if lost else []
        said += [f"{out} fool it from outside the budget, as no 8-bit values lie within"] if out else []
        return "; ".join(said) + "."


def export_8bit(
    network: nn.Module,
    pictures: Tensor,
    adversarial: Tensor,
    labels: Target,
    folder: str | Path,
    *,
    norm: Norm = "linf",
    eps: Budget = 8 / 255,
    targets: Target | None = None,
    names: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Exported:
    """Write adversarial pictures as PNG, and see from the files whether they fool the network still.

    Attacks stop where the network is just fooled, so most pictures that fool as floats do not when they are rounded.
    `fooling_8bit` moves these on.

    Args:
        network, pictures, labels, targets: as in the attack that made them.
        adversarial: of the shape of the pictures, in [0, 1].
        folder: made if it is not there.
        norm, eps: of the attack; eps is one number, or one for each picture.
        names: of the files, without suffix; by default 00000, 00001, ...
        batch_size: the most pictures at once.

    Returns:
        `Exported`; a file that has lost its effect is written all the same.

    Raises:
        SaccadeError: other shapes, no pictures of three channels, a folder that cannot be written.
    """
    if adversarial.shape != pictures.shape or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise SaccadeError(
            f"Could not {OPERATION}: the pictures are {tuple(pictures.shape)}, the adversarial ones "
            f"{tuple(adversarial.shape)}, expected one shape (n, 3, height, width)."
        )
    if names is not None and len(set(names)) != len(pictures):
        raise SaccadeError(
            f"Could not {OPERATION}: {len(set(names))} different names for {len(pictures)} pictures, expected one each."
        )
    files = tuple(Path(folder) / f"{name}.png" for name in names or [f"{i:05d}" for i in range(len(pictures))])
    coarse, lost = fooling_8bit(
        network, pictures, adversarial, labels, norm=norm, eps=eps, targets=targets, batch_size=batch_size
    )
    for picture, file in zip(coarse, files, strict=True):
        write(picture, file)
    back = torch.stack([read(file) for file in files]).to(pictures)
    with searching(
        network, back, labels, operation=OPERATION, targets=targets, norm=norm, batch_size=batch_size, random=True
    ) as search:
        fools = search.success
    size = distance((_levels(back) - _levels(pictures)) / 255, norm)
    within = size <= per_picture(eps, pictures, "eps", OPERATION).flatten() * SLACK
    return Exported(files, back, fools, within, size.to(pictures), lost)


def export_found(network: Network, pictures: Tensor, found: Evaluation, folder: str | Path) -> Exported | str:
    """Write the adversarial pictures of an evaluation by `export_8bit`, named by their numbers, and `files.json` with
    what is known of each; says so if there are none.

    pictures: the originals, all of them.
    """
    hits = found.fooled.nonzero()[:, 0]
    if len(hits) == 0:
        return "there are no adversarial pictures to write."
    before, after, labels = (
        each[hits.to(each.device)].to(network.mean.device) for each in (pictures, found.adversarial, found.labels)
    )
    norm, eps, names = found.settings["norm"], found.settings["eps"], [f"{i:05d}" for i in hits.tolist()]
    made = export_8bit(network, before, after, labels, folder, norm=norm, eps=eps, names=names)
    rows = [
        {"picture": i, "label": network.class_name(label), **row}
        for i, label, row in zip(hits.tolist(), labels.tolist(), made.rows(), strict=True)
    ]
    write_text(Path(folder) / "files.json", json.dumps(rows, indent=1) + "\n")
    return made


def fooling_8bit(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    adversarial: Float[Tensor, "n c h w"],
    labels: Target,
    *,
    norm: Norm,
    eps: Budget,
    targets: Target | None = None,
    steps: int = 20,
    batch_size: int | None = None,
) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, " n"]]:
    """Adversarial pictures of 255ths, by `to_8bit`, and which of them rounding alone would have lost.

    Where a rounded picture does not fool the network, the one before rounding goes up the margin in steps of eps / 8
    until one of the rounded ones does; one that never does is given as rounded first.
    """
    coarse = to_8bit(pictures, adversarial, norm=norm, eps=eps)
    settings: dict[str, Any] = {"operation": OPERATION, "targets": targets, "norm": norm, "batch_size": batch_size}
    with searching(network, coarse, labels, random=True, **settings) as search:
        lost = ~search.success
    with searching(network, pictures, labels, random=True, **settings) as search:
        radius = per_picture(eps, search.x, "eps", OPERATION)
        rows = (lost & ~search.success).nonzero()[:, 0]
        where, z = search.ball(rows, radius), adversarial.to(search.x)[rows]
        for _ in range(steps):
            if len(rows) == 0:
                break
            z = where.climb(z, search.look(z, rows).gradient, where.eps / 8)
            tried = to_8bit(where.x, z, norm=norm, eps=where.eps.flatten())
            on = ~search.offer(tried, rows, search.ask(tried, rows))
            rows, where, z = kept(on, rows, where, z)
        mended = (lost & search.success)[:, None, None, None]
        return torch.where(mended, search.best.to(coarse), coarse), lost


def to_8bit(
    pictures: Float[Tensor, "n c h w"], adversarial: Float[Tensor, "n c h w"], *, norm: Norm, eps: Budget
) -> Float[Tensor, "n c h w"]:
    """Adversarial pictures of 255ths, within the ball of `eps` around the originals where it holds any.

    Every value goes to the nearest 255th, and where the change is then too long, the values that gain most go to the
    one on the side of the original instead, as few as will do. That is always enough if the originals are 255ths
    themselves; otherwise a ball may hold no such picture, and the last one tried is given.
    """
    if norm not in ORDERS:
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected one of {', '.join(ORDERS)}.")
    x, z = (_levels(each).flatten(1) for each in (pictures, adversarial))
    near = z.round().clamp(0, 255) / 255
    inner = torch.where(z > x, z.floor(), z.ceil()).clamp(0, 255) / 255
    x = x / 255
    inner = torch.where((inner - x).abs() < (near - x).abs(), inner, near)  # an original between two 255ths
    budget = wide(per_picture(eps, pictures, "eps", OPERATION)).flatten(1)
    if norm == "linf":
        rounded = torch.where((near - x).abs() <= budget * SLACK, near, inner)
        return rounded.view_as(pictures).to(pictures)
    order = ORDERS[norm]
    far, close = (_power(to - x, order) for to in (near, inner))
    gain, rank = (far - close).sort(dim=1, descending=True)
    left = far.sum(1, keepdim=True) - gain.cumsum(1) + gain  # of the length, before each value goes inwards
    inwards = torch.zeros_like(gain, dtype=torch.bool).scatter(1, rank, left > _power(budget * SLACK, order))
    return torch.where(inwards, inner, near).view_as(pictures).to(pictures)


def _levels(pictures: Tensor) -> Tensor:
    """Pictures in 255ths; what is one but for the rounding of float32 is exactly one."""
    levels = 255 * wide(pictures)
    return torch.where((levels - levels.round()).abs() < 1e-4, levels.round(), levels)


def _power(change: Tensor, order: float) -> Tensor:
    """What adds up over the values of a change: its powers, or for l0 whether there is one."""
    return (change != 0).to(change) if order == 0 else change.abs() ** order
