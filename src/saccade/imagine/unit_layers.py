"""Which layers of a network hold the units that one looks at."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules import activation

from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.network import Network

_ACTIVATIONS = tuple(
    kind
    for name in activation.__all__
    if isinstance(kind := getattr(activation, name), type) and name not in ("MultiheadAttention", "Softmax2d")
)


def unit_layers(network: nn.Module, pictures: Tensor) -> list[str]:
    """The layers, in running order, whose maps come out of an activation function, and the one that gives the scores.

    An activation that ends its block goes by the name of the block ("stage1.unit2", "layer3.0"). A network whose
    activations are no modules gives its convolutions instead. Raises `SaccadeError` if nothing is found.

    pictures: (N, 3, H, W), one is enough; the network is run once.
    """
    inner = network.module if isinstance(network, Network) else network
    ran: list[tuple[str, nn.Module, Tensor]] = []  # in the order in which they ended; some run several times

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - PyTorch's signature
            if isinstance(output, Tensor):
                ran.append((name, layer, output))

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in inner.named_modules() if name]
    try:
        with evaluating(network):
            scores = network(pictures[:1])
    finally:
        for handle in hooks:
            handle.remove()
    first: dict[str, Tensor] = {}  # what `activations` gives of each layer
    for name, _, output in ran:
        first.setdefault(name, output)
    found = []
    for kinds in (_ACTIVATIONS, nn.Conv2d):
        for name, layer, output in ran:
            if isinstance(layer, kinds) and output.ndim == 4 and output.shape[2:].numel() > 1:
                block = name.rpartition(".")[0]
                if first.get(block) is output:
                    found.append(block)
                elif first[name] is output:
                    found.append(name)
        if found:
            break
    found += [name for name, layer, output in ran if output is scores and not any(layer.children())][:1]
    if not found:
        raise SaccadeError("The network has no layer whose units could be shown; name layers.")
    return list(dict.fromkeys(found))
