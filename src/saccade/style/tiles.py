"""The objective of a picture that is too large to be looked at at once: tile by tile, with the same value and gradient.

Two passes: the first adds up what all tiles contribute to the style, the second goes back through each tile from the
gradient by those sums. A tile is looked at with a halo around it, as wide as the layers' receptive field reaches, so
that its own places see what they would see in the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.style.eye import Eye, Maps
from saccade.style.objective import Objective, Sizes
from saccade.style.statistics import Moments, Summary


@dataclass(frozen=True)
class Reach:
    """How the layers of an eye lie over a picture: pixels from place to place of each, and how far any of them sees.

    grid: a multiple of all strides, on which tiles begin.
    """

    strides: dict[str, int]
    grid: int
    halo: int


def reach_of(eye: Eye, like: Tensor, *, length: int = 1024) -> Reach:
    """Found by experiment: one column of a probe is not a number, and what becomes so sees it.

    like: pictures of the type and on the device of those to be looked at.

    Raises `SaccadeError` for a network some layer of which sees the whole picture, as behind a global mean.
    """
    probe = like.new_zeros(1, 3, length // 4, length)
    middle = length // 2
    probe[..., middle] = torch.nan
    with torch.no_grad():
        maps, half = eye(probe), eye(probe[..., :middle])
    strides, halo = {}, 0
    for name in eye.names:
        gained = maps[name].shape[3] - half[name].shape[3]
        hit = maps[name].isnan().any(1).any(1)[0].nonzero().flatten()
        if gained < 1 or middle % gained or len(hit) in (0, maps[name].shape[3]):
            raise SaccadeError(f"Could not look at pictures in tiles: {name} is no map of a constant stride and reach.")
        strides[name] = middle // gained
        first, last = int(hit[0]) * strides[name], (int(hit[-1]) + 1) * strides[name]
        halo = max(halo, middle - first, last - middle)
    grid = max(strides.values())
    return Reach(strides, grid, -(-halo // grid) * grid)


@dataclass(frozen=True)
class Tile:
    """rows, columns: pixels that are the tile's own. seen_rows, seen_columns: with the halo."""

    rows: slice
    columns: slice
    seen_rows: slice
    seen_columns: slice


