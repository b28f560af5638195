"""What a network says of pictures that differ only in a window from others it was shown: what lies outside is kept.

A square of 5 x 5 pixels reaches 7 x 7 values of the map behind a convolution of 3 x 3; the others are what they were.
Only where the window has grown to most of a map is the whole computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from saccade.networks.calls import KINDS, tensors
from saccade.networks.folded import norm_of

MOST = 0.5
"""Share of a map from which on all of it is computed: pieces have borders, and are copied twice."""


class Window(NamedTuple):
    """Rows from `top` to before `bottom` and columns from `left` to before `right`, the same of all pictures."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, map: Tensor) -> Tensor:
        """This part of maps (N, C, H, W)."""
        return map[..., self.top : self.bottom, self.left : self.right]

    def within(self, other: Window) -> Window:
        """What it shares with another, in the other's own counting."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = max(min(self.bottom, other.bottom), top), max(min(self.right, other.right), left)
        return Window(top - other.top, bottom - other.top, left - other.left, right - other.left)

    def and_(self, other: Window) -> Window:
        """The least that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Window(top, max(self.bottom, other.bottom), left, max(self.right, other.right))

    @property
    def size(self) -> int:
        """How many places it has."""
        return (self.bottom - self.top) * (self.right - self.left)


class LostError(Exception):
    """The network cannot be followed: it does something else than before, or writes into its maps."""


