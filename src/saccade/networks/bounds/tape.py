"""A network's steps, from pictures to scores.

`record` runs the network once and notes every operation that its pictures go through, however the network calls it, as
a layer, as a function or in place. Anything that has no rule is refused, as a step that is left out would make every
certificate wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.errors import SaccadeError
from saccade.networks.bounds.rules import ABOUT, INPLACE, RULES
from saccade.networks.bounds.steps import Step, Tape
from saccade.networks.bounds.tracked import Tracked, Unknown


def record(network: nn.Module, pictures: Float[Tensor, "n c h w"], operation: str) -> Tape:
    """The tape of `network` for pictures of this size. Gradients reach its weights where they are turned on.

    Raises `SaccadeError` that names what of the network has no bounds here: operations between pictures, products and
    quotients of features, functions that rise and fall, batch norm in train mode.
    """
    pair = pictures[:1].detach().repeat(2, 1, 1, 1)  # two, so that what mixes pictures shows in its shape
    return _recorded(network, pair, operation, batch=False)[0]


def record_batch(
    network: nn.Module, pictures: Float[Tensor, "n c h w"], operation: str
) -> tuple[Tape, Float[Tensor, "n classes"]]:
    """The tape of `network`, and its scores of these pictures, of two or more.

    As `record`, but batch norm in train mode is taken, too: with the statistics of these pictures, as a map that does
    not depend on them.
    """
    return _recorded(network, pictures.detach().clone(), operation, batch=True)


def _recorded(network: nn.Module, pictures: Tensor, operation: str, *, batch: bool) -> tuple[Tape, Tensor]:
    recorder = _Recorder(operation, len(pictures), batch=batch)
    recorder.note(pictures, 0)
    with recorder.naming(network), recorder:
        scores = network(pictures)
    node = recorder.find(scores) if isinstance(scores, Tensor) else None
    if node is None or scores.ndim != 2:
        raise SaccadeError(f"Could not {operation}: the network gave no scores (n, classes) that depend on its input.")
    steps, shapes = recorder.steps[:node], recorder.shapes[: node + 1]
    return Tape(tuple(steps), tuple(shapes)), scores


class _Recorder(TorchFunctionMode):
    """Runs every operation as it is, and appends a step for each that has a noted tensor among its arguments."""

    def __init__(self, operation: str, count: int, *, batch: bool) -> None:
        super().__init__()
        self.operation, self.count, self.batch = operation, count, batch
        self.steps: list[Step] = []
        self.shapes: list[tuple[int, ...]] = []
        self.layers: list[str] = []
        self._nodes: dict[int, tuple[Tensor, int, int]] = {}

    def note(self, tensor: Tensor, node: int) -> None:
        self._nodes[id(tensor)] = (tensor, node, tensor._version)  # the tensor is kept so that no other gets its id
        self.shapes.append(tuple(tensor.shape[1:]))

    def find(self, value: Any) -> int | None:
        """The node that a tensor holds; None for a constant."""
        kept = self._nodes.get(id(value))
        if kept is None:
            return None
        if kept[0]._version != kept[2]:
            raise self.refusal("a tensor that was changed in place through another one")
        return kept[1]

    def refusal(self, what: str) -> SaccadeError:
        where = f" in {self.layers[-1]}" if self.layers else ""
        return SaccadeError(
            f"Could not {self.operation}: the network runs {what}{where}, for which there are no bounds; bounds exist "
            "for convolutions, linear layers, batch norm in eval mode, sums, monotone activations and pools."
        )

    @contextmanager
    def naming(self, network: nn.Module) -> Iterator[None]:
        """While it is entered, the layer that runs is known by its name and kind."""

        def begin(name: str) -> Any:
            return lambda layer, _: self.layers.append(f"{name or 'the network'} ({type(layer).__name__})")

        def end(layer: nn.Module, given: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            self.layers.pop()

        hooks = [h for name, layer in network.named_modules() for h in _hooks(layer, begin(name), end)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        flat = [v for value in given for v in (value if isinstance(value, (list, tuple)) else [value])]
        if not any(isinstance(value, Tensor) and id(value) in self._nodes for value in flat):
            return func(*args, **kwargs)
        if func.__name__ in ABOUT:
            out = func(*args, **kwargs)
            if isinstance(out, Tensor):
                raise self.refusal(f"an access to {getattr(func, '__self__', func)}")
            return out
        nodes = {id(value): self.find(value) for value in flat if isinstance(value, Tensor)}
        known = {key: node for key, node in nodes.items() if node is not None}
        rule = RULES.get(func.__name__.rstrip("_") if func.__name__ in INPLACE else func.__name__)
        if rule is None or "out" in kwargs:
            raise self.refusal(f"{func.__name__!r}")
        tracked = Tracked(known, self.batch)
        try:
            made = rule(tracked, *args, **kwargs)
        except (Unknown, TypeError):
            made = None
        if made is None:
            raise self.refusal(f"{func.__name__!r} with such arguments")
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != self.count:
            raise self.refusal(f"{func.__name__!r}, which mixes pictures,")
        self.steps.append(made)
        self.note(out, len(self.steps))
        return out


def _hooks(layer: nn.Module, begin: Any, end: Any) -> list[Any]:
    return [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]
