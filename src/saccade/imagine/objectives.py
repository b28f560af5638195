"""What a picture is grown for: objectives as values that add, subtract and scale.

    Class("tabby") + 0.1 * Channel("stage3.unit2", 5)
    Channel("stage4.unit1", 7) + 5 * Diversity("stage4.unit1")

`objective.of(network)` is a function of pictures, (N, 3, H, W) -> (N,), to be maximised. Whatever an objective reads of
the network comes from one forward that stops at the deepest layer it needs. Olah, Mordvintsev, Schubert 2017,
https://distill.pub/2017/feature-visualization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.engine.chunks import chunks
from saccade.engine.slope import slope
from saccade.errors import SaccadeError
from saccade.networks.activations import activations
from saccade.networks.fused import Fused
from saccade.networks.layout import memory_layout
from saccade.networks.relu_rules import ruled_gradient
from saccade.networks.targets import Target, class_indices
from saccade.pictures.optimise.loop import OPERATION

SCORES = ""  # the name of the network's own output among the layers


@dataclass(frozen=True)
class Seen:
    """What an objective reads for m of N pictures: `outputs` of layers by name, and which `rows` of the N they are."""

    network: nn.Module
    pictures: Float[Tensor, "m 3 h w"]
    outputs: dict[str, Tensor]
    rows: Int[Tensor, " m"]
    total: int

    def output(self, layer: str) -> Tensor:
        """The output of a layer, (m, C, ...)."""
        output = self.outputs[layer]
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise SaccadeError(f"{layer} gives no tensor (N, channels, ...) that a picture could be grown for.")
        return output

    def means(self, layer: str) -> Float[Tensor, "m c"]:
        """The mean of each channel of a layer over all places."""
        output = self.output(layer)
        return output.mean(tuple(range(2, output.ndim))) if output.ndim > 2 else output


class Objective:
    """One number a picture, to be maximised. A new one gives `layers`, and `read`.

    coupled: whether the number of a picture depends on the others beside it.
    """

    coupled: bool = False

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers that `read` needs; "" is the network's scores."""
        raise NotImplementedError

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        """The numbers."""
        raise NotImplementedError

    def of(
        self, network: nn.Module, *, rows_at_once: int | None = None, wake: bool = False, runs: int = 1
    ) -> Callable[[Tensor], Tensor]:
        """This objective of a network as a differentiable function of pictures; see `grow` for how it is run.

        rows_at_once: the network is given at most so many pictures at a time. wake: a picture whose gradient is zero
        everywhere, because a ReLU on the way is off, gets one that passes ReLUs where it would raise them. A coupled
        objective is run at once, and not woken. runs: about how many runs of one picture are to come; if many, the
        network is prepared for them, see `networks.fused`.
        """
        look = _Look(self, network, runs)

        def score(pictures: Tensor) -> Tensor:
            if self.coupled or not pictures.requires_grad:
                return look(pictures, torch.arange(len(pictures)), len(pictures))
            found: Tensor = _Evaluated.apply(pictures, look, rows_at_once, wake)  # type: ignore[no-untyped-call]
            return found

        return score

    def __add__(self, other: Objective | Callable[[Tensor], Tensor]) -> Objective:
        return Sum(((1.0, self), (1.0, as_objective(other))))

    def __radd__(self, other: Callable[[Tensor], Tensor]) -> Objective:
        return as_objective(other) + self

    def __sub__(self, other: Objective | Callable[[Tensor], Tensor]) -> Objective:
        return self + -as_objective(other)

    def __rsub__(self, other: Callable[[Tensor], Tensor]) -> Objective:
        return as_objective(other) - self

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Sum(((float(factor), self),))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0


def as_objective(given: object) -> Objective:
    """An objective as it is; any function of the pictures, (N, 3, H, W) -> (N,), as an objective."""
    if isinstance(given, Objective):
        return given
    if not callable(given):
        raise SaccadeError(f"{given!r} is no objective: expected one, or a function of pictures (N, 3, H, W) to (N,).")
    return Function(given)


