"""A ReLU network around one picture as a mixed-integer program, whose points are what the network can do there.

Tjeng et al. 2019, arXiv:1711.07356: one column for each pixel and for each neuron that may be on, one binary column for
each neuron whose ReLU may be on or off; how far it may go either way comes from the bounds.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.networks.bounds.intervals import Ranges
from saccade.networks.bounds.lines import ROWS, pull
from saccade.networks.bounds.steps import Affine, Monotone, Tape

INFINITE = float("inf")


def check_exact(tape: Tape) -> None:
    """Raise `SaccadeError` for steps that are neither affine nor ReLUs or leaky ReLUs."""
    for step in tape.steps:
        if not isinstance(step, Affine) and (not isinstance(step, Monotone) or step.leak is None):
            raise SaccadeError(
                "Could not verify: the network has other functions than ReLUs and leaky ReLUs between its affine "
                "layers (as max pools, sigmoids), which have no exact form here; `certify` takes them."
            )


class Program:
    """Columns with bounds, and rows low <= A v <= high, in scipy's sparse matrices; of a tape that `check_exact` takes.

    ranges: bounds on all its nodes, for one picture.
    """

    def __init__(self, tape: Tape, ranges: Ranges) -> None:
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

        self.tape, self.ranges = tape, ranges
        self.exact = Ranges([], [None] * len(ranges.intervals))  # sums as they are, without what rounding may add
        self.columns: dict[int, Tensor] = {}  # of the values of a node; -1 where it is always 0
        self.count = 0
        self.low: list[float] = []
        self.high: list[float] = []
        self.binary: list[int] = []
        self.rows: list[tuple[csr_matrix, Any, Any]] = []
        pixels = ranges.intervals[0]
        self.columns[0] = self.new(pixels.lower.flatten(), pixels.upper.flatten())
        for node, step in enumerate(tape.steps, 1):
            if isinstance(step, Monotone) and step.leak is not None:
                self.relu(node, step.inputs[0], step.leak)

    def new(self, low: Tensor, high: Tensor, *, binary: bool = False) -> Tensor:
        """Columns with these bounds."""
        made = torch.arange(self.count, self.count + len(low))
        self.count += len(low)
        self.low += low.tolist()
        self.high += high.tolist()
        self.binary += [int(binary)] * len(low)
        return made

    def form(self, node: int, coefficients: Tensor) -> tuple[Any, Any]:
        """Sums (S, ...) of the values of a node as a sparse matrix of the columns there are now, and constants (S,)."""
        from scipy.sparse import csr_matrix

        made = pull(self.tape, self.exact, node, coefficients[:, None], relax=False)
        entries: list[tuple[Tensor, Tensor, Tensor]] = []
        for at, part in made.coefficients.items():
            where, flat = self.columns[at], part.detach().flatten(1)
            row, place = ((flat != 0) & (where >= 0)).nonzero(as_tuple=True)
            entries.append((row, where[place], flat[row, place]))
        rows, columns, values = (torch.cat(parts).numpy() for parts in zip(*entries, strict=True))
        return csr_matrix((values, (rows, columns)), shape=(len(coefficients), self.count)), made.constant[
            :, 0
        ].detach().numpy()

    def neurons(self, node: int, rows: Tensor) -> Iterator[tuple[Tensor, Any, Any]]:
        """The `rows` of a node some at a time: which, and their `form`."""
        shape = self.tape.shapes[node]
        size = int(torch.tensor(shape).prod())
        for some in torch.split(rows, ROWS):
            unit = torch.zeros(len(some), size, dtype=torch.float64)
            unit[torch.arange(len(some)), some] = 1
            yield some, *self.form(node, unit.view(-1, *shape))

    def relu(self, node: int, source: int, leak: float) -> None:
        """The columns and rows of max(y, leak * y) for the values y of the node `source`."""
        box = self.ranges.intervals[source]
        low, high = box.lower.flatten(), box.upper.flatten()
        columns = torch.full_like(low, -1, dtype=torch.long)
        kept = ((high > 0) | (leak > 0)).nonzero()[:, 0]
        columns[kept] = self.new(*(torch.maximum(v, leak * v)[kept] for v in (low, high)))
        self.columns[node] = columns
        for some, matrix, constant in self.neurons(source, kept):
            unsure = ((low[some] < 0) & (high[some] > 0)).numpy()
            slope = torch.where(low[some] >= 0, 1.0, leak).numpy()
            own = self.picked(columns[some])
            sure = ~unsure
            self.add((own - matrix.multiply(slope[:, None]).tocsr())[sure], *2 * [(slope * constant)[sure]])
            if unsure.any():
                self.either(own[unsure], matrix[unsure], constant[unsure], low[some][unsure], high[some][unsure], leak)

    def either(self, own: Any, matrix: Any, constant: Any, low: Tensor, high: Tensor, leak: float) -> None:
        """z = max(y, leak y) for y = matrix v + constant in [low, high]: the choice is a binary column, 1 for y."""
        choice = self.picked(self.new(torch.zeros_like(low), torch.ones_like(low), binary=True))
        own, matrix = (self.widened(m) for m in (own, matrix))
        gap_low, gap_high = ((1 - leak) * v.numpy() for v in (low, high))
        self.add(own - matrix, constant, INFINITE)
        self.add(own - leak * matrix, leak * constant, INFINITE)
        self.add(own - matrix - choice.multiply(gap_low[:, None]), -INFINITE, constant - gap_low)
        self.add(own - leak * matrix - choice.multiply(gap_high[:, None]), -INFINITE, leak * constant)

    def picked(self, columns: Tensor) -> Any:
        """A matrix each row of which is one column."""
        from scipy.sparse import csr_matrix

        count = len(columns)
        return csr_matrix(([1.0] * count, (range(count), columns.numpy())), shape=(count, self.count))

    def widened(self, matrix: Any) -> Any:
        """The same rows over all columns there are now."""
        matrix = matrix.tocsr()
        matrix.resize(matrix.shape[0], self.count)
        return matrix

    def add(self, matrix: Any, low: Any, high: Any) -> None:
        """Rows low <= matrix v <= high."""
        if matrix.shape[0]:
            self.rows.append((matrix, low, high))
