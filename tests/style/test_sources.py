"""The presets beside their sources' losses, each written here as its source writes it, from the maps themselves."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.networks import Network, build
from saccade.networks.activations import activations
from saccade.style.eye import Eye
from saccade.style.objective import Objective
from saccade.style.presets import PRESETS

CONTENT, STYLE = "relu42", tuple(f"relu{stage}1" for stage in range(1, 6))
Maps = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build("vgg19_thin16x", widths=(8, 8, 16, 16), num_classes=16)
    module = built.module if isinstance(built, Network) else built
    architecture = ("vgg19_thin16x", {})
    return Network(module, mean=(0, 0, 0), std=(1, 1, 1), architecture=architecture).double().eval()


def tutorial(now: Maps, content: Maps, style: Maps, picture: Tensor) -> Tensor:
    def gram_matrix(x: Tensor) -> Tensor:
        a, b, c, d = x.size()
        features = x.view(a * b, c * d)
        return torch.mm(features, features.t()).div(a * b * c * d)

    style_score = sum(F.mse_loss(gram_matrix(now[n]), gram_matrix(style[n])) for n in STYLE)
    return style_score * 1_000_000 + F.mse_loss(now[CONTENT], content[CONTENT])


def gatys(now: Maps, content: Maps, style: Maps, picture: Tensor) -> Tensor:
    def gram(x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        flat = x.view(b, c, h * w)
        return torch.bmm(flat, flat.transpose(1, 2)).div_(h * w)

    weights = [1e3 / n**2 for n in (64, 128, 256, 512, 512)]
    losses = [w * F.mse_loss(gram(now[n]), gram(style[n])) for w, n in zip(weights, STYLE, strict=True)]
    return sum(losses) + F.mse_loss(now[CONTENT], content[CONTENT])


def neural_style_pt(now: Maps, content: Maps, style: Maps, picture: Tensor) -> Tensor:
    def gram(x: Tensor) -> Tensor:
        _, c, h, w = x.size()
        flat = x.view(c, h * w)
        return torch.mm(flat, flat.t()) / x.nelement()

    fed = 255 * picture  # the program feeds bytes minus means
    variation = (fed[:, :, 1:] - fed[:, :, :-1]).abs().sum() + (fed[:, :, :, 1:] - fed[:, :, :, :-1]).abs().sum()
    style_score = sum(100 * F.mse_loss(gram(now[n]), gram(style[n])) for n in STYLE)
    return style_score + 5 * F.mse_loss(now[CONTENT], content[CONTENT]) + 1e-3 * variation


SOURCES: dict[str, Callable[[Maps, Maps, Maps, Tensor], Tensor]] = {
    "tutorial": tutorial,
    "gatys": gatys,
    "neural-style-pt": neural_style_pt,
}


@pytest.mark.parametrize("name", SOURCES)
def test_value_and_gradient_are_those_of_the_source(name: str, network: Network) -> None:
    generator = torch.Generator().manual_seed(1)
    content, *pictures = torch.rand(4, 1, 3, 40, 35, dtype=torch.float64, generator=generator)
    style = torch.rand(1, 3, 36, 44, dtype=torch.float64, generator=generator)

    def maps(x: Tensor) -> Maps:
        return activations(network, x, (*STYLE, CONTENT))

    for picture in pictures:
        leaf, other = picture.clone().requires_grad_(), picture.clone().requires_grad_()
        expected = SOURCES[name](maps(leaf), maps(content), maps(style), leaf)
        found = -Objective(Eye(network, PRESETS[name]), content, [style])(other).sum()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        slopes = [torch.autograd.grad(loss, x)[0] for loss, x in ((expected, leaf), (found, other))]
        torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-7, atol=1e-12)
