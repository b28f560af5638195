"""What every attribution asks: how much does a network say of something in its pictures?

A `Question` turns whatever a person may point at (a class, a function of the scores, a unit inside the network) into
one function, pictures in, one number a picture out. Every method of this room is written against it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.engine.guards import differentiable
from saccade.engine.slope import slope
from saccade.errors import SaccadeError
from saccade.networks.activations import activations, find_layer
from saccade.networks.fused import Fused
from saccade.networks.layout import memory_layout
from saccade.networks.targets import check_input, class_indices


class MapWarning(UserWarning):
    """A map says nothing, or cannot be trusted: it is constant, or not finite."""


@dataclass(frozen=True)
class Unit:
    """A neuron or a channel as a target: what it gives out, instead of a class score.

    layer: its dotted name. channel: counted from 0. place: (row, column) of one neuron; None takes the mean of the
    channel's map. Units of flat layers, (N, C), have no place.
    """

    layer: str
    channel: int
    place: tuple[int, int] | None = None

    def read(self, output: Tensor) -> Float[Tensor, " n"]:
        """This unit's value in an output (N, C) or (N, C, h, w) of its layer."""
        said = f"the unit {self.layer}:{self.channel}"
        if output.ndim < 2 or not 0 <= self.channel < output.shape[1]:
            raise SaccadeError(f"There is no {said[4:]}: the layer gives {tuple(output.shape)}, (n, channels, ...).")
        map = output[:, self.channel]
        if self.place is None:
            return map.flatten(1).mean(1) if map.ndim > 1 else map
        if map.ndim != 3 or not (0 <= self.place[0] < map.shape[1] and 0 <= self.place[1] < map.shape[2]):
            raise SaccadeError(f"{said.capitalize()} has no place {self.place}: its map is {tuple(map.shape[1:])}.")
        return map[:, self.place[0], self.place[1]]


Target = int | str | Sequence[int | str] | Tensor | Unit | Callable[[Tensor], Tensor]
"""What is explained: a class as index or name, for all pictures; a sequence or integer tensor (N,) with one for each;
a `Unit`; or any function of the network's output (M, C) that gives one number a picture, (M,).

The word k of a caption is the class k of `captioner.reading(words)`, see there."""


