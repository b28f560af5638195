"""Products of many rows with one matrix of weights, in the faster of the two libraries that PyTorch has for a CPU.

PyTorch multiplies float32 matrices with MKL. oneDNN, which its convolutions and its own LSTM use, is faster at the
sizes of recurrent networks, above all once the weights lie in the order in which it reads them: by up to 40 percent on
most processors, and more than twice as fast on those whose vector units MKL leaves half idle. The ways to it are
operations without a public name, so they are tried once and used only where they are there and right. Which of the two
sums over many rows faster, and whether one is faster by far, differs from processor to processor, and is timed once.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

_LARGE = 2**20  # multiplications; below, the way to the other library costs more than it saves
_MANY = 256  # rows; with fewer, bringing weights into another order does not pay


def product(
    x: Float[Tensor, "n k"], w: Float[Tensor, "k m"], b: Float[Tensor, " m"] | None = None
) -> Float[Tensor, "n m"]:
    """x w + b; no gradient is recorded."""
    if x.shape[0] * w.numel() >= _LARGE and _suits(x):
        return _onednn(x, w.T, b)
    return x @ w if b is None else torch.addmm(b, x, w)


def prepared(w: Float[Tensor, "k m"], rows: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A function of x (N, K) and a summand (N, M) or None that gives x w + summand, called for `rows` rows in all.

    No gradient is recorded.
    """
    if rows >= _MANY and rows * w.numel() >= _LARGE and _suits(w):
        ordered = torch.ops.mkldnn._reorder_linear_weight(w.T)
        return lambda x, summand: _onednn(x, ordered, summand)
    w = w.contiguous()  # small products are much faster on a matrix that lies as they read it
    return lambda x, summand: x @ w if summand is None else torch.addmm(summand, x, w)


def over_rows(several: Sequence[Float[Tensor, "n _k"]], y: Float[Tensor, "n m"]) -> list[Float[Tensor, "_k m"]]:
    """x^T y for each of `several` x: sums over all rows. No gradient is recorded."""
    onednn = _suits(y) and _sums_faster()
    return [_onednn(x.T, y.T, None) if onednn and x.shape[1] * y.numel() >= _LARGE else x.T @ y for x in several]


def _onednn(x: Tensor, rows: Tensor, summand: Tensor | None) -> Tensor:
    """x rows^T + summand, a row of M or a matrix (N, M)."""
    linear = torch.ops.mkldnn._linear_pointwise
    if summand is not None and summand.ndim == 2:
        found: Tensor = linear.binary(x, summand, rows, None, "add")
    else:
        found = linear(x, rows, summand, "none", [], "")
    return found


def _suits(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and bool(torch.backends.mkldnn.enabled) and _works()


@cache
def _works() -> bool:
    """Whether the operations are there and give x w, x w + b and x w + y."""
    x, w, y = (torch.arange(float(n * m)).view(n, m) for n, m in ((3, 4), (4, 5), (3, 5)))
    try:
        ordered = torch.ops.mkldnn._reorder_linear_weight(w.T)
        found = _onednn(x, w.T, None), _onednn(x, w.T, y[0]), _onednn(x, ordered, y)
    except (AttributeError, RuntimeError):
        return False
    return all(torch.equal(a, b) for a, b in zip(found, (x @ w, x @ w + y[0], x @ w + y), strict=True))


@cache
def onednn_is_far_faster() -> bool:
    """Whether oneDNN multiplies with prepared weights so much faster that MKL is never to be preferred for them.

    A ratio of 1.6 stands well apart from those of either kind of processor, so every process on a machine decides
    alike.
    """
    x, w = torch.ones(640, 512), torch.ones(512, 512)
    if not _suits(x):
        return False
    times = prepared(w, len(x))
    return _ratio(lambda: x @ w, lambda: times(x, None)) > 1.6


@cache
def _sums_faster() -> bool:
    """Whether oneDNN sums over many rows faster."""
    x, y = torch.ones(640, 512), torch.ones(640, 512)
    return _ratio(lambda: x.T @ y, lambda: _onednn(x.T, y.T, None)) > 1


def _ratio(mkl: Callable[[], Tensor], onednn: Callable[[], Tensor]) -> float:
    """MKL's time by oneDNN's for products of some milliseconds, in turn, the best of three."""
    taken = [[_seconds(side) for side in (mkl, onednn)] for _ in range(4)][1:]  # the first warms up
    first, second = (min(times) for times in zip(*taken, strict=True))
    return float(first / second)


def _seconds(run: Callable[[], Tensor]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
