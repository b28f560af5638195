"""The one loop that grows pictures under an objective."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.seeding import generator
from saccade.engine.slope import slope
from saccade.errors import SaccadeError
from saccade.pictures.geometry import resize
from saccade.pictures.optimise.parametrise import Parametrisation, Pixels
from saccade.pictures.optimise.projections import Projection
from saccade.pictures.optimise.steps import Adam, Rule, State
from saccade.pictures.optimise.transforms import Transform

OPERATION = "optimise pictures"

Score = Callable[[Tensor], Tensor]
"""Pictures (N, 3, H, W) to one number each, (N,)."""


@dataclass(frozen=True)
class Moment:
    """What a callback is told after a step.

    step: how many are done, of `steps` in all. score: (N,), objective minus penalty before this step.
    """

    step: int
    steps: int
    score: Float[Tensor, " n"]
    _values: Tensor
    _parametrise: Parametrisation

    @property
    def pictures(self) -> Float[Tensor, "n 3 h w"]:
        """The pictures as they are now; they may overshoot [0, 1] if nothing holds them there."""
        with torch.no_grad():
            return self._parametrise.pictures(self._values).clone()


@dataclass(frozen=True)
class Stage:
    """Some steps at one size: (height, width). `objective` stands for that of the run, if given."""

    size: tuple[int, int]
    steps: int
    objective: Score | None = None


def optimise(
    objective: Score,
    start: Tensor,
    *,
    steps: int = 1,
    rule: Rule = Adam(0.05),  # noqa: B008 - it holds no state
    parametrise: Parametrisation = Pixels(),  # noqa: B008
    transforms: Sequence[Transform] = (),
    penalty: Score | None = None,
    projections: Sequence[Projection] = (),
    octaves: int = 1,
    octave_scale: float = 1.4,
    stages: Sequence[Stage] | None = None,
    average: float = 0.0,
    stop: Callable[[Moment], bool] | None = None,
    seed: int = 0,
    callback: Callable[[Moment], None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
) -> Float[Tensor, "n 3 h w"]:
    """Change pictures step by step so that `objective` rises; every picture by its own gradient.

    Args:
        objective: pictures (N, 3, h, w), transformed, to one number each, (N,), to be maximised. It knows whatever
            network there is; the loop does not.
        start: pictures (N, 3, H, W) to begin with, usually in [0, 1]; neither changed nor kept.
        steps: how many in each octave.
        rule: how a step is made of a gradient, see `steps`.
        parametrise: which numbers are stepped, see `parametrise`.
        transforms: applied in turn before the objective, their random numbers by (seed, step).
        penalty: subtracted from the objective; it sees the pictures before they are transformed.
        projections: applied in turn to the values after each step.
        octaves: sizes to work through, from small to that of `start`, each `octave_scale` times the one before. What
            has grown is enlarged and laid over the start of the next size.
        stages: instead of `steps` and octaves, what to do at which sizes, one after the other. A stage of the size of
            the one before goes on with its state, as far as that holds for another objective.
        average: decay of a running mean of the values over the steps of a size, which is what has grown there; 0 takes
            the last values.
        stop: asked after each step; True ends the run, whose checkpoint stays to go on from.
        callback: called after each step with a `Moment`.
        checkpoint: a file written before every `checkpoint_every`-th step, taken up again if it is there, and
            removed at the end. The result is that of an uninterrupted run.

    Returns:
        Pictures of the shape, dtype and device of `start`, detached.

    Raises:
        SaccadeError: a shape is wrong, the objective does not depend on the pictures, is not finite, or the
            checkpoint belongs to another run.
    """
    _check(start, steps, octaves, octave_scale, checkpoint_every)
    with torch.inference_mode(False), torch.enable_grad():
        start = start.detach().clone()
        if stages is None:
            stages = [Stage(_smaller(start, octave_scale**k), steps) for k in reversed(range(octaves))]
        plan = [(stage, within) for stage in stages for within in range(stage.steps)]
        file = Path(checkpoint) if checkpoint is not None else None
        settings = [(stage.size, stage.steps) for stage in stages]
        kept = {"run": _name(start, settings, rule, parametrise, average, seed)} if file else {}
        done, run, expected = _take_up(file, kept, start)
        stopped = False
        for step in range(done, len(plan)):
            stage, within = plan[step]
            if run is None or run.size != stage.size:
                run = _enter(run, stage.size, start, parametrise, rule)
            elif within == 0:
                run.values, run.state = rule.settle(run.values, run.state), rule.renewed(run.state)
            random = generator(seed, 1, step)
            score, gradient = _slope(stage.objective or objective, penalty, parametrise, transforms, run.values, random)
            _check_finite(score, gradient, step)
            if expected is not None and step == done and not torch.allclose(score, expected, rtol=1e-3, atol=1e-4):
                raise SaccadeError(f"Could not go on from {file}: it was written for another objective. Delete it.")
            if file is not None and step > done and (stopped or step % checkpoint_every == 0):
                save_checkpoint(file, {**kept, "step": step, "score": score, **vars(run)})
            if stopped:
                break
            with torch.no_grad():
                run.values = rule(run.values, score, gradient, run.state)
                for project in projections:
                    run.values = project(run.values, gradient, within)
                if average:
                    run.trail = _averaged(run.trail, run.values, average)
            moment = Moment(step + 1, len(plan), score, run.values, parametrise)
            if callback is not None:
                callback(moment)
            stopped = stop is not None and step + 1 < len(plan) and stop(moment)
            if stopped and file is None:
                break  # with a file, one more look tells what a run that goes on must find
        with torch.no_grad():
            assert run is not None
            found = parametrise.pictures(_grown(run, rule))
            if found.shape != start.shape:
                found = _over(found, start)
            found = found.clone(memory_format=torch.contiguous_format)
    if file is not None and not stopped:
        file.unlink(missing_ok=True)
    return found


@dataclass
class _Run:
    """What changes from step to step. trail: the sums of a running mean, if there is one."""

    size: tuple[int, int]
    values: Tensor
    state: State
    trail: tuple[Tensor, float] | None = None


def _averaged(trail: tuple[Tensor, float] | None, values: Tensor, decay: float) -> tuple[Tensor, float]:
    if trail is None:
        return values * (1 - decay), 1 - decay
    total, weight = trail
    return total.lerp_(values, 1 - decay), weight * decay + (1 - decay)


def _grown(run: _Run, rule: Rule) -> Tensor:
    """The values that a size ends with."""
    if run.trail is not None:
        total, weight = run.trail
        return total / weight
    return rule.settle(run.values, run.state)


def _slope(
    objective: Score,
    penalty: Score | None,
    parametrise: Parametrisation,
    transforms: Sequence[Transform],
    values: Tensor,
    random: torch.Generator,
) -> tuple[Float[Tensor, " n"], Tensor]:
    """Objective minus penalty for each picture, and its gradient by the values."""
    values = values.detach().requires_grad_()
    pictures = seen = parametrise.pictures(values)
    for transform in transforms:
        seen = transform(seen, random)
    score = objective(seen)
    if not isinstance(score, Tensor) or score.shape != pictures.shape[:1]:
        given = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise SaccadeError(
            f"Could not optimise pictures: the objective gives {given}, expected one number for each of {len(values)}."
        )
    if penalty is not None:
        score = score - penalty(pictures)
    return score.detach(), slope(score, values, OPERATION)


def _enter(run: _Run | None, size: tuple[int, int], start: Tensor, parametrise: Parametrisation, rule: Rule) -> _Run:
    """The values and the state that a size begins with: its start, plus what has grown at the size before."""
    pictures = _resized(start, size)
    if run is None:
        return _Run(size, parametrise.values(pictures).detach().clone(), {})
    with torch.no_grad():
        pictures = _over(parametrise.pictures(_grown(run, rule)), pictures, start)
        state = rule.carry(run.state, lambda values: _resized(values, size))
    return _Run(size, parametrise.values(pictures).detach().clone(), state)


def _over(grown: Tensor, pictures: Tensor, start: Tensor | None = None) -> Tensor:
    """Pictures of one size with what has grown at another laid over them, as a difference to the start there."""
    before = (grown.shape[2], grown.shape[3])
    change = grown - _resized(pictures if start is None else start, before)
    return pictures + _resized(change, (pictures.shape[2], pictures.shape[3]))


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return resize(pictures, size, method="bilinear")


def _smaller(start: Tensor, factor: float) -> tuple[int, int]:
    """Height and width divided by a factor, even if they were so: a spectrum needs an even width."""
    h, w = (max(2, 2 * round(side / factor / 2)) if factor != 1 else side for side in start.shape[2:])
    return h, w


def _take_up(file: Path | None, kept: dict[str, str], start: Tensor) -> tuple[int, _Run | None, Tensor | None]:
    """Steps done, what there was, and the score to expect, from a checkpoint if there is one."""
    if file is None or not file.exists():
        return 0, None, None
    saved = load_checkpoint(file, device=start.device)
    if saved.get("run") != kept["run"]:
        raise SaccadeError(
            f"Could not go on from {file}: it was written for another start, or with other settings. Give those, or "
            "delete it."
        )
    return saved["step"], _Run(saved["size"], saved["values"], saved["state"], saved["trail"]), saved["score"]


def _name(start: Tensor, *settings: object) -> str:
    """A hash that tells runs apart; what the objective is, it does not know."""
    digest = hashlib.sha256(repr((tuple(start.shape), str(start.dtype), [_said(one) for one in settings])).encode())
    digest.update(start.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _said(one: object) -> str:
    return repr(one) if isinstance(one, int | float | list) or is_dataclass(one) else type(one).__name__


def _check(start: Tensor, steps: int, octaves: int, octave_scale: float, checkpoint_every: int) -> None:
    if not isinstance(start, Tensor) or start.ndim != 4 or start.shape[1] != 3 or not start.is_floating_point():
        given = f"{start.dtype} of shape {tuple(start.shape)}" if isinstance(start, Tensor) else type(start).__name__
        raise SaccadeError(
            f"Could not optimise pictures: the start is {given}, expected floats (n, 3, height, width) in [0, 1]."
        )
    if not torch.isfinite(start).all():
        raise SaccadeError("Could not optimise pictures: the start holds values that are not finite.")
    for name, value in (("steps", steps), ("octaves", octaves), ("checkpoint_every", checkpoint_every)):
        if value < 1:
            raise SaccadeError(f"Could not optimise pictures: {name} is {value}, expected 1 or more.")
    if octave_scale <= 1:
        raise SaccadeError(f"Could not optimise pictures: octave_scale is {octave_scale}, expected more than 1.")


def _check_finite(score: Tensor, gradient: Tensor, step: int) -> None:
    fine = torch.isfinite(score) & torch.isfinite(gradient.flatten(1).sum(1))  # a fiftieth of the time of all values
    if not fine.all():
        which = int((~fine).nonzero()[0])
        what = "the objective" if not torch.isfinite(score[which]) else "its gradient"
        raise SaccadeError(
            f"Could not optimise pictures: {what} is not finite for picture {which} at step {step + 1}. A smaller rate "
            "of the step, or an objective that is finite everywhere, mends this."
        )
