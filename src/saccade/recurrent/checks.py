"""What the recurrent functions demand of their arguments, each broken demand one sentence."""

from torch import Tensor

from saccade.errors import SaccadeError


def check_step(name: str, x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor, *, gates: int) -> None:
    """x (N, D), h (N, H), wx (D, gates H), wh (H, gates H), b (gates H), all of one dtype and device."""
    _check(name, "x must be (N, D)", x, x.ndim == 2)
    _check_weights(name, x, h, wx, wh, b, gates)


def check_sequence(name: str, x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor, *, gates: int) -> None:
    """As `check_step`, with x (N, T, D)."""
    _check(name, "x must be (N, T, D)", x, x.ndim == 3)
    _check_weights(name, x, h, wx, wh, b, gates)


def check_options(name: str, truncate: int | None, clip: float | None) -> None:
    """`truncate` at least 1 step, `clip` above zero, where given."""
    if truncate is not None and truncate < 1:
        raise SaccadeError(f"{name}: truncate must be 1 step or more, got {truncate}.")
    if clip is not None and not clip > 0:
        raise SaccadeError(f"{name}: clip must be above zero, got {clip}.")


def check_same_kind(name: str, **tensors: Tensor) -> None:
    """All of one dtype and on one device."""
    kinds = {key: f"{str(t.dtype).removeprefix('torch.')} on {t.device}" for key, t in tensors.items()}
    if len(set(kinds.values())) > 1:
        raise SaccadeError(f"{name}: all tensors must share dtype and device, got {kinds}.")


def _check_weights(name: str, x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor, gates: int) -> None:
    n, d = len(x), x.shape[-1]
    _check(name, f"the hidden state must be ({n}, H)", h, h.ndim == 2 and len(h) == n)
    width = gates * h.shape[1]
    _check(name, f"wx must be ({d}, {width})", wx, wx.shape == (d, width))
    _check(name, f"wh must be ({h.shape[1]}, {width})", wh, wh.shape == (h.shape[1], width))
    _check(name, f"b must be ({width},)", b, b.shape == (width,))
    check_same_kind(name, x=x, h=h, wx=wx, wh=wh, b=b)


def _check(name: str, demand: str, given: Tensor, holds: bool) -> None:
    if not holds:
        raise SaccadeError(f"{name}: {demand}, got {tuple(given.shape)}.")
