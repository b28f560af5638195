"""Maps that look at no network: what a method has to beat before its map means anything.

They have the signature of the methods, so whatever scores a method scores them.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.seeding import generator
from saccade.explain.question import Target
from saccade.networks.targets import check_input
from saccade.pictures.colour import luminance


def random_map(network: nn.Module, pictures: Tensor, target: Target, *, seed: int = 0) -> Float[Tensor, "n h w"]:  # noqa: ARG001
    """Uniform noise in [0, 1), the same for every picture."""
    check_input(pictures, "draw a random map")
    n, _, h, w = pictures.shape
    noise = torch.rand(h, w, dtype=torch.float64, generator=generator(seed, 0xC0117801))
    return noise.to(pictures).expand(n, h, w).contiguous()


def edge_map(network: nn.Module, pictures: Tensor, target: Target, *, seed: int = 0) -> Float[Tensor, "n h w"]:  # noqa: ARG001
    """Edges of the picture: the length of the Sobel gradient of its luminance."""
    check_input(pictures, "draw an edge map")
    grey = nn.functional.pad(luminance(pictures.detach()), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=grey.dtype, device=grey.device) / 8
    slopes = nn.functional.conv2d(grey, torch.stack([across, across.T])[:, None])
    return slopes.square().sum(1).sqrt()


def centre_map(network: nn.Module, pictures: Tensor, target: Target, *, seed: int = 0) -> Float[Tensor, "n h w"]:  # noqa: ARG001
    """A Gaussian on the middle of the picture; its standard deviations are a quarter of the height and of the width."""
    check_input(pictures, "draw a centre map")
    n, _, h, w = pictures.shape
    y, x = ((torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5 for side in (h, w))
    blob = torch.exp(-(y[:, None].square() + x.square()) / (2 * 0.25**2))
    return blob.to(pictures).expand(n, h, w).contiguous()


CONTROLS: dict[str, Callable[..., Tensor]] = {"random": random_map, "edges": edge_map, "centre": centre_map}
"""The controls by name, each (network, pictures, target, *, seed=0) -> (N, H, W)."""
