"""AutoAttack: several attacks in turn on what still stands; a picture is robust if none of them fools the network."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.attack.apgd import check_norm, goals, run_apgd, standing
from saccade.attack.balls import Norm
from saccade.attack.engine import AttackWarning, Result, Search, searching
from saccade.attack.fab import DUAL, leads, run_fab
from saccade.attack.gradient_attack import EPS
from saccade.attack.losses import cross_entropy, dlr, margin, runners_up
from saccade.attack.question import Budget, per_picture
from saccade.attack.square import run_square
from saccade.engine.chunks import chunks
from saccade.engine.seeding import mix
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with AutoAttack"
TARGETS = 9
NEAR = 0.1  # of the margin of the picture itself: where as little is left, another start may get there

Stage = Callable[..., Tensor | None]
"""(search, eps, *, seed, rows=None): an attack on all or some pictures of a search that have not been fooled.

It may return the numbers of those that further attacks are worth; otherwise these go on with all that are left.
"""


@dataclass(frozen=True)
class Worst(Result):
    """The worst that any attack found for each picture: a `Result`, and which one it was.

    broken_by: the attack that fooled the network first; "clean" where it was wrong before, "" where none did.
    stages: the names of the attacks, in order.
    """

    broken_by: tuple[str, ...]
    stages: tuple[str, ...]

    @property
    def accuracy_after(self) -> dict[str, float]:
        """The share of the pictures that the network still gets right: "clean", and after each attack."""
        left, shares = len(self.broken_by), {}
        for name in ("clean", *self.stages):
            left -= self.broken_by.count(name)
            shares[name] = left / len(self.broken_by)
        return shares


def autoattack(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    norm: Norm = "linf",
    eps: Budget | None = None,
    mode: str = "standard",
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Worst:
    """The pointwise worst case of APGD, FAB and Square, which fail in different ways. Without settings to tune.

    A picture leaves with the first change within `eps` that fools the network, so each attack works on what the ones
    before have left. Croce and Hein 2020, arXiv:2003.01690.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode. With
            fewer than ten classes there are as many targets as other classes.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        norm: "linf", "l2" or "l1".
        eps: the radius of the ball, one or one for each picture, in pixel units; by default 8/255, 0.5 or 12.
        mode: "standard", what published figures mean: APGD-CE, APGD-T and FAB-T with 9 targets and 100 steps each, and
            5,000 queries of Square. "plus": more starts and forms of them. "rand": APGD with gradients averaged over 20
            passes, for networks that are not deterministic. "fast": APGD alone, see `fast`.
        mask: the region that may be touched, see `check_mask`.
        seed: of all random numbers, which are the same for every picture.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.
        callback: called after each attack with a dictionary of "attack" (its name), "left" (how many pictures none has
            fooled), "forwards" and "backwards" (passes so far, of all pictures).

    Returns:
        `Worst`; its `loss` is the highest margin that was seen.

    Raises:
        SaccadeError: for whatever cannot be attacked, and another mode or norm.
    """
    check_norm(norm, OPERATION)
    if mode not in MODES:
        raise SaccadeError(f"Could not {OPERATION}: mode is {mode!r}, expected one of {', '.join(MODES)}.")
    stages = MODES[mode](norm)
    with searching(
        network,
        pictures,
        labels,
        operation=OPERATION,
        norm=norm,
        mask=mask,
        batch_size=batch_size,
        random=mode == "rand",
    ) as search:
        radius = per_picture(EPS[norm] if eps is None else eps, search.x, "eps", OPERATION)
        broken_by = ["clean" if fooled else "" for fooled in search.success.tolist()]
        rows = search.active
        for i, (name, stage) in enumerate(stages.items()):
            if len(rows):
                worth = stage(search, radius, rows=rows, seed=mix(seed, i))
                for picture in rows[search.success[rows]].tolist():
                    broken_by[picture] = name
                rows = standing(search, rows if worth is None else worth)
            if callback is not None:
                passes = {"forwards": int(search.forwards.sum()), "backwards": int(search.backwards.sum())}
                callback({"attack": name, "left": broken_by.count(""), **passes})
        found = search.result()
    _warn_of_masking(broken_by)
    return Worst(**vars(found), broken_by=tuple(broken_by), stages=tuple(stages))


def standard(norm: Norm) -> dict[str, Stage]:
    """The attacks that published figures mean."""
    if norm == "l1":
        ascent = {
            "apgd-ce": partial(run_apgd, loss=cross_entropy, restarts=5, wide=True),
            "apgd-t": partial(_each, run_apgd, classes=5, loss=dlr, wide=True),
        }
    else:
        ascent = {
            "apgd-ce": partial(run_apgd, loss=cross_entropy),
            "apgd-t": partial(_each, run_apgd, classes=TARGETS, loss=dlr),
        }
    return {**ascent, "fab-t": partial(_each, run_fab, classes=TARGETS), "square": run_square}


def plus(norm: Norm) -> dict[str, Stage]:
    """Five starts, and both forms of APGD and FAB."""
    wide = norm == "l1"
    return {
        "apgd-ce": partial(run_apgd, loss=cross_entropy, restarts=5, wide=wide),
        "apgd-dlr": partial(run_apgd, loss=dlr, restarts=5, wide=wide),
        "fab": partial(run_fab, restarts=5),
        "square": run_square,
        "apgd-t": partial(_each, run_apgd, classes=TARGETS, loss=dlr, wide=wide),
        "fab-t": partial(_each, run_fab, classes=TARGETS),
    }


def rand(norm: Norm) -> dict[str, Stage]:
    """Gradients averaged over 20 passes."""
    settings: dict[str, Any] = {"eot": 20, "wide": norm == "l1"}
    return {
        "apgd-ce": partial(run_apgd, loss=cross_entropy, **settings),
        "apgd-dlr": partial(run_apgd, loss=dlr, **settings),
    }


def fast(norm: Norm) -> dict[str, Stage]:
    """APGD toward the nearest classes, and the whole of `standard` only where it is in doubt.

    A short run finds most. The others are attacked toward their nine nearest classes, with all steps toward three and
    a third of them toward the rest; those that were nearly fooled once more, with all. Then Square tries a few queries:
    a picture of which it finds a higher margin than all gradients did goes through `standard`, as its gradients may be
    masked.
    """
    wide = norm == "l1"
    return {
        "apgd-ce": partial(run_apgd, loss=cross_entropy, steps=25, wide=wide),
        "apgd-t": partial(_nearest_first, wide=wide),
        "square": _probe,
        **{f"full-{name}": stage for name, stage in standard(norm).items()},
    }


MODES: Mapping[str, Callable[[Norm], dict[str, Stage]]] = {
    "standard": standard,
    "plus": plus,
    "rand": rand,
    "fast": fast,
}
"""The attacks of each mode, for a norm."""


def _each(
    attack: Stage,
    search: Search,
    eps: Float[Tensor, "n 1 1 1"],
    *,
    classes: int,
    seed: int,
    rows: Int[Tensor, " m"] | None = None,
    **settings: Any,
) -> None:
    """An attack toward so many classes in turn."""
    for i, goal in enumerate(goals(search, classes)):
        attack(search, eps, rows=standing(search, rows), goal=goal, seed=mix(seed, i), **settings)


def _nearest_first(
    search: Search,
    eps: Float[Tensor, "n 1 1 1"],
    *,
    wide: bool,
    seed: int,
    rows: Int[Tensor, " m"] | None = None,
) -> None:
    """APGD-T toward the nearest classes, with few steps from the fourth on; where it came near, all of it again."""
    rows = standing(search, rows)
    for i, goal in enumerate(nearest_classes(search, rows, TARGETS).unbind(1)):
        run_apgd(
            search,
            eps,
            rows=rows,
            loss=dlr,
            goal=goal,
            steps=100 if i < 3 else 30,
            wide=wide,
            seed=mix(seed, i),
        )
    rows = standing(search, rows)
    near = search.loss[rows] > NEAR * margin(search.scores[rows], search.aim(rows))
    _each(run_apgd, search, eps, classes=TARGETS, loss=dlr, wide=wide, rows=rows[near], seed=mix(seed, TARGETS))


def nearest_classes(search: Search, rows: Int[Tensor, " m"], count: int) -> Int[Tensor, "n k"]:
    """The classes whose boundaries are nearest by the slopes at the pictures; 0 for those that are not in `rows`.

    Of twice as many of the highest scores. Melamed, Yehudai and Vardi 2024, arXiv:2407.02240.
    """
    candidates = runners_up(search.scores, search.labels, 2 * count)
    ordered = torch.zeros_like(candidates)
    for part in chunks(len(rows), search.batch):
        some = rows[part]
        _, gaps, slopes = leads(search, search.x[some], some, candidates[some])
        away = gaps.abs() / DUAL[search.measure](slopes.flatten(2)).clamp_min(1e-12)
        ordered[some] = candidates[some].gather(1, away.argsort(dim=1, stable=True))
    return ordered[:, :count]


def _probe(
    search: Search,
    eps: Float[Tensor, "n 1 1 1"],
    *,
    seed: int,
    rows: Int[Tensor, " m"] | None = None,
    queries: int = 100,
) -> Int[Tensor, " k"]:
    """A short Square. Returns the pictures that gradients may have said too little of: it raised their margin further,
    or they had none."""
    rows = standing(search, rows)
    before = search.loss[rows]
    run_square(search, eps, rows=rows, queries=queries, seed=seed)
    return rows[(search.loss[rows] > before) | search.flat[rows]]


def _warn_of_masking(broken_by: list[str]) -> None:
    """Warn if the search without gradients found what those with gradients before it did not."""
    found = sum(name.endswith("square") for name in broken_by)
    if found > max(1, 0.002 * len(broken_by)):
        warnings.warn(
            f"{OPERATION}: Square, which uses no gradients, fooled the network with {found} of {len(broken_by)} "
            "pictures that withstood the attacks by gradients. The network may mask its gradients, so others may be "
            "less robust than they seem.",
            AttackWarning,
            stacklevel=3,
        )
