"""What the layers of a network give out for pictures."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.network import Network


class _Seen(Exception):
    """All layers asked for have been passed; the rest of the network need not run."""


def activations(
    network: nn.Module, pictures: Float[Tensor, "n 3 h w"], layers: Sequence[str], *, clone: bool = True
) -> dict[str, Tensor]:
    """The outputs of `layers`, by their dotted names; the network runs no further than the last of them.

    The name "" is the network as a whole: its scores. A layer that runs several times gives its first output. Gradients
    flow as in a plain call. clone: False leaves out the copies that protect outputs from layers behind them that work
    in place; right only where there are none. Raises `SaccadeError` for a layer that is not there or that does not run.
    """
    found: dict[str, Tensor] = {}
    wanted = {name: find_layer(network, name) if name else network for name in layers}

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            last = len(found | {name: output}) == len(wanted)
            found.setdefault(
                name, output.clone() if clone and not last else output
            )  # a ReLU behind it may write into it
            if last:
                raise _Seen

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in wanted.items()]
    try:
        network(pictures)
    except _Seen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    missing = wanted.keys() - found.keys()
    if missing:
        raise SaccadeError(f"The layer {sorted(missing)[0]} does not run for such pictures.")
    return found


def find_layer(network: nn.Module, layer: str | nn.Module) -> nn.Module:
    """A layer of any module by its dotted name, or the layer itself, checked to be a part of it.

    Of a `Network` the names are those of its module. Raises `SaccadeError` with the names there are.
    """
    inner = network.module if isinstance(network, Network) else network
    if isinstance(layer, nn.Module):
        if any(layer is part for part in network.modules()):
            return layer
        raise SaccadeError(f"The layer {type(layer).__name__} that was given is no part of the network.")
    try:
        if layer:
            return inner.get_submodule(layer)
    except AttributeError:
        pass
    names = ", ".join(name for name, _ in inner.named_modules() if name)
    raise SaccadeError(f"The network has no layer {layer!r}; its layers are {names}.")


def last_spatial_layer(network: nn.Module, pictures: Float[Tensor, "n 3 h w"]) -> str:
    """The name of the last layer, in running order, whose output is a map (N, C, h, w) of more than one place.

    Left out are what pooling and dropout make of it, and maps with one channel a class, which a network that ends in
    a convolution averages to its scores: they are its answer, not what it saw.
    """
    passive = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d)
    inner = network.module if isinstance(network, Network) else network
    seen: dict[str, int] = {}  # how many channels each layer gave last, in the order in which they ended
    skipped: list[Tensor] = []  # kept, so that none of their ids is given to another tensor

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            seen.pop(name, None)
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                if not isinstance(layer, passive):
                    if not any(output is one for one in skipped):
                        seen[name] = output.shape[1]
                elif output is not inputs[0]:
                    skipped.append(output)

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in inner.named_modules() if name]
    try:
        scores = network(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    classes = scores.shape[1] if isinstance(scores, Tensor) and scores.ndim == 2 else None
    inside = [name for name, channels in seen.items() if channels != classes]
    if not seen:
        raise SaccadeError("The network has no layer that gives a map; name a layer.")
    return (inside or list(seen))[-1]
