"""Run a frozen network so that the way back to its pictures needs little memory, and little time.

Autograd keeps for the gradient of a convolution by its input that whole input, of which nothing but the shape is
needed when the weights are frozen; for a ReLU all values, of which one bit each is needed; for a max pool the input
and the places as 64-bit numbers; for padding and batch norm the input again. `Lean` computes the same values and the
same gradients from what is needed. It records what a network does and goes back through it as one operation of
autograd's; so gradients can have fewer bits than the values that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saccade.networks.lean_ops import OWN
from saccade.networks.lean_tape import Step, Tape


class Lean:
    """Runs a frozen network on pictures; gradients go to the pictures alone, first derivatives only.

    Convolutions, batch norm in evaluation mode, ReLUs, max pools and padding, as modules or functions, in place (then
    out of place instead) or layers used twice, keep for the way back what it needs, and no more; whatever else a
    network does is left to autograd, operation by operation. Values, and gradients of 32 bits or more, are bit for bit
    those of PyTorch's own operations, but for batch norm, which becomes one multiplication and one addition.

    dtype: torch.bfloat16 runs convolutions and all that follows them in it, with weights converted once; grouped ones
    in float32, as their gradient in 16 bits is slow on the CPU. back: the dtype of gradients on the way, by default
    that of the values. With torch.bfloat16 there values are as exact as ever, and gradients nearly: what is rounded on
    the way there moves the point that a gradient belongs to, what is rounded on the way back does not.
    """

    def __init__(self, dtype: torch.dtype | None = None, back: torch.dtype | None = None) -> None:
        self.dtype, self.back = dtype, back
        self._weights: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(
        self,
        run: Callable[[Tensor], Mapping[str, Tensor]],
        pictures: Tensor,
        *,
        shared: Iterable[nn.Module] = (),
        low: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """What `run` makes of the pictures.

        shared: ReLUs whose outputs are among that; they are kept themselves, in place of masks. low: names of outputs
        that are given in the dtype of the gradients.
        """
        tape = Tape(self, OWN, torch.is_grad_enabled() and pictures.requires_grad)
        with tape.sharing(shared), torch.set_grad_enabled(tape.recorded), tape:
            found = dict(run(tape.begin(pictures.detach())))
        if self.back is not None:
            found |= {name: tape.lowered(found[name], self.back) for name in low}
        if not tape.recorded:
            return found
        outputs = list(found.values())
        places = [tape.place(one) for one in outputs]
        found_again = _Way.apply(pictures, tape.steps, places, self.back, *outputs)  # type: ignore[no-untyped-call]
        return dict(zip(found, found_again, strict=True))

    def weight(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """A frozen weight or bias in a dtype, channels last. Converted once."""
        key = (id(weight), dtype)
        if key not in self._weights:
            made = weight.detach().to(dtype)
            made = made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made
            self._weights[key] = (weight, made)  # the first is kept so that no other gets its id
        return self._weights[key][1]


class _Way(torch.autograd.Function):
    """From pictures to outputs, as recorded."""

    @staticmethod
    def forward(
        ctx: Any,
        pictures: Tensor,  # noqa: ARG004 - what the gradient goes to
        steps: list[Step],
        places: list[int | None],
        back: torch.dtype | None,
        *outputs: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.steps, ctx.places, ctx.dtype = steps, places, back
        ctx.save_for_backward(*(one for step in steps for one in step.kept))
        for step in steps:
            step.kept = ()  # autograd has them, and frees them
        ctx.mark_non_differentiable(*(one for one, place in zip(outputs, places, strict=True) if place is None))
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients: dict[int, tuple[Tensor, bool]] = {}

        def arrive(place: int | None, gradient: Tensor | None, fresh: bool) -> None:
            if place is None or gradient is None:
                return
            if ctx.dtype is not None and gradient.dtype != ctx.dtype:
                gradient, fresh = gradient.to(ctx.dtype), True
            if place in gradients:
                before, own = gradients[place]
                gradient = before.add_(gradient) if own else gradient.add_(before) if fresh else before + gradient
                fresh = True
            gradients[place] = gradient, fresh

        for place, gradient in zip(ctx.places, given, strict=True):
            arrive(place, gradient, False)
        kept = list(ctx.saved_tensors)
        for step in reversed(ctx.steps):
            own = [kept.pop() for _ in range(step.count)][::-1]
            there = [gradients.pop(place, (None, False)) for place in step.targets]
            if any(gradient is not None for gradient, _ in there):
                fresh = len(there) == 1 and there[0][1]
                for place, gradient in zip(step.sources, step.back([one for one, _ in there], own, fresh), strict=True):
                    arrive(place, gradient, step.fresh)
        return gradients[0][0] if 0 in gradients else None, None, None, None, *([None] * len(given))
