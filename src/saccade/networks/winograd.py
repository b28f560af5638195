"""Convolutions of 3 x 3 with a quarter of the multiplications.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308): 4 x 4 outputs are computed from 6 x 6 inputs. Both are transformed by fixed matrices, and between the
transforms stands one matrix product over the channels for each of 36 places, instead of nine for each of 16.
"""

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.product import onednn_is_far_faster, prepared, product

Places = Callable[[Float[Tensor, "36 m c"]], Float[Tensor, "36 m d"]]
"""Multiplies by the transformed weights of each place."""

AMX = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())

WIDE = {False: 64, True: 128}
"""Channels in and out from which on the transforms cost less than they save, on a CPU; more where convolutions are fast
themselves: with AMX, and where `onednn_is_far_faster`."""

TILES = {False: 128, True: 512}
"""Tiles of 4 x 4 in all runs from which on it saves more than the transform of the weights costs."""

OFTEN = 8
"""Products with the same weights from which on it pays to bring them into another order."""

AT_ONCE = 2**18
"""Transformed values at a time, if weights are no more: what stays in a processor's caches."""


def pays(cin: int, cout: int, tiles: int) -> bool:
    """Whether the transforms cost less than they save, on this machine's CPU in float32, for so many tiles in all."""
    if min(cin, cout) < WIDE[AMX] or tiles < TILES[False]:
        return False
    far = onednn_is_far_faster()
    return min(cin, cout) >= WIDE[AMX or far] and tiles >= TILES[far]


_INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
          (0, 4, 0, -5, 0, 1))  # fmt: skip
_WEIGHT = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
           (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Winograd:
    """A convolution with fixed weights, stride 1 and a border of one zero; differentiable by its pictures, once.

    weight: (cout, cin, 3, 3). bias: (cout,). Values are those of PyTorch's convolution up to rounding, some ten times
    as large as its own.
    """

    def __init__(self, weight: Float[Tensor, "cout cin 3 3"], bias: Float[Tensor, " cout"] | None = None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Float[Tensor, "n cin h w"], relu: bool = False) -> Float[Tensor, "n cout h w"]:
        """The convolution, and with `relu` what is positive of it."""
        found: Tensor = _Winograd.apply(x, self, relu)  # type: ignore[no-untyped-call]
        return found

    @cached_property
    def there(self) -> Places:
        """By the transformed weights."""
        return _places(_transformed(self.weight).transpose(1, 2))

    @cached_property
    def back(self) -> Places:
        """By those of the way back: its gradient is a convolution too, with the weights turned by half a turn."""
        return _places(_transformed(self.weight.flip(2, 3)))


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: Winograd, relu: bool) -> Tensor:
        ctx.conv, ctx.relu = conv, relu
        found = _convolved(x, len(conv.weight), conv.there, conv.bias, relu)
        if relu:
            ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, ctx.saved_tensors[0], 0)
        return _convolved(gradient, ctx.conv.weight.shape[1], ctx.conv.back, None, False), None, None


def _convolved(x: Tensor, d: int, times: Places, bias: Tensor | None, relu: bool) -> Tensor:
    n, c, h, w = x.shape
    down, across = -(-h // 4), -(-w // 4)
    found = x.new_empty(n, 4 * down, 4 * across, d)
    into, out = _both(_INPUT, x.dtype, x.device), _both(_OUTPUT, x.dtype, x.device)
    mixed = product if _fast(x) else torch.mm
    rows = max(1, max(AT_ONCE, 36 * c * d) // (36 * down * across * max(c, d)))
    for some, result in zip(torch.split(x.permute(0, 2, 3, 1), rows), torch.split(found, rows), strict=True):
        m = len(some)
        padded = x.new_empty(m, 4 * down + 2, 4 * across + 2, c)
        padded[:, 1 : h + 1, 1 : w + 1] = some
        for border in (padded[:, 0], padded[:, h + 1 :], padded[:, :, 0], padded[:, :, w + 1 :]):
            border.zero_()
        by_row, by_line, by_place, by_channel = padded.stride()
        tiles = padded.as_strided(
            (6, 6, m, down, across, c), (by_line, by_place, by_row, 4 * by_line, 4 * by_place, by_channel)
        )
        values = mixed(into, tiles.reshape(36, -1)).view(36, -1, c)
        values = mixed(out, times(values).view(36, -1)).view(-1, d)
        if bias is not None:
            values.add_(bias)
        if relu:
            values.relu_()
        tiles = values.view(4, 4, m, down, across, d).permute(2, 3, 0, 4, 1, 5)
        result.view(m, down, 4, across, 4, d).copy_(tiles)
    return found[:, :h, :w].permute(0, 3, 1, 2)


def _fast(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and onednn_is_far_faster()


def _places(weights: Float[Tensor, "36 c d"]) -> Places:
    if not _fast(weights):
        return lambda values: torch.bmm(values, weights)
    calls, each = 0, []

    def one_by_one(values: Tensor) -> Tensor:
        nonlocal calls, each
        calls += 1
        if calls == OFTEN:
            each = [prepared(weight, 2**20) for weight in weights]
        found = values.new_empty(*values.shape[:2], weights.shape[2])
        for place, value in enumerate(values):
            found[place] = each[place](value, None) if each else product(value, weights[place])
        return found

    return one_by_one


def _transformed(weight: Float[Tensor, "cout cin 3 3"]) -> Float[Tensor, "36 cout cin"]:
    cout, cin = weight.shape[:2]
    return torch.mm(_both(_WEIGHT, weight.dtype, weight.device), weight.reshape(-1, 9).T).view(36, cout, cin)


@cache
def _both(matrix: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Transforms rows and columns of a tile, flattened, at once."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).to(device, dtype)
