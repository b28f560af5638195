"""What lies behind a layer, run alone: the score of one picture as a function of the layer's activations.

No one can tell where the forward code of any network continues behind a layer. So all of it is run, but every module
that was called before the layer gives out what it gave for the picture, at no cost, and the layer gives out the
activations that are asked about. Only what no module does before the layer (the sum in a residual block that the layer
is a part of, say) is computed again. Skips around the layer are right, and so are modules that work in place or run
several times.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.explain.cam import check_maps, did_not_run
from saccade.explain.question import Question, Unit
from saccade.networks.activations import activations
from saccade.networks.network import Network


@dataclass
class _Given:
    """What a module gave out in a call, and a copy of it from then.

    version: how often it had been written into. written: code outside of modules wrote into it later.
    """

    module: nn.Module
    output: Any
    copy: Any
    version: int
    written: bool = False


class Head:
    """The score of picture `row` of a question by the activations of `layer`, (m, C, h, w) -> (m,).

    Made under `torch.no_grad`, by one run of the network for that picture. activation, score: what the layer and the
    network give for it, (1, C, h, w) and (1,). replays: False if what the modules gave could not be used again (the
    network draws random numbers or keeps a state, for example); then the whole network is run every time.
    """

    activation: Tensor

    def __init__(self, question: Question, layer: nn.Module, row: int) -> None:
        self.question, self.layer, self.row = question, layer, row
        network = question.network
        self._inner = network.module if isinstance(network, Network) else network  # saves normalising m times
        self._x = self._inner_x = question.x[row : row + 1]
        self._runs = 0
        self._given: list[_Given] = []
        self.score = self._record()
        self.replays = True
        self.replays = self._agrees()

    def __call__(self, activation: Float[Tensor, "m c a b"]) -> Float[Tensor, " m"]:
        """The scores if the layer gave `activation`, which may be written into."""
        with self._put(activation):
            if not self.replays:
                return self._read(self.question.network, self._x.repeat(len(activation), 1, 1, 1))
            with self._standing_in(len(activation)):
                return self._read(self._inner, self._inner_x.expand(len(activation), -1, -1, -1))

    def _read(self, network: nn.Module, x: Tensor) -> Tensor:
        target = self.question.target
        if isinstance(target, Unit):
            return target.read(activations(network, x, [target.layer])[target.layer])
        rows = torch.full((len(x),), self.row, device=x.device)
        return self.question.read(network(x), rows)

    def _agrees(self) -> bool:
        """Whether two rows of the picture's own activations have the picture's score."""
        try:
            scores = self(self.activation.repeat(2, 1, 1, 1))
        except Exception:  # code outside of modules does something unforeseen; if it is a fault, the whole run says so
            return False
        near = torch.finfo(scores.dtype).eps ** 0.5
        return torch.allclose(scores, self.score.expand(2), rtol=near, atol=near, equal_nan=True)

    def _record(self) -> Tensor:
        """Run the network for the picture; keep what the modules before the layer gave. Returns the score."""
        around = {part for part in self._inner.modules() if any(self.layer is inner for inner in part.modules())}
        parts = [part for part in self._inner.modules() if part not in around] + [self.layer]
        given: list[_Given] = []
        depth, last = 0, 0  # how many of the parts are being run; how many outputs there were with the layer's last

        def note_writes() -> None:
            for one in given:
                one.written |= _version(one.output) != one.version

        def enter(part: nn.Module, inputs: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            nonlocal depth
            if depth == 0:
                note_writes()
            depth += 1

        def leave(part: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            nonlocal depth, last
            depth -= 1
            if depth == 0:
                if self._runs == 0:  # a part that wrote into these will not run again, only those behind the layer will
                    for one in given:
                        one.version = _version(one.output)
                copy = output.clone() if isinstance(output, Tensor) else output
                given.append(_Given(part, output, copy, _version(output)))
            if part is self.layer:
                check_maps(self.question, part, output, 1)
                self.activation, last = output.clone(), len(given)
                self._runs += 1

        def begin(inner: nn.Module, inputs: Any) -> None:  # noqa: ARG001
            self._inner_x = inputs[0].clone()

        hooks = [part.register_forward_pre_hook(enter) for part in parts]
        hooks += [part.register_forward_hook(leave) for part in parts]
        hooks += [self._inner.register_forward_pre_hook(begin)]
        try:
            score = self._read(self.question.network, self._x)
        finally:
            for hook in hooks:
                hook.remove()
        if self._runs == 0:
            raise did_not_run(self.question, self.layer)
        note_writes()
        self._given = [one for one in given[:last] if isinstance(one.output, Tensor) and one.output.shape[:1] == (1,)]
        for one in self._given:
            one.output = None
        if self._given and self._given[-1].module is self.layer:
            self._given[-1].written = False  # what was put in its place will be written into instead
        return score

    @contextmanager
    def _put(self, activation: Tensor) -> Iterator[None]:
        """While it lasts, the layer's last run gives `activation`."""
        runs = 0

        def put(layer: nn.Module, inputs: Any, output: Any) -> Tensor | None:  # noqa: ARG001
            nonlocal runs
            runs += 1
            return activation if runs == self._runs else None

        hook = self.layer.register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def _standing_in(self, count: int) -> Iterator[None]:
        """While it lasts, the modules before the layer, and it, give what they gave, for `count` rows."""
        parts = {one.module for one in self._given}
        own = {part: vars(part).get("forward") for part in parts}
        try:
            for part in parts:
                vars(part)["forward"] = _stand_in(part, [one for one in self._given if one.module is part], count)
            yield
        finally:
            for part, forward in own.items():
                vars(part).pop("forward", None)
                if forward is not None:
                    vars(part)["forward"] = forward


def _stand_in(module: nn.Module, given: list[_Given], count: int) -> Callable[..., Any]:
    """Instead of a module's `forward`: what it gave, call by call; then it runs again, as it also lies behind."""
    forward, left = module.forward, iter(given)

    def run(*inputs: Any, **keywords: Any) -> Any:
        one = next(left, None)
        if one is None:
            return forward(*inputs, **keywords)
        rows = one.copy.expand(count, *one.copy.shape[1:])  # takes no memory, and cannot be written into
        return rows.clone() if one.written or count == 1 else rows

    return run


def _version(output: Any) -> int:
    """Rises whenever a tensor is written into."""
    return output._version if isinstance(output, Tensor) else 0
