"""Other slopes for a network's operations, one by one: the ground of DeepLIFT and of layer-wise relevance propagation.

Both send numbers back through a network as a gradient is sent, and differ from it only in the slope they give to some
operations. So the network runs as it is, while an `Intercept` stands between it and PyTorch: it sees every operation
(of a module, of a function, in place, of a layer used twice) and may compute it with another slope, `sloped`. What it
leaves alone keeps its gradient, which is right only of what is linear; `check_linear` looks through the finished graph
for anything else and refuses it by name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from saccade.errors import SaccadeError
from saccade.networks.graph import steps

Run = Callable[[Tensor], Tensor]


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


ELEMENTWISE = _names(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardtanh hardsigmoid softplus sigmoid "
    "logsigmoid tanh softsign tanhshrink threshold clamp clamp_min clamp_max clip abs exp log sqrt square"
)
"""Functions of one number, which are called with settings that do not depend on the picture."""

LINEAR = _names(
    "Add Sub Rsub Neg Mul Div Mean Sum Clone Alias AsStrided Copy ToCopy View UnsafeView ReshapeAlias T Transpose "
    "Permute Expand Repeat Squeeze Unsqueeze Slice Select Index IndexSelect Gather Cat Stack Split SplitWithSizes "
    "Unbind Flip Roll ConstantPadNd ReflectionPad2D ReplicationPad2D PixelShuffle PixelUnshuffle AvgPool2D "
    "AdaptiveAvgPool2D UpsampleNearest2D UpsampleBilinear2D UpsampleBicubic2D NativeBatchNorm AccumulateGrad"
)
"""Steps of a graph that are linear, up to a constant, in what depends on the picture."""

WEIGHTED = _names("Convolution Addmm Mm Mv Bmm")
"""Further ones, that mix their inputs by weights."""

_PRODUCTS = {"Mul", "Div", "NativeBatchNorm", *WEIGHTED}
_BLANK = {
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
}
_NUMBERS = {"item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__array__"}


class Intercept(TorchFunctionMode):
    """While it is entered, every operation on what depends on the picture is offered to `replace` first.

    operation: begins error messages. What takes the picture out of the graph (a comparison, `detach`, `item`) is
    refused: whatever is computed from it would count as a constant.
    """

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def replace(self, name: str, run: Run, x: Tensor, place: int, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        """The result of an operation with another slope, or None to leave it alone.

        name: "relu" of torch.relu, F.relu, Tensor.relu_ and the like. x: the one argument that depends on the picture,
        args[place]. run: the operation as a function of it, never in place.
        """
        raise NotImplementedError

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        depend = [value for value in _tensors((args, kwargs)) if value.requires_grad]
        raw = getattr(func, "__name__", str(func))
        if raw == "__get__":  # an attribute, such as its shape
            raw = getattr(func.__self__, "__name__", "")
            if raw != "data":
                return func(*args, **kwargs)
        if not depend:
            return func(*args, **kwargs)
        if "dropout" in raw and kwargs.get("training"):
            raise self.refusal("draws random numbers (dropout in training mode)")
        in_place = bool(kwargs.get("inplace")) or (raw.endswith("_") and not raw.endswith("__"))
        place = next((i for i, value in enumerate(args) if value is depend[0]), None)
        if len(depend) == 1 and place is not None:

            def run(value: Tensor) -> Tensor:
                value = value.clone() if in_place else value
                found: Tensor = func(*args[:place], value, *args[place + 1 :], **kwargs)
                return found

            found = self.replace(raw.strip("_"), run, depend[0], place, func, args, kwargs)
            if found is not None:
                return self.written(depend[0], found) if in_place else found
        found = func(*args, **kwargs)
        given = list(_tensors(found))
        if raw in _NUMBERS or (given and raw not in _BLANK and not any(value.requires_grad for value in given)):
            raise self.refusal(f"goes on with {raw!r} of what it computed, which has no slope")
        return found

    def written(self, x: Tensor, found: Tensor) -> Tensor:
        """`found` put into `x`, as an operation in place does."""
        return x.copy_(found)

    def refusal(self, what: str) -> SaccadeError:
        return _refusal(self.operation, what)


def check_linear(score: Tensor, operation: str, linear: frozenset[str]) -> None:
    """Raise `SaccadeError` unless all that led to `score` is `sloped` or among `linear`, steps of the graph."""
    for step in steps(score):
        before = [node for node, _ in step.next_functions]
        if getattr(type(step), "_forward_cls", None) is _Sloped:
            continue
        name = re.sub(r"Backwards?\d*$", "", step.name().split("::")[-1])
        if name not in linear:
            raise _refusal(operation, f"computes {name!r}, for which no rule is known")
        both = sum(node is not None for node in before) > 1
        if name in _PRODUCTS and (both or (name == "Div" and before[0] is None)):
            raise _refusal(operation, f"multiplies or divides two things that both depend on the picture ({name!r})")
        if getattr(step, "_saved_training", False):
            raise _refusal(
                operation, "normalises by what it finds in the picture (statistics of the batch or instance)"
            )
        if getattr(step, "_saved_rounding_mode", None):
            raise _refusal(operation, "rounds ('div')")


def sloped(x: Tensor, run: Run, back: Run) -> Tensor:
    """`run(x)`, whose gradient is sent back by `back`: by the result -> by `x`, instead of by its own slope."""
    found: Tensor = _Sloped.apply(x, run, back)  # type: ignore[no-untyped-call]
    return found


def sent_back(function: Run, x: Tensor, above: Tensor) -> Tensor:
    """The gradient by `x` of a function whose result has the gradient `above`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (below,) = torch.autograd.grad(function(x), x, above)
    return below


def secant(run: Run, x: Tensor, reference: Tensor, there: Tensor) -> Tensor:
    """Slope of the straight line from (reference, there) to (x, run(x)), elementwise; where both are one, the gradient.

    They count as one if they differ by less than the square root of the rounding error, where rounding would distort
    the slope as much as its change between them. Two numbers on either side of zero are always far enough apart.
    """
    with torch.enable_grad():
        inside = x.detach().requires_grad_()
        y = run(inside)
        (slope,) = torch.autograd.grad(y.sum(), inside)
    rise = x.detach() - reference
    near = rise.abs() <= torch.finfo(x.dtype).eps ** 0.5 * torch.maximum(x.abs(), reference.abs())
    return torch.where(near, slope, (y.detach() - there) / rise.masked_fill(near, 1))


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Run, back: Run) -> Tensor:
        ctx.back = back
        return run(x.detach())

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(above), None, None


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _refusal(operation: str, what: str) -> SaccadeError:
    return SaccadeError(
        f"Could not {operation}: the network {what}. Explain scores before any softmax, or take a method that only "
        "needs gradients, such as integrated gradients."
    )
