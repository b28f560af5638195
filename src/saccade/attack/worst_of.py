"""Several attacks in turn, each on what the ones before left standing: the worst case for each picture."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from saccade.attack.autoattack import Worst
from saccade.attack.balls import Norm
from saccade.attack.engine import Result, searching
from saccade.errors import SaccadeError
from saccade.networks.targets import Target

OPERATION = "attack with several attacks"


def worst_of(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    attacks: Mapping[str, Callable[..., Result]],
    targets: Target | None = None,
    norm: Norm = "linf",
    batch_size: int | None = None,
    **settings: Any,
) -> Worst:
    """Attacks in order; each is given the pictures that none before has fooled the network with.

    So a picture counts as robust only if it withstands all, and cheap attacks spare the dear ones work. What each
    attack claims is asked about again, and counts only if it fools the network then.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network.
        labels: the true class of each picture.
        attacks: functions (network, pictures, labels, **settings) -> `Result` by name, of the table or others, as in
            {"pgd": find_attack("pgd"), "more": find_attack("pgd").set(steps=100)}.
        targets: the class to be said, one for all or one for each; None for any but the label.
        norm: in which the changes are measured; the attacks have their own.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.
        settings: given to every attack, as `eps` or `mask`; of tensors (N,) and (N, C, H, W) only the rows at stake.

    Returns:
        `Worst`: a `Result` whose passes are those of all attacks, and which attack broke each picture.

    Raises:
        SaccadeError: there are no attacks, and whatever one of them raises.
    """
    if not attacks or "clean" in attacks:
        raise SaccadeError(
            f"Could not {OPERATION}: the attacks are {list(attacks)}, expected at least one, and none called 'clean'."
        )
    with searching(
        network, pictures, labels, operation=OPERATION, targets=targets, norm=norm, batch_size=batch_size
    ) as search:
        by = ["clean" if wrong else "" for wrong in search.success.tolist()]
        for name, attack in attacks.items():
            rows = search.active
            if len(rows) == 0:
                break
            own = {key: _rows(value, rows, len(search.x)) for key, value in settings.items()}
            if search.targets is not None:
                own["targets"] = search.targets[rows]
            found = attack(network, search.x[rows], search.labels[rows], batch_size=batch_size, **own)
            search.forwards[rows] += found.forwards
            search.backwards[rows] += found.backwards
            hits = rows[found.success]
            if len(hits):
                z = found.adversarial[found.success]
                for row in hits[search.offer(z, hits, search.ask(z, hits))].tolist():
                    by[row] = name
        result = search.result()
        return Worst(**vars(result), broken_by=tuple(by), stages=tuple(attacks))


def _rows(value: Any, rows: Tensor, count: int) -> Any:
    """The rows of a setting that has one for each picture; others as they are."""
    by_row = isinstance(value, Tensor) and value.ndim in (1, 4) and len(value) == count
    return value[rows] if by_row else value
