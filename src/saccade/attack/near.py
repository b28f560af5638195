"""Points that differ in one small window from those that an attack stands at: only what depends on it is computed."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.attack.engine import Search
from saccade.attack.passes import CLOSE
from saccade.engine.chunks import chunks
from saccade.networks.windowed import LostError, Window, Windowed

SMALL = 1 / 8
"""Share of a picture up to which a window counts as small."""


class Near:
    """A search that asks about points near the ones it stands at.

    What it gives is compared with a usual pass for each new size of window, and after a difference never used again.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self._parts: list[tuple[slice, Windowed]] = []
        self._sizes: set[tuple[int, int]] = set()
        self._lost = False

    def ask(
        self,
        z: Float[Tensor, "m c h w"],
        new: Float[Tensor, "m c h w"],
        rows: Int[Tensor, " m"],
        window: Window | None,
    ) -> Float[Tensor, "m classes"] | None:
        """What the network says of points `new`, which are `z` but in a window: a pass forward.

        None if it must be asked in the usual way; what was kept is then forgotten.
        """
        found = None
        if not self._lost and window is not None and window.size <= SMALL * z[0, 0].numel():
            try:
                found = self._asked(z, new, rows, window)
            except LostError:
                self._lost = True
        if found is None:
            self.forget()
        return found

    def keep(self, on: Bool[Tensor, " m"]) -> None:
        """The search now stands at those of the points that it asked about last."""
        for part, windowed in self._parts:
            windowed.keep(on[part])

    def forget(self) -> None:
        """The search stands elsewhere, or others stand."""
        self._parts = []

    def _asked(self, z: Tensor, new: Tensor, rows: Tensor, window: Window) -> Tensor | None:
        search = self.search
        if not self._parts:
            for part in chunks(len(z), search.batch):
                followed = search.passes.follow(z[part])
                if followed is None:
                    return None
                self._parts.append((part, followed))
            search.forwards[rows] += 1
        pieces = window.of(new).to(search.passes.dtype)
        found = [
            search.passes.checked(windowed.ask(pieces[part], window), len(z[part])) for part, windowed in self._parts
        ]
        search.forwards[rows] += 1
        scores = torch.cat(found)
        size = (window.bottom - window.top, window.right - window.left)
        if size not in self._sizes:
            self._sizes.add(size)
            expected = search.ask(new, rows)
            if (scores - expected).abs().max() > CLOSE * expected.abs().max():
                raise LostError
        return search.passes.said(new, scores)
