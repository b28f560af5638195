"""DeepLIFT: the difference of the score from that of a baseline, handed down to the pixels layer by layer.

Shrikumar, Greenside and Kundaje 2017, arXiv:1704.02685, with the Rescale rule. Its chain rule is that of gradients: a
nonlinearity has the slope of the line between what it does to the baseline and to the picture, everything linear its
own. The RevealCancel rule is not offered: it follows positive and negative contributions apart, so it is no slope.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.engine.chunks import chunks, rows_at_once
from saccade.explain.hiding import Fill, fills
from saccade.explain.intercept import (
    ELEMENTWISE,
    LINEAR,
    WEIGHTED,
    Intercept,
    Run,
    check_linear,
    secant,
    sent_back,
    sloped,
)
from saccade.explain.question import Target, asking, finished

POOLS = {f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)}


def deeplift(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    baseline: Fill = 0.0,
    batch_size: int | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Contributions to the difference of the score from that of a baseline, signed; they sum to it.

    Shrikumar and others 2017, arXiv:1704.02685, Rescale rule. Where no ReLU changes sides between baseline and picture,
    it is gradient x (picture - baseline). Operations may come as modules or functions, in place, and several times.
    The difference of a maximum goes to the picture's largest value if the maximum is
    larger than the baseline's, else to the place of the baseline's largest, so that the contributions still sum up.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax; of linear layers,
            elementwise activations and maxima. Layers that multiply or normalise by what they compute are refused.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is explained, see `Target`.
        baseline: what the pictures are compared with, see `Fill`; black by default.
        batch_size: pictures at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the network does something for which DeepLIFT has no rule, with its name; the pictures or the
            baseline have another shape or type; or there is no such target.
    """
    operation = "compute DeepLIFT"
    with asking(network, pictures, target, operation) as question:
        base = fills(question, baseline)
        shared = bool((base == base[:1]).all())  # then it is run once, and what was seen serves every picture
        found = torch.empty_like(question.x)
        seen: list[_Seen] = []
        for part in chunks(len(found), rows_at_once(network, question.x, batch_size, wanted=len(found))):
            rows = torch.arange(part.start, part.stop, device=found.device)
            if not shared or not seen:
                below = base[:1] if shared else base[part]
                with _Watch(operation) as watch:
                    question.score(below.detach().requires_grad_().clone(), rows[: len(below)])
                seen = watch.seen
            x = question.x[part].detach().requires_grad_()
            with _Rescale(operation, seen):
                score = question.score(x.clone(), rows)  # a copy, which the network may write into
            check_linear(score, operation, LINEAR | WEIGHTED)
            found[part] = question.slope(score, x) * (x.detach() - below)
    return finished(found, operation)


_Seen = tuple[str, Tensor, Tensor]
"""An operation's name, what it was given and what it made of it."""


class _Watch(Intercept):
    """Keeps what the nonlinear operations do to the baseline, in their order."""

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.seen: list[_Seen] = []

    def replace(self, name: str, run: Run, x: Tensor, place: int, func: Any, args: Any, kwargs: Any) -> Tensor | None:  # noqa: ARG002
        if place or not _has_rule(name, kwargs):
            return None
        x = x.detach().clone()  # it may be written into
        found = run(x)
        self.seen.append((name, x, found))
        return found.detach().requires_grad_().clone()  # without what led to it: no gradient is taken here


class _Rescale(Intercept):
    """Gives them the slopes between that and what they do to the picture."""

    def __init__(self, operation: str, seen: list[_Seen]) -> None:
        super().__init__(operation)
        self.seen, self.next = seen, 0

    def replace(self, name: str, run: Run, x: Tensor, place: int, func: Any, args: Any, kwargs: Any) -> Tensor | None:  # noqa: ARG002
        if place or not _has_rule(name, kwargs):
            return None
        before, reference, there = self.seen[self.next] if self.next < len(self.seen) else ("", x, x)
        self.next += 1
        fits = reference.ndim == x.ndim and all(r in (1, s) for r, s in zip(reference.shape, x.shape, strict=True))
        if before != name or not fits:
            raise self.refusal("takes another way for the picture than for the baseline")
        reference = reference.expand_as(x)
        if name in ELEMENTWISE:
            slope = secant(run, x, reference, there)
            return sloped(x, run, lambda above: above * slope)
        return _maximum(x, reference, run, *_windows(name, args, kwargs))


def _has_rule(name: str, kwargs: Any) -> bool:
    return name in ELEMENTWISE or (name in POOLS and not kwargs.get("return_indices")) or name == "amax"


def _maximum(x: Tensor, reference: Tensor, run: Run, lay: Run, find: Run) -> Tensor:
    """The largest values, whose difference goes to the one place where it is largest, or was in the reference."""
    laid, laid_reference = lay(x.detach()), lay(reference)
    at_x, at_reference = find(x.detach()), find(reference)
    top, top_reference = laid.gather(-1, at_x), laid_reference.gather(-1, at_reference)
    at = torch.where(top >= top_reference, at_x, at_reference)
    rise = laid.gather(-1, at) - laid_reference.gather(-1, at)  # as large as the difference of the maxima, or larger
    share = torch.where(rise == 0, 1.0, (top - top_reference) / rise.masked_fill(rise == 0, 1))
    return sloped(x, run, lambda above: sent_back(lambda x: lay(x).gather(-1, at) * share, x, above.reshape(at.shape)))


def _windows(name: str, args: Any, kwargs: Any) -> tuple[Run, Run]:
    """Lays out a tensor so that each maximum is taken of a part of its last dimension, and finds there its place."""
    if name == "amax":
        dims = kwargs.get("dim", args[1] if len(args) > 1 else ())

        def lay(x: Tensor) -> Tensor:
            chosen = (dims,) if isinstance(dims, int) else tuple(dims) or tuple(range(x.ndim))
            return x.movedim(chosen, tuple(range(-len(chosen), 0))).flatten(-len(chosen))

        return lay, lambda x: lay(x).argmax(-1, keepdim=True)

    pool, kwargs = getattr(F, name), {**kwargs, "return_indices": True}
    return lambda x: x.flatten(2), lambda x: pool(x, *args[1:], **kwargs)[1].flatten(2)
