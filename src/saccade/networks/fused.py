"""Run a frozen network many times: convolution, batch norm and ReLU in one step.

Values and gradients are those of the network up to rounding; see `folded` for what is gained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all
from torch.overrides import TorchFunctionMode

from saccade.networks.calls import KINDS, tensors
from saccade.networks.folded import Step, convolution, norm_of, settings_of

T = TypeVar("T")

OFTEN = 8
"""Runs of one picture from which on it pays to learn a network first."""


class _Astray(Exception):
    """The network does not run as it did when it was learnt; what it gave in this run is to be thrown away."""


class _Begun(Exception):
    """The first convolution is done."""

    def __init__(self, found: Tensor) -> None:
        self.found = found


@dataclass
class _Start:
    """What leads from the pictures to the first convolution, if it is one affine map of nothing else than them."""

    names: list[str] = field(default_factory=list)
    step: Step | None = None
    closed: bool = False

    @property
    def behind(self) -> list[str]:
        return self.names

    def cut(self, length: int) -> None:  # noqa: ARG002 - as that of a step
        self.closed, self.step = True, None


class Fused(TorchFunctionMode):
    """A frozen network in evaluation mode, run with fewer and faster steps.

    It follows the calls of PyTorch's functions, not the modules, so it serves any network: one run tells which
    convolution is followed by what; from then on these are one step. Nothing of the network is changed or replaced. A
    run that differs from the first is thrown away; from then on the network is run as it is. So is one with hooks,
    which would be given other tensors than usual.

    look: runs the network for pictures, all of it or as far as it will be run; it is called with gradients off.
    x: (1, 3, H, W), a picture to learn from. runs: about how many of one picture are to follow; if few, nothing is
    learnt.
    """

    def __init__(self, network: nn.Module, look: Callable[[Tensor], object], x: Tensor, runs: int) -> None:
        super().__init__()
        self._steps: dict[int, Step] = {}  # by the id of a weight, which the step's sources keep alive
        self._learnt, self._lost = False, runs < OFTEN or _has_hooks(network)
        self._start = _Start()
        self._begun: Tensor | None = None
        self._stops = False
        if self._lost:
            return
        x = x.detach().clone(memory_format=torch.channels_last)  # the other way a CPU runs a single picture slowly
        setattr(x, _MARK, (self._start, 0))
        version = x._version
        with torch.no_grad():
            if self._tried(lambda: (look(x),)) is None:
                return
            for step in self._steps.values():
                step.fold(runs)
        self._learnt = True
        self._lost = x._version > version  # what writes into its pictures cannot be run again

    @property
    def steps(self) -> int:
        """How many convolutions are run in its own way."""
        return 0 if self._lost else len(self._steps)

    def run(self, run: Callable[[], T]) -> T:
        """What `run` gives, which runs the network once."""
        found = self._tried(run)
        return run() if found is None else found

    def begin(self, run: Callable[[], object]) -> Tensor | None:
        """What the first convolution and its norm give in a run, which ends there; differentiable.

        None if that is no affine map of the pictures alone.
        """
        if self._start.step is None:
            return None

        def begun() -> Tensor:
            try:
                run()
            except _Begun as end:
                return end.found
            raise _Astray

        self._stops = True
        try:
            return self._tried(begun)
        finally:
            self._stops = False

    def go_on(self, begun: Tensor, x: Tensor, run: Callable[[], T]) -> T | None:
        """What a run for `x` gives if its first convolution and norm give `begun`; of `x` only the shape matters.

        None if the network cannot be run so any more.
        """

        def whole() -> T:
            found = run()
            if self._begun is not None:
                raise _Astray
            return found

        self._begun = begun
        setattr(x, _MARK, [*self._start.names, "conv"])
        try:
            return self._tried(whole)
        finally:
            self._begun = None

    def _tried(self, run: Callable[[], T]) -> T | None:
        """What a run gives, as it was learnt; None if it cannot be run so."""
        if self._lost:
            return None
        try:
            with self:
                return run()
        except _Astray:
            self._lost = True
        except RuntimeError as error:
            if "view" not in str(error):
                raise
            self._lost = True  # it does not bear maps that lie channels last
        return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LOOKS:
            return func(*args, **kwargs)
        return (self._run if self._learnt else self._learn)(func, args, kwargs)

    def _learn(self, func: Any, args: Any, kwargs: Any) -> Any:
        x: Any = args[0] if args else None
        kind = _kind(func)
        held: Any
        held, place = getattr(x, _MARK, (None, 0)) if isinstance(x, Tensor) else (None, 0)
        started = convolution(*args, **kwargs) if kind == "conv" else None
        norm = norm_of(*args, **kwargs) if kind == "norm" else None
        fits = held is not None and not held.closed and len(held.behind) == place
        if isinstance(held, _Start):
            fits = fits and (started is not None or kind in _AFFINE) and all(other is not x for other in args[1:])
        else:
            fits = fits and (kind == "relu" or (norm is not None and place == 0))
        for tensor in tensors(args, kwargs):
            seen, before = getattr(tensor, _MARK, (None, 0))
            if seen is not None and not (fits and tensor is x):
                seen.cut(before)
        found = func(*args, **kwargs)
        if started is not None:
            known = self._steps.setdefault(id(started.weight), started)
            started.tiles = -(-found.shape[2] // 4) * -(-found.shape[3] // 4)
            if known is not started:  # used for several layers
                known.cut(0)
            elif isinstance(held, _Start) and fits:
                held.step, held.closed = known, True
            setattr(found, _MARK, (known, 0))
        elif fits:
            if isinstance(held, _Start):
                held.names.append(str(kind))
            elif kind == "norm":
                held.norm = norm
            else:
                held.relu = held.closed = True
            setattr(found, _MARK, (held, place + 1))
        return found

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        x: Any = args[0] if args else None
        kind = _kind(func)
        for tensor in tensors(args, kwargs):
            left = getattr(tensor, _MARK, None)
            if left and not (tensor is x and _is_next(left[0], kind, args, kwargs)):
                raise _Astray
        left = getattr(x, _MARK, None) if isinstance(x, Tensor) else None
        if left and kind != "conv":
            left.pop(0)
            return x
        step = self._steps.get(id(args[1])) if kind == "conv" and len(args) > 1 else None
        if step is None:
            return func(*args, **kwargs)
        if not step.is_current() or convolution(*args, **kwargs) is None:
            raise _Astray
        if step is self._start.step and self._stops:
            raise _Begun(step.run(x, settings_of(*args, **kwargs), relu=False))
        if left and self._begun is not None:
            left.pop(0)
            found = self._begun.relu() if step.relu else self._begun.clone()  # what comes next may write into it
            self._begun = None
        else:
            found = step.run(x, settings_of(*args, **kwargs), step.relu)
        setattr(found, _MARK, step.behind)
        return found


def _has_hooks(network: nn.Module) -> bool:
    looks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(hooks_of_all, f"_global{name}", None) for name in looks):
        return True
    return any(getattr(layer, name) for layer in network.modules() for name in looks)


_MARK = "_saccade_fused"
"""On a tensor, while learning: what it is a part of, and how many of the steps there are done. Then: those to come."""

_LOOKS = {Tensor.dim, Tensor.size, Tensor.numel, Tensor.is_floating_point}
_LOOKS |= {getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")}
"""Functions that see no values."""

_AFFINE = {"sub", "add", "mul", "div", "__sub__", "__add__", "__mul__", "__truediv__"}
"""Names of functions that are affine in the first argument, if that is no part of the others."""


def _kind(func: Any) -> str | None:
    name = getattr(func, "__name__", None)
    return KINDS.get(func) or (name if name in _AFFINE else None)


def _is_next(behind: Tensor | str, kind: str | None, args: Any, kwargs: Any) -> bool:
    if isinstance(behind, str):
        return kind == behind
    given = norm_of(*args, **kwargs) if kind == "norm" else None
    return given is not None and given["running_mean"] is behind