class Windowed(TorchFunctionMode):
    """A frozen network, and what its layers gave for some pictures; made without gradients.

    It follows the calls of PyTorch's functions, not the modules. Convolutions, norms of evaluation mode, ReLUs and sums
    are followed, up to the first other function, which gets the whole map.

    run: the network, called with pictures in its precision; it may be one that `Fused` runs. x: (N, C, H, W), kept:
    they are changed by `keep`. `scores`: what the network says of them.

    Raises `LostError` if the network writes into its maps.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], x: Float[Tensor, "n c h w"]) -> None:
        super().__init__()
        self._run, self._maps = run, [x]
        self._functions: list[Any] = [None]  # what gave each of the maps
        self._pieces: list[tuple[int, Window | None, Tensor]] = []
        self._learning = True
        self.scores = self._through(_marked(x.view(x.shape), 0, None))
        self._learning = False

    @property
    def steps(self) -> int:
        """How many functions are followed."""
        return len(self._maps) - 1

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(map.numel() * map.element_size() for map in self._maps)

    def ask(self, piece: Float[Tensor, "n c a b"], window: Window) -> Float[Tensor, "n classes"]:
        """What the network says of the pictures with `piece` in the window; raises `LostError`."""
        self._pieces = [(0, window, piece)]
        found = self._through(_marked(piece.view(piece.shape), 0, window))
        if len(self._pieces) != len(self._maps):
            raise LostError
        return found

    def keep(self, rows: Tensor) -> None:
        """From now on those of the pictures, a mask (N,), are as they were last asked about."""
        if not rows.any():
            return
        for place, window, piece in self._pieces:
            map = self._maps[place]
            part = map if window is None else window.of(map)
            part[rows] = piece[rows]

    def _through(self, x: Tensor) -> Tensor:
        with torch.no_grad(), self:
            return self._run(x)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        marked = [one for one in tensors(args, kwargs) if hasattr(one, _MARK)]
        if not marked:
            return func(*args, **kwargs)
        if func in _LOOKS:
            return func(self._maps[getattr(args[0], _MARK)[0]], *args[1:], **kwargs)
        rule = _rule(func, args, kwargs)
        if rule is None:
            if _writes(func):
                raise LostError
            return func(*(self._whole(one) for one in args), **{key: self._whole(one) for key, one in kwargs.items()})
        if self._learning:
            found: Tensor = func(*args, **kwargs)
            self._maps.append(found)
            self._functions.append(func)
            return _marked(found, len(self._maps) - 1, None)
        place = len(self._pieces)
        if place >= len(self._maps) or self._functions[place] is not func:
            raise LostError
        window: Window | None = None
        if all(getattr(one, _MARK)[1] is not None for one in marked):
            found, window = rule(self, func, args, kwargs)
            area = self._maps[place].shape[-2] * self._maps[place].shape[-1]
            if window.size > MOST * area:
                found, window = self._filled(place, window, found), None
        else:
            if _writes(func) and getattr(args[0], _MARK)[1] is not None:
                raise LostError  # into a piece, which the network may go on with
            found = func(*(self._whole(one) for one in args), **kwargs)
        self._pieces.append((place, window, found))
        return _marked(found, place, window)

    def _whole(self, value: Any) -> Any:
        """A map in place of a piece of it; not followed any more."""
        if not isinstance(value, Tensor) or not hasattr(value, _MARK):
            return type(value)(self._whole(one) for one in value) if type(value) in (list, tuple) else value
        place, window = getattr(value, _MARK)
        return value.detach() if window is None else self._filled(place, window, value)

    def _filled(self, place: int, window: Window, piece: Tensor) -> Tensor:
        map = self._maps[place].clone()
        window.of(map).copy_(piece)
        return map

    def piece(self, x: Tensor, need: Window) -> Tensor:
        """Another part of the map that `x` is a piece of; beyond its borders are zeros."""
        place, window = getattr(x, _MARK)
        map = self._maps[place]
        height, width = map.shape[-2:]
        if need == window:
            return x
        inside = Window(max(need.top, 0), min(need.bottom, height), max(need.left, 0), min(need.right, width))
        found = inside.of(map).clone()
        window.within(inside).of(found).copy_(inside.within(window).of(x))
        beside = (inside.left - need.left, need.right - inside.right)
        above = (inside.top - need.top, need.bottom - inside.bottom)
        return F.pad(found, beside + above) if any(beside + above) else found


Rule = Callable[[Windowed, Any, Any, Any], tuple[Tensor, Window]]


def _by_value(_: Windowed, func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Window]:
    """A function of each value: norms, ReLUs."""
    return func(*args, **kwargs), getattr(args[0], _MARK)[1]


def _by_pair(mode: Windowed, func: Any, args: Any, _: Any) -> tuple[Tensor, Window]:
    """A sum of maps, or with constants."""
    windows = [getattr(one, _MARK)[1] for one in args if hasattr(one, _MARK)]
    window: Window = windows[0]
    for other in windows[1:]:
        window = window.and_(other)
    if _writes(func) and not (hasattr(args[0], _MARK) and window == windows[0]):
        raise LostError
    return func(*(_part(mode, one, window) for one in args)), window


def _part(mode: Windowed, one: Any, window: Window) -> Any:
    if not isinstance(one, Tensor) or one.ndim == 0:
        return one
    if hasattr(one, _MARK):
        return mode.piece(one, window)
    rows = slice(None) if one.shape[-2] == 1 else slice(window.top, window.bottom)
    columns = slice(None) if one.shape[-1] == 1 else slice(window.left, window.right)
    return one[..., rows, columns]


def _convolution(mode: Windowed, func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Window]:
    x, weight, bias, stride, padding, dilation, groups = _settings(*args, **kwargs)
    place, window = getattr(x, _MARK)
    out, need = [], []
    for i, (first, last) in enumerate(((window.top, window.bottom - 1), (window.left, window.right - 1))):
        side, kernel = mode._maps[place].shape[2 + i], dilation[i] * (weight.shape[2 + i] - 1)
        most = (side + 2 * padding[i] - kernel - 1) // stride[i]
        low = min(max(-((kernel - first - padding[i]) // stride[i]), 0), most)
        high = max(min((last + padding[i]) // stride[i], most), low)
        out += [low, high + 1]
        need += [low * stride[i] - padding[i], high * stride[i] - padding[i] + kernel + 1]
    found = func(mode.piece(x, Window(*need)), weight, bias, stride, 0, dilation, groups)
    return found, Window(*out)


def _settings(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    pairs = [
        value if isinstance(value, str) else torch.nn.modules.utils._pair(value)
        for value in (stride, padding, dilation)
    ]
    return x, weight, bias, *pairs, groups


def _rule(func: Any, args: Any, kwargs: Any) -> Rule | None:
    """How a function of maps is followed, if it can be."""
    kind = KINDS.get(func) or (func.__name__ if func.__name__ in _PAIRS else None)
    x: Any = args[0] if args else None
    if kind is None or not isinstance(x, Tensor) or x.ndim != 4:
        return None
    if kind in _PAIRS:
        fits = not kwargs and len(args) == 2
        return _by_pair if fits and all(_spreads(one) for one in args) else None
    if not hasattr(x, _MARK) or any(hasattr(one, _MARK) for one in tensors(args[1:], kwargs)):
        return None
    if kind == "conv":
        return None if isinstance(_settings(*args, **kwargs)[4], str) else _convolution
    return _by_value if kind == "relu" or norm_of(*args, **kwargs) is not None else None


def _writes(func: Any) -> bool:
    """Whether a function writes into its first argument."""
    name: str = func.__name__
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _spreads(one: Any) -> bool:
    """Whether this is a map, or a constant of which a part is taken as easily as of a map."""
    if not isinstance(one, Tensor):
        return isinstance(one, int | float)
    return one.ndim == 0 or hasattr(one, _MARK) or (one.ndim == 4 and one.shape[0] == 1)


def _marked(map: Tensor, place: int, window: Window | None) -> Tensor:
    setattr(map, _MARK, (place, window))
    return map


_MARK = "_saccade_window"
"""On a tensor: which of the maps it is, and which window of it, None for all."""

_LOOKS = {Tensor.dim, Tensor.size, Tensor.numel, Tensor.__len__, Tensor.new_empty, Tensor.is_floating_point}
_LOOKS |= {getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "requires_grad")}
"""Functions that see no values."""

_PAIRS = {"sub", "add", "mul", "div", "__sub__", "__add__", "__mul__", "__truediv__", "__iadd__", "add_"}
"""Names of functions of two maps, or of a map and a constant."""
