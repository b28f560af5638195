"""Behaviour of attacks that true robustness does not explain: signs that they failed for another reason."""

import math

import torch

from saccade.attack.attacks import fgsm
from saccade.attack.engine import searching
from saccade.attack.evaluate.export8 import fooling_8bit
from saccade.attack.evaluate.probe import OPERATION, Check, Probe, checked, too_many
from saccade.attack.evaluate.suites import BLACK_BOX, ask

UNBOUNDED = 0.05
"""The share of pictures that may stand an attack without bounds."""


def not_climbing(probe: Probe) -> Check:
    """Whether the loss rises on the way of small steps along the gradient. Pintor and others 2021, arXiv:2106.09947."""
    with probe.search() as search:
        rows = search.every_row
        radius = torch.full_like(search.x[:, :1, :1, :1], probe.eps)
        where = search.ball(rows, radius)
        z, losses = where.x, []
        for _ in range(10):
            look = search.look(z, rows)
            losses.append(look.loss)
            z = where.climb(z, look.gradient, where.eps / 4)
    stuck = int((torch.stack(losses[1:]).amax(0) <= losses[0]).sum())
    alarm = stuck > 0.1 * len(probe.x)
    return checked(
        "loss does not rise",
        alarm,
        f"ten steps along the gradient do not raise the margin of {stuck} of {len(probe.x)} pictures",
        "the gradient does not lead uphill.",
    )


def one_step(probe: Probe) -> Check:
    """Whether one step fools where many do not."""
    once = fgsm(probe.network, probe.x, probe.labels, norm=probe.norm, eps=probe.eps, batch_size=probe.batch_size)
    often = probe.climb(probe.x, probe.labels, eps=probe.eps, steps=20)
    better = int((once.success & ~often.success).sum())
    alarm = too_many(better, len(probe.x))
    return checked(
        "one step beats many",
        alarm,
        f"one step fools the network with {better} of {len(probe.x)} pictures with which 20 steps do not",
        "the gradient misleads.",
    )


def more_steps(probe: Probe) -> Check:
    """Whether 200 steps break what the suite did not."""
    count = len(probe.standing)
    broke = int(probe.climb(probe.standing, probe.standing_labels, eps=probe.eps, steps=200).success.sum())
    alarm = too_many(broke, count)
    return checked(
        "more steps help",
        alarm,
        f"200 steps break {broke} of {count} pictures that stood the suite",
        "it was too weak.",
    )


def unbounded(probe: Probe) -> Check:
    """Whether a picture can be turned into any other and still not fool the network."""
    size = probe.x[0].numel()
    widest = {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[probe.norm]
    found = probe.climb(probe.x, probe.labels, eps=widest, steps=50, start="picture")  # noise as wide fools by itself
    stand = int((~found.success).sum())
    alarm = stand > UNBOUNDED * len(probe.x)
    return checked(
        "unbounded",
        alarm,
        f"{stand} of {len(probe.x)} pictures stand an attack that may change them without bounds",
        "it should fool the network with all of them.",
    )


def black_box(probe: Probe) -> Check:
    """Whether attacks that see no gradient break what attacks with gradients did not; where the suite has none such,
    a short one is made."""
    if probe.by_scores is not None:
        broke, count, where = probe.by_scores, probe.total, "pictures"
        alarm = broke > 0.002 * count  # as AutoAttack has it
    else:
        found = ask(BLACK_BOX, probe.network, probe.standing, probe.standing_labels, norm=probe.norm, eps=probe.eps,
                    seed=probe.seed, batch_size=probe.batch_size)  # fmt: skip
        broke, count, where = int(found.success.sum()), len(probe.standing), "pictures that stood the suite"
        alarm = too_many(broke, count)
    return checked(
        "black box beats white box",
        alarm,
        f"without gradients {broke} of {count} {where} are broken where gradients failed",
        "the network hides its gradients.",
    )


def smallest_beats(probe: Probe) -> Check:
    """Whether the search for the smallest change breaks within eps what the suite did not."""
    broke = probe.smaller or 0
    alarm = broke > 0.002 * probe.total
    return checked(
        "smallest change beats the suite",
        alarm,
        f"the search for the smallest change broke {broke} of {probe.total} pictures that stood the suite",
        "it was too weak.",
    )


def rounded(probe: Probe) -> Check:
    """Whether adversarial pictures can be had as 8-bit files."""
    count = len(probe.after)
    coarse, lost = fooling_8bit(
        probe.network,
        probe.before,
        probe.after,
        probe.fooled_labels,
        norm=probe.norm,
        eps=probe.eps,
        batch_size=probe.batch_size,
    )
    with searching(
        probe.network, coarse, probe.fooled_labels, operation=OPERATION, batch_size=probe.batch_size, random=True
    ) as search:
        gone = int((~search.success).sum())
    alarm = too_many(gone, count)
    return checked(
        "8-bit rounding",
        alarm,
        f"rounded to 8 bits, {int(lost.sum())} of {count} adversarial pictures do not fool the network; moved on, all "
        f"but {gone} do",
        "as files, pictures have other robust accuracy than as floats.",
    )


def lapsed(probe: Probe) -> Check:
    """Whether what fooled the network did so again when it was asked once more."""
    alarm = probe.lapsed > 0.002 * probe.total
    return checked(
        "finds that lapse",
        alarm,
        f"{probe.lapsed} of {probe.total} pictures fooled the network once and not again, which is not counted",
        "it answers by chance, or by the batch.",
    )
