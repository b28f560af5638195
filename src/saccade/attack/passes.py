"""Passes of a network forward and back, checked; from some passes on with its convolutions and norms in one step."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import SHARE, free_memory
from saccade.errors import SaccadeError
from saccade.networks.fused import Fused
from saccade.networks.layout import memory_layout
from saccade.networks.windowed import LostError, Windowed

AFTER = 16
"""Passes of a picture after which so many more are expected that it pays to learn the network."""

FULL = 16 * 32**2
"""Pixels of a batch from which on a learnt network is faster: each step costs it a little more than it does the network
itself."""

CLOSE = 1e-4
"""Scores nearer to each other than this share of the largest may change their order by the rounding of the steps."""


class Passes:
    """A frozen network, asked in its own precision.

    On a CPU, once `learn` was called, batches of `FULL` pixels and more are run by `networks.fused`; whichever class is
    said is still that of the network itself, which is asked again where two scores are close.

    operation: what is being done, for error messages. dtype: the network's.
    """

    def __init__(self, network: nn.Module, x: Float[Tensor, "n c h w"], operation: str) -> None:
        self.network, self.operation = network, operation
        self.dtype = next((p for p in network.parameters() if p.is_floating_point()), x).dtype
        self._fused: Fused | None = None
        self.learns = x.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)

    def learn(self, x: Float[Tensor, "n c h w"], scores: Float[Tensor, "n classes"]) -> None:
        """Learn the network, unless that was tried before or it is not worth while.

        x, scores: some pictures, and what the network said of them; if it says something else as it was learnt, it is
        run as it is.
        """
        if not self.learns:
            return
        self.learns = False
        fused = Fused(self.network, self.network, x[:1].to(self.dtype), len(x) * AFTER)
        if not fused.steps:
            return
        with torch.no_grad():
            said = fused.run(lambda: self.network(x.to(self.dtype)))
        if (said - scores).abs().max() <= CLOSE * scores.abs().max():
            self._fused = fused

    def forward(self, z: Float[Tensor, "m c h w"]) -> Float[Tensor, "m classes"]:
        """Scores, in float32 or more."""
        if self._fused is None or z[:, 0].numel() < FULL:
            return self.checked(self._plain(z), len(z))
        z = z.to(self.dtype)
        return self.checked(self._fused.run(lambda: self.network(z)), len(z))

    def said(self, z: Float[Tensor, "m c h w"], scores: Float[Tensor, "m classes"]) -> Float[Tensor, "m classes"]:
        """The scores that `forward` gave, detached, those of the network itself where two are close."""
        scores = scores.detach()
        if self._fused is None:
            return scores
        first, second = scores.topk(2, dim=1).values.unbind(1)
        close = first - second <= CLOSE * scores.abs().amax(1)
        if close.any():
            with torch.no_grad():
                scores = scores.clone()
                scores[close] = self.checked(self._plain(z[close]), int(close.sum()))
        return scores

    def follow(self, z: Float[Tensor, "m c h w"]) -> Windowed | None:
        """What the layers give for some points, so that others that differ in a window are soon asked about.

        None if the network was not learnt, or cannot be followed, or gives more than there is room for.
        """
        if self._fused is None:
            return None
        fused = self._fused if z[:, 0].numel() >= FULL else None
        z = z.to(self.dtype, copy=True)
        try:
            made = Windowed(lambda x: self.network(x) if fused is None else fused.run(lambda: self.network(x)), z)
        except LostError:
            return None
        return made if made.steps and made.size < SHARE * free_memory(z.device) else None

    def backward(self, scores: Tensor, direction: Tensor, leaf: Tensor, *, again: bool = False) -> Tensor:
        """The gradient by the pictures along a direction of the scores, checked. again: the graph is still needed."""
        gradient: Tensor | None = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(scores, leaf, direction, allow_unused=True, retain_graph=again)
        if gradient is None:
            raise SaccadeError(
                f"Could not {self.operation}: the scores do not depend on the pictures differentiably; the network may "
                "detach, round or turn gradients off on the way. Attack it by its scores alone instead."
            )
        if not torch.isfinite(gradient).all():
            raise SaccadeError(
                f"Could not {self.operation}: the gradient by the pictures is not finite (NaN or infinity), though the "
                "scores are. Look for a root or a norm of 0 in the network, or run it in float32."
            )
        return gradient.contiguous()

    def _plain(self, z: Tensor) -> Any:
        return self.network(z.to(self.dtype, memory_format=memory_layout(self.network, z.shape)))

    def checked(self, scores: Any, count: int) -> Float[Tensor, "m classes"]:
        """Scores of so many pictures, in float32 or more; raises `SaccadeError` for what are none."""
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != count or scores.shape[1] < 2:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise SaccadeError(
                f"Could not {self.operation}: the network gives {given} for {count} pictures, expected scores "
                f"({count}, classes) of two classes or more."
            )
        if not torch.isfinite(scores).all():
            raise SaccadeError(
                f"Could not {self.operation}: the network gives scores that are not finite (NaN or infinity) for "
                "pictures in [0, 1]. Look for a division, a root or a logarithm of 0, or run it in float32."
            )
        return scores.to(torch.promote_types(scores.dtype, torch.float32))
