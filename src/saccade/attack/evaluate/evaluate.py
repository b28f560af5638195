"""How well a network stands attacks: a suite of them on a set of pictures, and what casts doubt on the answer."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.attack.attacks import Attack
from saccade.attack.balls import Norm
from saccade.attack.evaluate.curve import SMALLEST, robustness_curve
from saccade.attack.evaluate.diagnostics import diagnose
from saccade.attack.evaluate.evaluation import Evaluation, Row
from saccade.attack.evaluate.parts import Part, Store
from saccade.attack.evaluate.probe import Probe
from saccade.attack.evaluate.suites import OPERATION, budget, find_suite
from saccade.attack.evaluate.wilson import Share
from saccade.attack.evaluate.work import Work, count_classes
from saccade.attack.gradient_attack import EPS
from saccade.attack.question import check_pictures
from saccade.engine.distributed import World
from saccade.engine.fingerprint import fingerprint
from saccade.errors import SaccadeError
from saccade.networks.targets import Target, class_indices

PART = 256  # pictures whose state is held, and kept, at once


def evaluate(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    suite: str | Sequence[str | Attack] = "autoattack",
    norm: Norm = "linf",
    eps: float | str | None = None,
    curve: bool = True,
    checked: int = 32,
    folder: str | Path | None = None,
    world: World | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Attack pictures with one attack after another, and say how many stand all of them.

    The pointwise worst case: a picture is robust if no attack finds a change within `eps` that fools the network, each
    attack being given what those before it have not fooled. What an attack finds counts only if it is within the
    budget, in [0, 1], and fools the network again when it is asked once more. Carlini and others 2019,
    arXiv:1902.06705; Croce and Hein 2020, arXiv:2003.01690.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64; moved to the device of the network part by part.
        labels: the true class of each picture.
        suite: a key of `SUITES`, or names of attacks, or attacks.
        norm: "linf", "l2" or "l1".
        eps: the budget, a number or as "8/255"; by default that of `EPS`.
        curve: also look for the smallest change of every picture, for the accuracy at all budgets; what is found
            within `eps` counts.
        checked: so many pictures are looked at for each of the checks; 0 makes none.
        folder: where what is found is kept; the same call goes on there after it was stopped or killed.
        world: the processes that share the pictures out; more than one need a folder that all of them can write.
        seed: of all that is drawn.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.
        progress: called with (done, in all), in pictures times attacks of this process.

    Returns:
        `Evaluation`, the same in all processes, on the CPU.

    Raises:
        SaccadeError: for whatever cannot be attacked, in one sentence; when the network raises on the way; or when the
            folder holds another evaluation.
    """
    pictures = check_pictures(pictures, OPERATION)
    attacks = find_suite(suite, norm)
    attacks = (*attacks, SMALLEST) if curve else attacks
    radius = budget(EPS.get(norm, 1.0) if eps is None else eps)
    world = world or World(0, 1, pictures.device)
    if world.size > 1 and folder is None:
        raise SaccadeError(f"Could not {OPERATION}: {world.size} processes need folder=, to share what they find.")
    classes = count_classes(network, pictures, norm, batch_size)
    y = class_indices(network, labels, count=len(pictures), classes=classes)
    settings = {
        "suite": suite if isinstance(suite, str) else [attack.name for attack in find_suite(suite, norm)],
        "attacks": [[attack.name, _told(attack)] for attack in attacks],
        "norm": norm,
        "eps": radius,
        "seed": seed,
        "pictures": len(pictures),
        "shape": list(pictures.shape[1:]),
        "classes": classes,
        "precision": f"pictures {_precision(pictures)}, network {_precision(next(network.parameters(), pictures))}",
    }
    work = Work(network, pictures, y, attacks, norm, radius, seed, batch_size)
    kept = None if folder is None else Path(folder) / "parts"
    store = Store(kept, fingerprint(network, [pictures, y], settings), len(attacks))
    found, done = [], 0
    jobs = list(store.jobs(len(pictures), PART, world))
    total = sum(len(job.rows if isinstance(job, Part) else job) for job in jobs) * len(attacks)
    for job in jobs:
        part = job if isinstance(job, Part) else work.begin(job)
        done += part.done * len(part.rows)
        while part.done < len(attacks):
            part = work.attacked(part)
            store.save(part)
            done += len(part.rows)
            if progress is not None:
                progress(done, total)
        found.append(part)
    parts = found if folder is None else store.whole(len(pictures))
    result = _assembled(parts, attacks, y, settings, radius if curve else None)
    return replace(result, checks=diagnose(_probe(work, result, checked))) if checked else result


def _assembled(
    parts: list[Part], attacks: tuple[Attack, ...], labels: Tensor, settings: dict[str, Any], curve: float | None
) -> Evaluation:
    """All parts as one, in the order of the pictures."""
    order = torch.cat([part.rows for part in parts]).argsort()
    names = (field.name for field in fields(Part) if field.name not in ("rows", "seconds"))
    whole = {name: torch.cat([getattr(part, name) for part in parts])[order] for name in names}
    right, by, total = whole["right"], whole["broken_by"], len(labels)
    rows, left = [], right
    for number, attack in enumerate(attacks):
        attacked, left = right if attack is SMALLEST else left, left & (by != number)
        row = Row(
            name=attack.name,
            title=attack.title,
            paper=attack.paper,
            attacked=int(attacked.sum()),
            broke=int((by == number).sum()),
            left=Share(int(left.sum()), total),
            forwards=int(whole["forwards"][:, number].sum()),
            backwards=int(whole["backwards"][:, number].sum()),
            seconds=sum(part.seconds[number] for part in parts),
        )
        rows.append(row)
    return Evaluation(
        clean=Share(int(right.sum()), total),
        robust=Share(int(left.sum()), total),
        attacks=tuple(rows),
        curve=None if curve is None else robustness_curve(whole["smallest"], eps=curve),
        checks=(),
        labels=labels,
        seconds=sum(row.seconds for row in rows),
        settings=settings,
        **{**whole, "forwards": whole["forwards"].sum(1), "backwards": whole["backwards"].sum(1)},
    )


def _probe(work: Work, found: Evaluation, count: int) -> Probe:
    """Some of the pictures for the checks: the first that are right, that stand, and that were fooled."""
    right, standing, fooled = (
        which.nonzero()[:count, 0] for which in (found.right, found.right & ~found.fooled, found.fooled)
    )
    x, labels = work.take(right)
    still, still_labels = work.take(standing)
    before, fooled_labels = work.take(fooled)
    led = [any(row.backwards for row in found.attacks[:number]) for number in range(len(found.attacks))]
    blind = [row for row, after in zip(found.attacks, led, strict=True) if after and row.forwards and not row.backwards]
    smaller = [row.broke for row in found.attacks if row.name == SMALLEST.name]
    return Probe(
        network=work.network,
        x=x,
        labels=labels,
        standing=still,
        standing_labels=still_labels,
        before=before,
        after=found.adversarial[fooled].to(before),
        fooled_labels=fooled_labels,
        norm=work.norm,
        eps=work.eps,
        seed=work.seed,
        batch_size=work.batch_size,
        total=len(found.labels),
        lapsed=int((found.lapsed > 0).sum()),
        by_scores=sum(row.broke for row in blind) if blind else None,
        smaller=sum(smaller) if smaller else None,
    )


def _told(attack: Attack) -> str:
    """The settings of an attack in words; functions by their names."""
    said = {key: getattr(value, "__name__", None) or repr(value) for key, value in attack.settings.items()}
    return ", ".join(f"{key} {value}" for key, value in sorted(said.items()) if key != "name")


def _precision(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
