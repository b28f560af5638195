"""Where the networks that Saccade knows are tapped for style: one content layer, five style layers from fine to coarse.

Layers are ReLUs, as in Gatys et al. 2015 (arXiv:1508.06576), or the blocks that end in one.
"""

from torch import nn

from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.style.preset import Layers, Preset

LAYERS: dict[str, Layers] = {
    "tinynet": Layers(("stage3.unit1",), ("stem", *(f"stage{i}.unit1" for i in range(1, 5)))),
    "vgg19_thin16x": Layers(("relu42",), tuple(f"relu{i}1" for i in range(1, 6))),
    "vgg16": Layers(("features.20",), tuple(f"features.{i}" for i in (1, 6, 11, 18, 25))),
    "vgg19": Layers(("features.22",), tuple(f"features.{i}" for i in (1, 6, 11, 20, 29))),
    "vgg16_bn": Layers(("features.29",), tuple(f"features.{i}" for i in (2, 9, 16, 26, 36))),
    "vgg19_bn": Layers(("features.32",), tuple(f"features.{i}" for i in (2, 9, 16, 29, 42))),
    "squeezenet1_0": Layers(("features.7",), tuple(f"features.{i}" for i in (1, 3, 5, 8, 10))),
    "squeezenet1_1": Layers(("features.6",), tuple(f"features.{i}" for i in (1, 3, 6, 9, 11))),
    **{
        f"resnet{depth}": Layers(("layer3",), ("relu", "layer1", "layer2", "layer3", "layer4"))
        for depth in (18, 34, 50, 101)
    },
}
"""By the name of the architecture."""

ANY = ""
"""The key in `Preset.layers` of the layers of whatever network there is."""


def layers_of(network: nn.Module, preset: Preset) -> Layers:
    """Where a network is tapped for a preset.

    Raises `SaccadeError` for a network that is not known, unless the preset names its layers.
    """
    known = network.architecture if isinstance(network, Network) else None
    name = known[0] if known else type(network).__name__
    found = preset.layers.get(ANY) or preset.layers.get(name) or LAYERS.get(name)
    stages = int(getattr(network.module, "stages", 4)) if name == "tinynet" and isinstance(network, Network) else 4
    if stages < 4 and found is LAYERS["tinynet"]:
        found = Layers((f"stage{min(3, stages)}.unit1",), found.style[: 1 + stages])
    if found is None:
        raise SaccadeError(
            f"Could not find the layers of {name} that tell style: only those of {', '.join(LAYERS)} are known. Name "
            "them: content_layers= and style_layers=, from fine to coarse."
        )
    return found
