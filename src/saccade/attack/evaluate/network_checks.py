"""Properties of a network that make attacks on it fail for other reasons than robustness."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from saccade.attack.evaluate.probe import Check, Probe, checked
from saccade.attack.losses import margin

PASSES = 5
CLASSES = 10
"""So many classes or more are needed for the nine targets of AutoAttack."""


def randomised(probe: Probe) -> Check:
    """Whether passes over the same pictures differ, as with dropout left on or noise as a defence."""
    with probe.search() as search:
        looks = torch.stack([search.ask(search.x, search.every_row) for _ in range(PASSES)])
    spread = float((looks.amax(0) - looks.amin(0)).max() / looks.abs().max().clamp_min(1e-12))
    said = looks.argmax(2)
    changed = int((said != said[0]).any(0).sum())
    return checked(
        "randomised",
        spread > 1e-4,
        f"{PASSES} passes over the same pictures differ by up to {spread:.1g} of the largest score, and {changed} of "
        f"{len(probe.x)} pictures change class",
        "attack the mean over many passes (EOT) instead.",
    )


def batched(probe: Probe) -> Check:
    """Whether what is said of a picture hangs on the others in the batch, as with batch statistics in use."""
    with probe.search(batch_size=len(probe.x)) as search:
        together = [search.ask(search.x, search.every_row) for _ in range(2)]
    with probe.search(batch_size=1) as search:
        alone = search.scores
    scale = together[0].abs().max().clamp_min(1e-12)
    gap, chance = (float((one - together[0]).abs().max() / scale) for one in (alone, together[1]))
    changed = int((alone.argmax(1) != together[0].argmax(1)).sum())
    alarm = gap > 1e-3 and gap > 10 * chance
    return checked(
        "batch size",
        alarm,
        f"alone and in one batch the scores of a picture differ by up to {gap:.1g} of the largest, and {changed} of "
        f"{len(probe.x)} pictures change class",
        "normalise by fixed statistics; numbers hold for this batch size only.",
    )


def gradients_inside(probe: Probe) -> Check:
    """Whether the network itself takes gradients while it answers, which attacks do not see through."""
    with probe.search() as search, _counting_gradients() as calls:
        search.ask(search.x[:1], search.every_row[:1])
    return checked(
        "gradients inside",
        bool(calls),
        f"the network asks for gradients {len(calls)} times while it answers",
        "it optimises at inference time, which needs an attack of its own.",
    )


def zero_gradients(probe: Probe) -> Check:
    """Whether gradients by the picture are zero, as behind rounding or saturated units."""
    with probe.search() as search:
        search.look(search.x, search.every_row, loss=margin)
        flat = int(search.flat.sum())
    return checked(
        "zero gradients",
        flat > 0,
        f"the gradient is zero everywhere at {flat} of {len(probe.x)} pictures",
        "attacks that follow it are blind there; replace what hides it by something smooth.",
    )


def saturated(probe: Probe) -> Check:
    """Whether probabilities are exactly 1 in float32, where the slope of cross entropy is lost."""
    with probe.search() as search:
        full = int((search.scores.float().softmax(1).amax(1) == 1).sum())
    alarm = full > 0.1 * len(probe.x)
    return checked(
        "saturated scores",
        alarm,
        f"{full} of {len(probe.x)} pictures have a probability of exactly 1 in float32",
        "cross entropy has no slope there; the attacks of this library follow the margin then, those of others "
        "may report robustness that is not there. Divide the scores by a temperature.",
    )


def coarse(probe: Probe) -> Check:
    """Whether the network computes in half precision, so that scores and gradients come in steps."""
    first = next((p for p in probe.network.parameters() if p.is_floating_point()), probe.x)
    half = first.dtype not in (torch.float32, torch.float64)
    kind = str(first.dtype).removeprefix("torch.")
    return checked(
        "precision",
        half,
        f"the network computes in {kind}",
        "scores and gradients come in steps that can hide an attack; judge it in float32 too.",
    )


def few_classes(probe: Probe) -> Check:
    """How many classes there are for attacks that aim at one after another."""
    with probe.search() as search:
        classes = search.scores.shape[1]
    few = classes < CLASSES
    return Check(
        "classes",
        False,
        f"the network has {classes} classes"
        + (f": attacks that aim at nine others aim at the {classes - 1} there are." if few else "."),
    )


@contextmanager
def _counting_gradients() -> Iterator[list[str]]:
    """Notes every call for gradients that is made inside."""
    calls: list[str] = []
    kept = {name: getattr(torch.autograd, name) for name in ("grad", "backward")}

    def noting(name: str) -> Any:
        def call(*given: Any, **settings: Any) -> Any:
            calls.append(name)
            return kept[name](*given, **settings)

        return call

    for name in kept:
        setattr(torch.autograd, name, noting(name))
    try:
        yield calls
    finally:
        for name, function in kept.items():
            setattr(torch.autograd, name, function)
