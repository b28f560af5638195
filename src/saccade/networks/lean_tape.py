"""What a network does to pictures, recorded for `saccade.networks.lean`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Back = Callable[[Sequence[Any], Sequence[Tensor], bool], Sequence[Tensor | None]]
"""The gradients of what came out, what was kept, and whether the first may be written into -> those of what went in."""

_SERIAL = count()


@dataclass
class Step:
    """Something that was done. sources, targets: the places of what went in and came out.

    kept: tensors for the way back; `count` of them. fresh: nobody else holds the gradients that `back` gives.
    """

    sources: Sequence[int | None]
    targets: Sequence[int]
    back: Back
    kept: tuple[Tensor, ...] = field(default=(), repr=False)
    count: int = 0
    fresh: bool = True


class Tape(TorchFunctionMode):
    """Records what is done to pictures while it is entered, if `recorded`, and where a network does not forbid it.

    own: operations with a way of their own: functions of the tape and of what is given to the operation, which give
    its result, or None to leave it to autograd. A tensor that depends on the pictures has a place, noted on it: a
    number, so that nothing is kept for it.
    """

    def __init__(self, lean: Any, own: Mapping[Any, Callable[..., Tensor | None]], recorded: bool) -> None:
        super().__init__()
        self.lean, self.own, self.recorded = lean, own, recorded
        self.recording = recorded  # what is done just now
        self.steps: list[Step] = []
        self.shared = False  # the next ReLU is one of those that share
        self._serial, self._places = next(_SERIAL), count()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.recording = self.recorded and torch.is_grad_enabled()
        own = self.own.get(func)
        if own is not None:
            with torch.no_grad():
                found = own(self, *args, **kwargs)
            if found is not None:
                return found
        return self._by_autograd(func, args, kwargs)

    @contextmanager
    def sharing(self, layers: Iterable[nn.Module]) -> Iterator[None]:
        """While it is entered, ReLUs among `layers` keep their output itself: the caller keeps it, too."""

        def begin(layer: nn.Module, given: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            self.shared = True

        hooks = [layer.register_forward_pre_hook(begin) for layer in layers if isinstance(layer, nn.ReLU)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def begin(self, tensor: Tensor) -> Tensor:
        """Gives a tensor a place; the first is 0."""
        return self._at(tensor, next(self._places))

    def place(self, tensor: Any) -> int | None:
        serial, place = getattr(tensor, "_saccade_place", (None, None))
        return place if serial == self._serial else None

    def add(self, found: Tensor, source: Tensor, back: Back, *kept: Tensor) -> Tensor:
        """Records how `found` came from `source`."""
        place = self.place(source)
        if self.recording and place is not None:
            self.begin(found)
            self.steps.append(Step([place], [self.place(found) or 0], back, kept, len(kept)))
        return found

    def join(self, found: Tensor, sources: Sequence[Tensor], back: Back) -> Tensor:
        """Records how `found` came from several; what `back` gives are views of one gradient."""
        self.begin(found)
        self.steps.append(Step([self.place(one) for one in sources], [self.place(found) or 0], back, fresh=False))
        return found

    def lowered(self, output: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor in another dtype; what a step kept of it in that is used."""
        place = self.place(output)
        if output.dtype == dtype:
            return output
        kept = next((step.kept for step in self.steps if [place] == step.targets), ())
        same = next((one for one in kept if one.dtype == dtype and one.shape == output.shape), None)
        found = output.to(dtype) if same is None else same.view_as(same)
        return found if place is None else self._at(found, place)

    def _at(self, tensor: Tensor, place: int) -> Tensor:
        tensor._saccade_place = (self._serial, place)  # type: ignore[attr-defined]
        return tensor

    def _by_autograd(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation that goes through autograd, by itself."""
        given: dict[int, Tensor] = {}
        if self.recording:
            _mapped((args, kwargs), lambda one: given.setdefault(id(one), one) if self.place(one) is not None else one)
        if not given:
            return func(*args, **kwargs)
        leaves = {key: one.detach().requires_grad_() for key, one in given.items()}
        changed = args[0] if args and _changes(func, kwargs) else None
        inside = dict(leaves)
        if changed is not None:
            inside[id(changed)] = leaves.get(id(changed), changed).clone()
        args, kwargs = _mapped((args, kwargs), lambda one: inside.get(id(one), one))
        result = func(*args, **kwargs)
        result = result if changed is None else inside[id(changed)]
        made: dict[int, Tensor] = {}
        _mapped(result, lambda one: made.setdefault(id(one), one) if one.requires_grad else one)
        if not made:
            return result
        out = {key: self.begin(one.detach()) for key, one in made.items()}
        places = [self.place(one) or 0 for one in out.values()]
        back = _autograd(list(made.values()), list(leaves.values()))
        self.steps.append(Step([self.place(one) for one in given.values()], places, back, fresh=False))
        if changed is not None:  # whoever goes on with the tensor that was given finds it changed
            changed.data = out[id(result)]
            return self._at(changed, places[0])
        return _mapped(result, lambda one: out.get(id(one), one))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What is given or given back, with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([_mapped(one, change) for one in value])
    if isinstance(value, dict):
        return {key: _mapped(one, change) for key, one in value.items()}
    return value


def _autograd(made: list[Tensor], leaves: list[Tensor]) -> Back:
    def back(gradients: Sequence[Any], kept: Sequence[Tensor], fresh: bool) -> Sequence[Tensor | None]:  # noqa: ARG001
        pairs = [(one, gradient) for one, gradient in zip(made, gradients, strict=True) if gradient is not None]
        outputs, given = [one for one, _ in pairs], [gradient.to(one.dtype) for one, gradient in pairs]
        return torch.autograd.grad(outputs, leaves, given, retain_graph=True, allow_unused=True)

    return back


def _changes(func: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation writes into what it is given first."""
    name = getattr(func, "__name__", "")
    inside = name.startswith("__i") and name.endswith("__") and name not in ("__index__", "__int__", "__invert__")
    named = inside or name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    return named or bool(kwargs.get("inplace"))