class Question:
    """How much a network says of a target; made by `asking`.

    network: frozen, in evaluation mode. x: the pictures, (N, 3, H, W), detached. operation: begins error messages.
    """

    def __init__(self, network: nn.Module, pictures: Tensor, target: Target, operation: str) -> None:
        self.network, self.operation = network, operation
        self.x = pictures.detach().clone(memory_format=memory_layout(network, pictures.shape))
        self.target: Target = target
        self._wanted: Tensor | None = None
        self._fused: Fused | None = None

    def learn(self, runs: int) -> None:
        """Prepare to run the network often, for about as many pictures as `runs`; see `networks.fused`."""
        self._fused = Fused(self.network, self._output, self.x[:1], runs)

    def scores(self, x: Float[Tensor, "m 3 h w"]) -> Tensor:
        """All that the network gives for `x`."""
        return self._run(lambda: self.network(x))

    def score(self, x: Float[Tensor, "m 3 h w"], rows: Int[Tensor, " m"] | None = None) -> Float[Tensor, " m"]:
        """What the network says of the target in `x`; differentiable if `x` is.

        rows: which of the N pictures each row of `x` was made from, as each may have its own class; by default `x` has
        as many rows as there are pictures, in their order.
        """
        return self._said(self._run(lambda: self._output(x)), rows)

    def begin(self, x: Float[Tensor, "m 3 h w"]) -> Tensor | None:
        """What the first convolution and its norm make of `x`, differentiable.

        None if that is no affine map of the pictures alone, or not learnt.
        """
        return None if self._fused is None else self._fused.begin(lambda: self._output(x))

    def gradient_behind(self, begun: Tensor, rows: Int[Tensor, " m"]) -> Tensor | None:
        """The gradient of the score by what `begin` gave; None if the network goes another way now."""
        if self._fused is None:
            return None
        begun = begun.detach().requires_grad_()
        x = self.x[:1].expand(len(begun), -1, -1, -1)
        found = self._fused.go_on(begun, x, lambda: self._output(x))
        return None if found is None else self.slope(self._said(found, rows), begun)

    def _run(self, run: Callable[[], Tensor]) -> Tensor:
        return run() if self._fused is None else self._fused.run(run)

    def _output(self, x: Tensor) -> Tensor:
        """What the target is read from."""
        if isinstance(self.target, Unit):
            return activations(self.network, x, [self.target.layer])[self.target.layer]
        found: Tensor = self.network(x)
        return found

    def _said(self, output: Tensor, rows: Tensor | None) -> Tensor:
        return self.target.read(output) if isinstance(self.target, Unit) else self.read(output, rows)

    def read(self, scores: Tensor, rows: Int[Tensor, " m"] | None = None) -> Float[Tensor, " m"]:
        """The target in the network's output for rows of pictures; not for a `Unit`, which lies inside."""
        if callable(self.target):
            said = self.target(scores)
            if not isinstance(said, Tensor) or said.shape != scores.shape[:1]:
                given = tuple(said.shape) if isinstance(said, Tensor) else type(said).__name__
                raise SaccadeError(
                    f"Could not {self.operation}: the target function gives {given}, expected one number a picture, "
                    f"({len(scores)},)."
                )
            return said
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise SaccadeError(
                f"Could not {self.operation}: the network gives {given}, expected scores (N, classes). Give the "
                "classifier, not a part of it, or a function of its output as the target."
            )
        if self._wanted is None:
            wanted = class_indices(self.network, self.target, count=len(self.x), classes=scores.shape[1])  # type: ignore[arg-type]
            self._wanted = wanted.to(scores.device)
        wanted = self._wanted if rows is None else self._wanted[rows]
        if len(scores) != len(wanted):
            raise SaccadeError(f"Could not {self.operation}: {len(scores)} rows of scores for {len(wanted)} pictures.")
        return scores.gather(1, wanted[:, None])[:, 0]

    def gradient(
        self, x: Float[Tensor, "m 3 h w"], rows: Int[Tensor, " m"] | None = None
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m 3 h w"]]:
        """The score and its gradient by `x`, both detached."""
        x = x.detach().requires_grad_()
        score = self.score(x, rows)
        return score.detach(), self.slope(score, x)

    def slope(self, score: Float[Tensor, " m"], by: Tensor) -> Tensor:
        """The gradient of each row's score by its own row of `by`: of the sum, as rows do not depend on each other."""
        return slope(score, by, self.operation)


@contextmanager
def asking(network: nn.Module, pictures: Tensor, target: Target, operation: str) -> Iterator[Question]:
    """Check the pictures, freeze the network in evaluation mode, turn gradients on; everything is put back afterwards.

    operation: what is being done, as in "compute a saliency map". Raises `SaccadeError` for pictures that are no
    floats (N, 3, H, W) or not finite, and for a unit of a layer that is not there.
    """
    check_input(pictures, operation)
    if isinstance(target, Unit):
        find_layer(network, target.layer)
    with differentiable(network):
        yield Question(network, pictures, target, operation)


def finished(found: Float[Tensor, "n ..."], operation: str) -> Float[Tensor, "n ..."]:
    """The result of a method, detached and contiguous; warns (`MapWarning`) of maps that are constant or not finite."""
    found = found.detach().contiguous()
    flat = found.flatten(1)
    finite = torch.isfinite(flat).all(1)
    constant = finite & (flat.amax(1) == flat.amin(1)) if flat.shape[1] > 1 else torch.zeros_like(finite)
    for bad, what in ((~finite, "holds values that are not finite"), (constant, "is constant, it says nothing")):
        if bad.any():
            which = ", ".join(str(i) for i in bad.nonzero()[:8, 0].tolist())
            warnings.warn(f"{operation}: the map of picture {which} {what}.", MapWarning, stacklevel=3)
    return found
