"""Whether an evaluation can be trusted: the table of the checks, and how they are run.

Carlini and others 2019, arXiv:1902.06705; Pintor and others 2021, arXiv:2106.09947; the flags of AutoAttack,
arXiv:2003.01690.
"""

import warnings
from collections.abc import Callable, Mapping

from saccade.attack.engine import AttackWarning
from saccade.attack.evaluate import attack_checks as attacks
from saccade.attack.evaluate import network_checks as networks
from saccade.attack.evaluate.probe import Check, Probe

CHECKS: Mapping[str, tuple[Callable[[Probe], Check], str]] = {
    "randomised": (networks.randomised, "x"),
    "batch size": (networks.batched, "x"),
    "gradients inside": (networks.gradients_inside, "x"),
    "zero gradients": (networks.zero_gradients, "x"),
    "saturated scores": (networks.saturated, "x"),
    "precision": (networks.coarse, "x"),
    "classes": (networks.few_classes, "x"),
    "loss does not rise": (attacks.not_climbing, "x"),
    "one step beats many": (attacks.one_step, "x"),
    "unbounded": (attacks.unbounded, "x"),
    "more steps help": (attacks.more_steps, "standing"),
    "black box beats white box": (attacks.black_box, "standing"),
    "smallest change beats the suite": (attacks.smallest_beats, "x"),
    "finds that lapse": (attacks.lapsed, "x"),
    "8-bit rounding": (attacks.rounded, "after"),
}
"""The checks by name, and which pictures of a `Probe` each needs one of; without any it is not made."""


def diagnose(probe: Probe) -> tuple[Check, ...]:
    """All checks that there are pictures for; one that cannot be made says why, and casts doubt."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)  # the checks say it themselves
        for name, (check, needs) in CHECKS.items():
            if len(getattr(probe, needs)) == 0:
                continue
            try:
                found.append(check(probe))
            except Exception as error:  # networks raise anything, and the evaluation is done
                found.append(Check(name, True, f"this could not be looked at: {error}"))
    return tuple(found)