def tiles(size: tuple[int, int], side: int, reach: Reach) -> Iterator[Tile]:
    """Tiles of about `side` pixels that cover a picture."""
    side = max(reach.grid, side // reach.grid * reach.grid)
    for rows, seen_rows in _cuts(size[0], side, reach.halo):
        for columns, seen_columns in _cuts(size[1], side, reach.halo):
            yield Tile(rows, columns, seen_rows, seen_columns)


def _cuts(length: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    starts = list(range(0, length, side))
    if len(starts) > 1 and length - starts[-1] < side // 2:
        starts.pop()  # the last tile takes the rest
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        yield slice(start, stop), slice(max(0, start - halo), min(length, stop + halo))


def _own_part(own: slice, seen: slice, stride: int) -> slice:
    """The places of a map of what is seen that are a tile's own; the last tile has whatever there is."""
    first = (own.start - seen.start) // stride
    return slice(first, None if own.stop == seen.stop else first + (own.stop - own.start) // stride)


class Tiled(Objective):
    """`Objective`, tile by tile. tile: their side in pixels; the other arguments are those of `Objective`.

    Value and gradient are found together, so only the first derivative is there.
    """

    def __init__(
        self, eye: Eye, content: Tensor, styles: Sequence[Tensor], *args: Any, tile: int, **keywords: Any
    ) -> None:
        if not eye.preset.statistic.additive or eye.preset.normalise_gradients:
            what = type(eye.preset.statistic).__name__ if not eye.preset.normalise_gradients else "normalised gradients"
            raise SaccadeError(
                f"Could not look at pictures in tiles: {what} cannot be added up over tiles. Use a statistic that can "
                "(gram, gram-mean-std, mean-std, wasserstein), a smaller size, or tile=0."
            )
        self.tile, self.reach = tile, reach_of(eye, content)
        super().__init__(eye, content, styles, *args, **keywords)

    def _terms(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        content, style = _ByTiles.apply(pictures, self)  # type: ignore[no-untyped-call]
        return content, style

    def _look(self, content: Tensor) -> tuple[Maps, Sizes]:
        parts: dict[str, list[tuple[Tile, Tensor]]] = {}
        sizes: Sizes = {}
        for tile in self._tiles(content):
            maps = self._own(tile, content)
            for name, own in maps.items():
                if name in self.eye.content_layers:
                    parts.setdefault(name, []).append((tile, own.clone()))
                bottom = tile.rows.start // self.reach.strides[name] + own.shape[2]
                right = tile.columns.start // self.reach.strides[name] + own.shape[3]
                old = sizes.get(name, (0, 0))
                sizes[name] = (max(old[0], bottom), max(old[1], right))
        whole: Maps = {}
        for name, pieces in parts.items():
            whole[name] = pieces[0][1].new_empty(len(content), pieces[0][1].shape[1], *sizes[name])
            for tile, own in pieces:
                self._place(whole[name], name, tile, own).copy_(own)
        return whole, {name: sizes[name] for name in self.eye.style_layers if name in sizes}

    def _style(self, style: Tensor, mask: Tensor | None) -> dict[str, Summary]:
        if style.shape[2] * style.shape[3] <= 4 * self.tile**2 or mask is not None:
            return super()._style(style, mask)
        return {name: each[0] for name, each in self._sums(style, masked=False).items()}

    def _tiles(self, pictures: Tensor) -> Iterator[Tile]:
        return tiles((pictures.shape[2], pictures.shape[3]), self.tile, self.reach)

    def _own(self, tile: Tile, pictures: Tensor, *, graph: bool = False) -> Maps:
        """The maps of a tile at the places that are its own."""
        found = {}
        with torch.set_grad_enabled(graph):
            maps = self.eye(pictures if graph else pictures[:, :, tile.seen_rows, tile.seen_columns])
            for name, map in maps.items():
                stride = self.reach.strides[name]
                down = _own_part(tile.rows, tile.seen_rows, stride)
                across = _own_part(tile.columns, tile.seen_columns, stride)
                found[name] = map[:, :, down, across]
        return found

    def _place(self, whole: Tensor, name: str, tile: Tile, own: Tensor) -> Tensor:
        """Where a tile's own places lie in a map, or in a mask, of the whole picture."""
        top, left = tile.rows.start // self.reach.strides[name], tile.columns.start // self.reach.strides[name]
        return whole[..., top : top + own.shape[2], left : left + own.shape[3]]

    def _masks(self, tile: Tile, maps: Maps) -> dict[str, list[Tensor]] | None:
        if self.masks is None:
            return None
        return {
            name: [self._place(mask, name, tile, maps[name]) for mask in masks] for name, masks in self.masks.items()
        }

    def _sums(self, pictures: Tensor, *, masked: bool) -> dict[str, list[Summary]]:
        """The summaries of whole pictures, added up over tiles."""
        sums: dict[str, list[Any]] = {}
        for tile in self._tiles(pictures):
            maps = self._own(tile, pictures)
            with torch.no_grad():
                found = self.eye.summaries(maps, self._masks(tile, maps) if masked else None)
            for name, each in found.items():
                sums[name] = each if name not in sums else [a + b for a, b in zip(sums[name], each, strict=True)]
        return {name: [_plain(one) for one in each] for name, each in sums.items()}

    def look(self, pictures: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Content loss, style loss and the gradient of their sum."""
        sums = self._sums(pictures, masked=True)
        with torch.enable_grad():
            leaves = {name: [_leaf(one) for one in each] for name, each in sums.items()}
            style = self.eye.style_loss(leaves, self.style, self.shares) + pictures.new_zeros(len(pictures))
            inputs = [tensor for each in leaves.values() for one in each for tensor in (one.gram, one.total)]
            slopes = torch.autograd.grad(style.sum(), inputs, materialize_grads=True) if style.requires_grad else None
        content = pictures.new_zeros(len(pictures))
        back = torch.zeros_like(pictures) if gradient else None
        for tile in self._tiles(pictures):
            seen = pictures[:, :, tile.seen_rows, tile.seen_columns].detach().clone().requires_grad_(gradient)
            maps = self._own(tile, seen, graph=True)
            with torch.set_grad_enabled(gradient):
                here = content.new_zeros(len(pictures)) + self._content_part(tile, maps)
                content = content + here.detach()
                if back is None:
                    continue
                pull = here.sum()
                if slopes is not None:
                    summaries = self.eye.summaries(maps, self._masks(tile, maps))
                    found = [t for name in leaves for one in summaries[name] for t in _pair(one)]
                    pull = pull + sum((slope * tensor).sum() for slope, tensor in zip(slopes, found, strict=True))
                back[:, :, tile.seen_rows, tile.seen_columns] += torch.autograd.grad(pull, seen)[0]
        return content, style.detach(), back

    def _content_part(self, tile: Tile, maps: Maps) -> Float[Tensor, " n"] | float:
        """A tile's part of the content loss, so that those of all tiles add up to it."""
        parts = {}
        for name in self.content:
            parts[name] = self._place(self.content[name], name, tile, maps[name])
        return self.eye.content_loss(maps, parts, whole=self.content)


class _ByTiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pictures: Tensor, objective: Tiled) -> tuple[Tensor, Tensor]:
        content, style, back = objective.look(pictures.detach(), gradient=pictures.requires_grad)
        ctx.save_for_backward(back)
        return content, style

    @staticmethod
    def backward(ctx: Any, by_content: Tensor, by_style: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        (back,) = ctx.saved_tensors
        return back * by_content.view(-1, 1, 1, 1), None


def _pair(sums: Summary) -> tuple[Tensor, Tensor]:
    assert isinstance(sums, Moments)  # additive statistics measure moments
    return sums.gram, sums.total


def _plain(sums: Moments) -> Moments:
    """Sums without the places they came from."""
    return replace(sums, centred=None)


def _leaf(sums: Summary) -> Moments:
    assert isinstance(sums, Moments)
    return replace(sums, gram=sums.gram.detach().requires_grad_(), total=sums.total.detach().requires_grad_())