@dataclass(frozen=True)
class Sum(Objective):
    """Factors times objectives, added."""

    terms: tuple[tuple[float, Objective], ...]

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        return any(part.coupled for _, part in self.terms)

    @property
    def layers(self) -> frozenset[str]:
        return frozenset().union(*(part.layers for _, part in self.terms))

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        parts = [factor * part.read(seen) for factor, part in self.terms]
        return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class Function(Objective):
    """Any function of the pictures, for example a penalty of `saccade.pictures.optimise`."""

    function: Callable[[Tensor], Tensor]

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        return True  # who knows

    @property
    def layers(self) -> frozenset[str]:
        return frozenset()

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        return self.function(seen.pictures)


@dataclass(frozen=True)
class Class(Objective):
    """The raw score of a class, before any softmax: index or name, or one for each picture."""

    target: Target

    @property
    def layers(self) -> frozenset[str]:
        return frozenset([SCORES])

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        scores = seen.outputs[SCORES]
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise SaccadeError(f"The network gives {given}, expected scores (N, classes); give the whole classifier.")
        wanted = class_indices(seen.network, self.target, count=seen.total, classes=scores.shape[1])
        return scores.gather(1, wanted.to(scores.device)[seen.rows.to(scores.device), None])[:, 0]


@dataclass(frozen=True)
class OfLayer(Objective):
    """What is read from one layer."""

    layer: str

    @property
    def layers(self) -> frozenset[str]:
        return frozenset([self.layer])


@dataclass(frozen=True)
class Channel(OfLayer):
    """The mean of a channel's map; one number for all pictures, or one for each."""

    channel: int | Sequence[int]

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        return _pick(seen, self, seen.means(self.layer))  # of all channels first: the gradient keeps its layout


