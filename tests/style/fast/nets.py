"""A small eye and small photographs for the tests of fast styles."""

import torch
from torch import Tensor

from saccade.networks import Network, build
from saccade.style.fast.network import FastStyle

SMALL = {"widths": (4, 6, 8), "blocks": 1, "kernel": 5}


def eye() -> Network:
    torch.manual_seed(0)
    keywords = {"num_classes": 4, "widths": (8, 8, 8, 8), "units": (1, 1, 1, 1)}
    return Network(build("tinynet", **keywords), architecture=("tinynet", keywords)).eval()


def style_network(styles: tuple[str, ...] = ("one",), **keywords: object) -> FastStyle:
    """Random weights, scales and shifts; no two styles alike."""
    torch.manual_seed(1)
    network = FastStyle(styles=styles, architecture={**SMALL, **keywords}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".in" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return network


def pictures(n: int, h: int, w: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed))
