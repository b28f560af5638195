"""What a network computes, as far as bounds must know it: affine maps, monotone functions and maxima, one by one."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Map = Callable[..., Tensor]


@dataclass(frozen=True)
class Affine:
    """linear(*inputs) + shift. The parts take any number of rows and treat each alone.

    size: the same with the absolute value of the matrix: what it makes of radii.
    shift: (1, ...) or of fewer dimensions; None is zero. shift_size: at least |shift|, and as large as the numbers it
    is summed from. terms: how many rounded products and sums one output takes; 0 for what is exact.
    """

    inputs: tuple[int, ...]
    linear: Map
    size: Map
    shift: Tensor | None = None
    shift_size: Tensor | None = None
    terms: int = 0


@dataclass(frozen=True)
class Monotone:
    """A function of each value that never falls. leak: its slope below 0 if it is x above and `leak` x below."""

    inputs: tuple[int, ...]
    function: Map
    leak: float | None = None


@dataclass(frozen=True)
class Maximum:
    """The largest value in each of many windows."""

    inputs: tuple[int, ...]
    function: Map


Step = Affine | Monotone | Maximum


@dataclass(frozen=True)
class Tape:
    """The steps in running order. Node 0 is the pictures, node i + 1 what step i gives; the last is the scores.

    shapes: of one picture's part of every node, without the batch.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
