"""Exact verification: for a small ReLU network either a proof that a picture stands, or a change that fools it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.attack.attacks import pgd
from saccade.attack.certify.bounds import exact
from saccade.attack.certify.linear_bounds import check_method
from saccade.attack.certify.program import Program, check_exact
from saccade.attack.noise import no_attack
from saccade.attack.question import Budget, check_pictures, check_settings, per_picture
from saccade.engine.guards import evaluating, output_to_error
from saccade.networks.bounds.intervals import Interval, Ranges
from saccade.networks.bounds.lines import Method, lowest_leads, tighten
from saccade.networks.bounds.steps import Tape
from saccade.networks.bounds.tape import record
from saccade.networks.targets import Target, class_indices

OPERATION = "verify"
BORDER = 1e-5  # leads up to here are taken for none: the solver's rows hold to 1e-6
FIRST = 1e9  # the gap at which the search ends: with the first point it has


@dataclass(frozen=True)
class Verdict:
    """What is known of each picture.

    verified: no change within eps and [0, 1] makes another class score as high as the label. fooled: a change does; it
    is in `adversarial`, which is the picture itself elsewhere. Where neither holds, time ran out, or a rival comes
    within rounding of the label and no nearer. seconds: spent on each by the solver.
    """

    verified: Bool[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    adversarial: Float[Tensor, "n c h w"]
    seconds: Float[Tensor, " n"]

    @property
    def undecided(self) -> Bool[Tensor, " n"]:
        return ~self.verified & ~self.fooled


def verify(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    labels: Target,
    eps: Budget,
    *,
    method: Method = "crown",
    attack_steps: int = 40,
    time_limit: float = 60.0,
) -> Verdict:
    """Decide for each picture whether any change of at most eps a value fools the network.

    First PGD, then bounds, and for what is still open a mixed-integer program for each class that may win (Tjeng et
    al. 2019, arXiv:1711.07356), solved by HiGHS. Its time grows exponentially with the ReLUs that may be on or off;
    networks trained on bounds have few. What is called fooled was looked at by the network itself. What is verified
    by the program alone, and not by bounds, is so up to the tolerance of the solver: all leads are then above about
    1e-5, and the rounding of the network is not looked at.

    Args:
        network: as of `certify`, with ReLUs and leaky ReLUs only; in eval mode.
        pictures: float32 or float64 in [0, 1].
        labels: the true class of each picture.
        eps: the most that each value may change, in pixel units; one, or one for each picture.
        method: what bounds the neurons, as of `certify`.
        attack_steps: of PGD; 0 leaves all to the program.
        time_limit: seconds of the solver for each picture.

    Raises:
        SaccadeError: as of `certify`, and for other functions between the affine layers.
    """
    check_method(method, OPERATION)
    check_settings(OPERATION, 0, attack_steps=attack_steps, time_limit=time_limit)
    x = check_pictures(pictures, OPERATION)
    radius = per_picture(eps, x, "eps", OPERATION)
    copied, wide, _, unit = exact(network, x, x, OPERATION)
    copied, wide = copied.cpu(), wide.cpu()
    low, high = ((wide + sign * radius.double().cpu()).clamp(0, 1) for sign in (-1, 1))
    with evaluating(copied):
        tape = record(copied, wide, OPERATION)
        check_exact(tape)
        wanted = class_indices(network, labels, count=len(x), classes=tape.shapes[-1][0]).to(x.device)
        found = (
            pgd(network, x, wanted, eps=radius.flatten(), steps=attack_steps)
            if attack_steps
            else no_attack(network, x, wanted)
        )
        verified, fooled, adversarial = torch.zeros_like(found.success), found.success, found.adversarial
        seconds = torch.zeros(len(x), dtype=torch.float64)
        for i in (~fooled).nonzero()[:, 0].tolist():
            start, row = time.monotonic(), slice(i, i + 1)
            ranges = tighten(tape, Interval(low[row], high[row]), unit, method)
            for z, proved in _answers(tape, ranges, int(wanted[i]), method, start + time_limit):
                seen = x[row] if z is None else z.clamp(low[row], high[row]).to(x)
                if z is not None and no_attack(network, seen, wanted[row]).success:
                    fooled[i], adversarial[i] = True, seen[0]
                    break
                verified[i] = proved
            seconds[i] = time.monotonic() - start
    return Verdict(verified, fooled, adversarial, seconds)


def _answers(
    tape: Tape, ranges: Ranges, label: int, method: Method, end: float
) -> Iterator[tuple[Float[Tensor, "1 c h w"] | None, bool]]:
    """Pictures that may be misread, to be looked at; with the last answer, whether there are none for certain."""
    leads = lowest_leads(tape, ranges, torch.tensor([label]), method)[0]
    rivals = [k for k in leads.argsort().tolist() if k != label and leads[k] <= 0]
    if not rivals:
        yield None, True
        return
    program, proved = Program(tape, ranges), True
    for rival in rivals:
        aim = torch.zeros(1, *tape.shapes[-1], dtype=torch.float64)
        aim[0, label], aim[0, rival] = 1, -1
        with output_to_error():  # HiGHS prints a line at times
            points, none = _solve(program, *program.form(len(tape.steps), aim), end - time.monotonic())
        for pixels in points:
            yield torch.as_tensor(pixels).view(1, *tape.shapes[0]), False
        proved = proved and none
    yield None, proved


def _solve(program: Program, lead: Any, constant: Any, seconds: float) -> tuple[list[Any], bool]:
    """Points at which `lead` is not above the border, to be looked at; and whether there are none for certain."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]

    if seconds <= 0:
        return [], False
    rows = [LinearConstraint(program.widened(m.copy()), low, high) for m, low, high in program.rows]
    rows.append(LinearConstraint(program.widened(lead), -np.inf, BORDER - constant))
    goal, binary = lead.toarray()[0], np.array(program.binary)
    low, high = np.array(program.low), np.array(program.high)
    options = {"time_limit": seconds, "mip_rel_gap": FIRST}
    found = milp(goal, constraints=rows, bounds=Bounds(low, high), integrality=binary, options=options)
    if found.status == 2:
        return [], True
    if found.x is None:
        return [], False
    count = len(program.columns[0])
    chosen = np.where(binary == 1, found.x.round(), 0)  # among the points with the same ReLUs on, the best
    low, high = (np.where(binary == 1, chosen, v) for v in (low, high))
    best = milp(goal, constraints=rows, bounds=Bounds(low, high), options={"time_limit": seconds})
    return [v.x[:count] for v in (best, found) if v.x is not None], False