@dataclass(frozen=True)
class Neuron(OfLayer):
    """One place (row, column) in a channel's map; without a place, its middle."""

    channel: int | Sequence[int]
    place: tuple[int, int] | None = None

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        output = seen.output(self.layer)
        if output.ndim == 2 and self.place is None:
            return _pick(seen, self, output)
        if output.ndim != 4:
            raise SaccadeError(
                f"{self.layer} gives {tuple(output.shape)}, no maps (N, C, h, w): its units have no place."
            )
        h, w = output.shape[2:]
        row, column = self.place or (h // 2, w // 2)
        if not (0 <= row < h and 0 <= column < w):
            raise SaccadeError(f"{self.layer} has no place {(row, column)}: its maps are {h} x {w}.")
        return _pick(seen, self, output[:, :, row, column])


@dataclass(frozen=True, eq=False)
class Direction(OfLayer):
    """The mean over places of the activations along a vector (C,), or one for each picture, (N, C)."""

    vector: Tensor

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        found = seen.means(self.layer)
        vector = self.vector.to(found)
        if vector.ndim not in (1, 2) or vector.shape[-1] != found.shape[1]:
            raise SaccadeError(
                f"The direction is {tuple(vector.shape)}, expected a number for each of {found.shape[1]} channels of "
                f"{self.layer}."
            )
        vector = vector[seen.rows.to(vector.device)] if vector.ndim == 2 else vector[None]
        return (found * vector).sum(1)


@dataclass(frozen=True)
class Layer(OfLayer):
    """The mean square of all activations: whatever the layer sees, more of it (DeepDream)."""

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        return seen.output(self.layer).square().flatten(1).mean(1)


@dataclass(frozen=True, eq=False)
class FeatureMatch(OfLayer):
    """Minus the squared distance to `features`, (N or 1, C, h, w), in parts of their own squared length."""

    features: Tensor

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        found = seen.output(self.layer)
        wanted = self.features.to(found)
        if wanted.shape[1:] != found.shape[1:] or len(wanted) not in (1, seen.total):
            raise SaccadeError(
                f"The features are {tuple(wanted.shape)}, but {self.layer} gives {tuple(found.shape)}; grow a picture "
                "of the size of the photograph."
            )
        wanted = wanted if len(wanted) == 1 else wanted[seen.rows.to(wanted.device)]
        away = (found - wanted).square().flatten(1).sum(1)
        return -away / wanted.square().flatten(1).sum(1).clamp(min=1e-12)


@dataclass(frozen=True)
class Diversity(OfLayer):
    """How much a picture differs from the others beside it: 1 minus the mean cosine between their Gram matrices.

    Adding it makes the pictures of a batch different answers to one question. In [0, 1]; 1 for a picture alone.
    """

    coupled = True

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        found = seen.output(self.layer).flatten(2)
        grams = torch.nn.functional.normalize((found @ found.transpose(1, 2)).flatten(1), dim=1, eps=1e-10)
        cosines = grams @ grams.T
        others = len(found) - 1
        return 1 - (cosines.sum(1) - cosines.diagonal()) / max(1, others)


@dataclass(frozen=True)
class Alignment(OfLayer):
    """Minus the mean squared distance to the pictures beside this one in the batch, each step away counting half.

    Adding it keeps a row of pictures alike in layout, so that what changes along the row is what they are grown for.
    """

    reach: int = 4
    coupled = True

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        found = seen.output(self.layer).flatten(1)
        total = found.new_zeros(len(found))
        for away in range(1, min(self.reach, len(found) - 1) + 1):
            distance = (found[away:] - found[:-away]).square().mean(1) / 2**away
            beside = torch.nn.functional.pad(distance, (away, 0)) + torch.nn.functional.pad(distance, (0, away))
            total = total - beside
        return total


@dataclass(frozen=True)
class Interpolation(Objective):
    """From one objective for the first picture of a batch to another for the last, in even steps."""

    first: Objective
    last: Objective

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        return self.first.coupled or self.last.coupled

    @property
    def layers(self) -> frozenset[str]:
        return self.first.layers | self.last.layers

    def read(self, seen: Seen) -> Float[Tensor, " m"]:
        first, last = self.first.read(seen), self.last.read(seen)
        part = seen.rows.to(first) / max(1, seen.total - 1)
        return (1 - part) * first + part * last


def _pick(seen: Seen, of: Channel | Neuron, values: Float[Tensor, "m c"]) -> Float[Tensor, " m"]:
    """The value of the wanted channel of each picture."""
    many = not isinstance(of.channel, int)
    wanted: list[int] = list(of.channel) if many else [of.channel] * seen.total  # type: ignore[arg-type, list-item]
    if len(wanted) != seen.total:
        raise SaccadeError(
            f"{len(wanted)} channels were given for {seen.total} pictures, expected one, or one for each."
        )
    for channel in wanted:
        if not 0 <= channel < values.shape[1]:
            raise SaccadeError(f"{of.layer} has no channel {channel}: it has {values.shape[1]}, counted from 0.")
    index = torch.tensor(wanted, device=values.device)[seen.rows.to(values.device)]
    return values.gather(1, index[:, None])[:, 0]


class _Look:
    """An objective of a network: a function of pictures, of which rows of all they are, and how many there are."""

    def __init__(self, objective: Objective, network: nn.Module, runs: int) -> None:
        self.objective, self.network, self.runs = objective, network, runs
        self.fused: Fused | None = None

    def __call__(self, pictures: Tensor, rows: Tensor, total: int, *, plain: bool = False) -> Float[Tensor, " m"]:
        """plain: the network's own steps are wanted in the graph."""
        outputs: dict[str, Tensor] = {}
        if self.objective.layers:
            x = pictures.contiguous(memory_format=memory_layout(self.network, pictures.shape))
            self.fused = self.fused or Fused(self.network, self._outputs, x[:1], self.runs)
            outputs = self._outputs(x) if plain else self.fused.run(lambda: self._outputs(x))
        return self.objective.read(Seen(self.network, pictures, outputs, rows, total))

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        return activations(self.network, x, sorted(self.objective.layers))


class _Evaluated(torch.autograd.Function):
    """An objective whose gradient is taken along with it, a few pictures at a time; each part's graph is freed before
    the next begins."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, look: _Look, size: int | None, wake: bool) -> Tensor:
        total = len(pictures)
        scores, gradients = [], []
        for part in chunks(total, size or total):
            rows = torch.arange(part.start, part.stop)
            with torch.enable_grad():
                x = pictures[part].detach().requires_grad_()
                score = look(x, rows, total)
                gradient = slope(score, x, OPERATION).contiguous()  # a spectrum takes it faster so
                asleep = gradient.abs().amax((1, 2, 3)) == 0
                if wake and asleep.any():
                    x = x[asleep].detach().requires_grad_()
                    silent = look(x, rows[asleep.cpu()], total, plain=True)
                    gradient[asleep] = ruled_gradient(silent, x, "deconvnet")
            scores.append(score.detach())
            gradients.append(gradient)
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(scores)

    @staticmethod
    def backward(ctx: Any, by_score: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * by_score.view(-1, 1, 1, 1), None, None, None
