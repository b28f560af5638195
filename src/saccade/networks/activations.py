"""What the layers of a network give out for pictures."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.network import Network


class _Seen(Exception):
    """All layers asked for have been passed; the rest of the network need not run."""


def activations(network: Network, pictures: Float[Tensor, "n 3 h w"], layers: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of `layers`, by their dotted names; the network runs no further than the last of them.

    A layer that runs several times gives its first output. Gradients flow as in a plain call. Raises `SaccadeError`
    for a layer that is not there or that does not run.
    """
    found: dict[str, Tensor] = {}
    wanted = {name: network.layer(name) for name in layers}

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            last = len(found | {name: output}) == len(wanted)
            found.setdefault(name, output if last else output.clone())  # a ReLU behind it may write into it
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
        raise SaccadeError(f"{network.name}: the layer {sorted(missing)[0]} does not run for such pictures.")
    return found


def last_spatial_layer(network: Network, pictures: Float[Tensor, "n 3 h w"]) -> str:
    """The name of the last layer, in running order, whose output is a map (N, C, h, w) of more than one place."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            shapes.pop(name, None)
            shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in network.layers.items()]
    try:
        network(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    maps = [name for name, shape in shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
    if not maps:
        raise SaccadeError(f"{network.name} has no layer that gives a map; name a layer.")
    return maps[-1]
