"""Occlusion: how far the score falls when a window over the picture is hidden.

Zeiler, Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, section 4.2.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.errors import SaccadeError
from saccade.explain.hiding import Fill, fills, pair, rows_of
from saccade.explain.question import Target, asking, finished
from saccade.networks.layout import memory_layout


def occlusion(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    fill: Fill = 0.5,
    batch_size: int | None = None,
) -> Float[Tensor, "n h w"]:
    """Fall of the score when the pixel is hidden: the mean over all windows that cover it, in units of the score.

    Windows start at multiples of the stride from the upper left corner, as many as cover the picture; the last of a
    row or column is cut at the border.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is followed, see `Target`.
        window: pixels, one number or (height, width); by default a seventh of the shorter side.
        stride: pixels, one number or (down, across), at most the window; by default half the window.
        fill: what is put in the window, see `Fill`.
        batch_size: windows at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), of the device and dtype of `pictures`; positive where hiding lowers the score.

    Raises:
        SaccadeError: the pictures have another shape or type, there is no such target or fill, or the windows are
            larger than the picture or leave pixels uncovered.
    """
    operation = "compute an occlusion map"
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        x = question.x
        size = (x.shape[2], x.shape[3])
        window = pair(max(1, min(size) // 7) if window is None else window)
        stride = pair([max(1, side // 2) for side in window] if stride is None else stride)
        lines = list(zip(size, window, stride, strict=True))  # down, across
        if not all(0 < step <= wide <= whole for whole, wide, step in lines):
            raise SaccadeError(
                f"Could not {operation}: windows {window} with strides {stride} on pictures {size}; expected "
                "1 <= stride <= window <= picture."
            )
        tops, lefts = (_slices(*line) for line in lines)
        boxes = [(top, left) for top in tops for left in lefts]
        instead = fills(question, fill)
        most = rows_at_once(network, x, batch_size)
        question.learn(len(x) * len(boxes))
        falls = []
        for i in range(len(x)):
            unhidden = question.score(x[i : i + 1], rows_of(question, i, 1))
            for part in chunks(len(boxes), most):
                some = boxes[part]
                rows = (
                    x[i : i + 1]
                    .expand(len(some), -1, -1, -1)
                    .clone(memory_format=memory_layout(network, (len(some), *x.shape[1:])))
                )
                for row, (top, left) in zip(rows, some, strict=True):
                    row[:, top, left] = instead[i, :, top, left]
                falls.append(unhidden - question.score(rows, rows_of(question, i, len(some))))
        fall = torch.cat(falls).to(x.dtype).view(len(x), len(tops), len(lefts))
        # A window covers a pixel if its rows and its columns do: sums over windows are two small matrix products.
        down, across = (_covers(slices, side).to(x) for slices, side in zip((tops, lefts), size, strict=True))
        return finished((down.T @ fall @ across) / torch.outer(down.sum(0), across.sum(0)), operation)


def _slices(side: int, window: int, stride: int) -> list[slice]:
    """The windows that cover a line of `side` pixels, the last cut at its end."""
    count = -(-(side - window) // stride) + 1
    return [slice(i * stride, min(i * stride + window, side)) for i in range(count)]


def _covers(slices: list[slice], side: int) -> Tensor:
    """(windows, side): 1 where a window covers a pixel, else 0."""
    covers = torch.zeros(len(slices), side)
    for line, some in zip(covers, slices, strict=True):
        line[some] = 1
    return covers
