"""The suites of attacks that a network can be judged by, and how their budgets are written."""

import inspect
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from saccade.attack.attacks import Attack, find_attack
from saccade.attack.autoattack import MODES, autoattack
from saccade.attack.balls import NORMS, Norm
from saccade.attack.engine import Result, searching
from saccade.attack.question import Budget, per_picture
from saccade.attack.square import square
from saccade.engine.seeding import mix
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "evaluate robustness"

TITLES = {
    "apgd-ce": "APGD-CE",
    "apgd-dlr": "APGD-DLR",
    "apgd-t": "APGD-T",
    "fab": "FAB",
    "fab-t": "FAB-T",
    "square": "Square",
}


def part_of_autoattack(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    mode: str = "standard",
    stage: str = "apgd-ce",
    norm: Norm = "linf",
    eps: Budget = 8 / 255,
    seed: int = 0,
    batch_size: int | None = None,
) -> Result:
    """One attack of AutoAttack, as it is made there."""
    stages = MODES[mode](norm)
    operation = f"attack with {TITLES.get(stage, stage)}"
    with searching(
        network, pictures, labels, operation=operation, norm=norm, batch_size=batch_size, random=mode == "rand"
    ) as search:
        radius = per_picture(eps, search.x, "eps", operation)
        stages[stage](search, radius, rows=search.active, seed=mix(seed, list(stages).index(stage)))
        return search.result()


def _parts(mode: str) -> tuple[Attack, ...]:
    """The attacks of a mode of AutoAttack, one by one."""
    return tuple(
        Attack(
            name=stage,
            title=TITLES.get(stage, stage),
            function=part_of_autoattack,
            paper="arXiv:2003.01690",
            targeted=False,
            settings={"mode": mode, "stage": stage},
        )
        for stage in MODES[mode]("linf")
    )


SUITES: dict[str, tuple[Attack, ...]] = {
    "autoattack": _parts("standard"),
    "fast": (
        Attack(
            "autoattack-fast",
            "AutoAttack, fast",
            autoattack,
            "arXiv:2003.01690",
            targeted=False,
            settings={"mode": "fast"},
        ),
    ),
    "plus": _parts("plus"),
    "rand": _parts("rand"),
    "pgd": (find_attack("pgd").set(steps=100, loss="margin", restarts=2),),
}
"""The suites by name: attacks, each of which gets the pictures that those before it have not fooled."""

BLACK_BOX = Attack("square", "Square, 500 queries", square, "arXiv:1912.00049", settings={"queries": 500})
"""A short attack that asks for scores alone."""


def find_suite(suite: str | Sequence[str | Attack], norm: Norm) -> tuple[Attack, ...]:
    """The attacks of a suite by its name, or those of a list; all of them must have the norm.

    Raises `SaccadeError` for an unknown name, an empty list, and an attack that cannot be asked for the norm.
    """
    if norm not in NORMS:
        raise SaccadeError(f"Could not {OPERATION}: norm is {norm!r}, expected one of {', '.join(NORMS)}.")
    if isinstance(suite, str) and suite not in SUITES:
        names = [name for name in suite.split(",") if name.strip()]
        try:
            return find_suite(names, norm)
        except SaccadeError as error:
            raise SaccadeError(
                f"There is no suite {suite!r}; there are {', '.join(SUITES)}, or give names of attacks, by comma "
                f"({error})"
            ) from error
    attacks = tuple(
        one if isinstance(one, Attack) else find_attack(one)
        for one in (SUITES[suite] if isinstance(suite, str) else suite)
    )
    if not attacks:
        raise SaccadeError(f"Could not {OPERATION}: there are no attacks; name one or more, or a suite.")
    for attack in attacks:
        if norm not in attack.norms:
            given = f"{attack.title} has no norm {norm!r}, only {', '.join(attack.norms)}"
            raise SaccadeError(f"Could not {OPERATION}: {given}. Leave it out, or choose another norm.")
    return attacks


def ask(attack: Attack, network: nn.Module, pictures: Tensor, labels: Tensor, **wanted: Any) -> Result:
    """Run an attack with those of the settings that it has: one that looks for the smallest change has no eps.

    A setting of None is left to the attack.
    """
    known = inspect.signature(attack.function).parameters
    given = {key: value for key, value in wanted.items() if key in known and value is not None}
    return attack(network, pictures, labels, **given)


def budget(eps: float | str) -> float:
    """A radius, as a number or as text such as "8/255"; raises `SaccadeError` unless it is finite and 0 or more."""
    try:
        value = float(Fraction(eps)) if isinstance(eps, str) else float(eps)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise SaccadeError(f"Could not {OPERATION}: eps is {eps!r}, expected a number of 0 or more, as 0.5 or 8/255.")
    return value
