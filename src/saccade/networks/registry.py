"""The table of architectures: a name and keywords make a module, in recipes and weight files."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn

from saccade.errors import SaccadeError
from saccade.networks import cifar_resnet, fast, preact, resnet, squeezenet, strided, thin_vgg, three_level, tiny, vgg

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    # course part 1
    "three-layer-convnet": three_level.ThreeLayerConvNet,
    "two-layer-net": three_level.TwoLayerNet,
    "plain32": preact.plain32,
    "resnet32": preact.resnet32,
    "resnet47": preact.resnet47,
    # small pictures
    **{f"cifar-resnet{n}": partial(cifar_resnet.CifarResNet, depth=n) for n in (20, 32, 44, 56, 110)},
    "cifar-preact8": partial(preact.ResNet, ((16, 64, 1, True), (64, 128, 1, True), (128, 256, 1, True))),
    "strided": strided.StridedNet,
    "tinynet": tiny.TinyNet,
    "fast": fast.FastNet,
    "fast94": partial(fast.FastNet, widths=(64, 256, 256)),
    "fast95": partial(fast.FastNet, widths=(128, 384, 384)),
    "fast96": partial(fast.FastNet, widths=(128, 384, 512), convs=3, momentum=0.9),
    # ImageNet, with torchvision's parameter names
    "squeezenet1_0": squeezenet.squeezenet1_0,
    "squeezenet1_1": squeezenet.squeezenet1_1,
    "vgg16": vgg.vgg16,
    "vgg19": vgg.vgg19,
    "vgg16_bn": vgg.vgg16_bn,
    "vgg19_bn": vgg.vgg19_bn,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    # encoders, whose scores are features
    "vgg19_thin16x": thin_vgg.ThinVGG,
}
"""Every entry takes `num_classes` as keyword; the further keywords are those of the function or class."""


def build(name: str, **keywords: Any) -> nn.Module:
    """A new module of the architecture `name`, with random weights, in training mode.

    `build("cifar-resnet20", num_classes=100)`. Raises `SaccadeError` for an unknown name or keyword.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    make = ARCHITECTURES[name]
    try:
        inspect.signature(make).bind(**keywords)
    except TypeError as error:
        possible = ", ".join(inspect.signature(make).parameters)
        raise SaccadeError(f"Building {name}: {error}; its keywords are {possible}.") from error
    return make(**keywords)


def unknown(kind: str, name: str, known: Iterable[str]) -> SaccadeError:
    """The error for a name that is not in a table: it lists the close ones, or all if none is close."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return SaccadeError(f"There is no {kind} {name!r}. Did you mean {' or '.join(close)}?")
    return SaccadeError(f"There is no {kind} {name!r}. There are {', '.join(names)}.")
