"""Each preset's objective, value and gradient, against the evaluator that was written apart from it."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.networks import Network, build
from saccade.networks.network import IMAGENET_MEAN, IMAGENET_STD
from saccade.style.eye import Eye
from saccade.style.objective import Objective
from saccade.style.presets import PRESETS, find_preset
from saccade.style.score import score

SIZES = {"vgg19_thin16x": {}, "squeezenet1_1": {"num_classes": 2}, "tinynet": {"widths": (8, 8, 8, 8)}}


@lru_cache(maxsize=1)
def network(name: str) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build(name, **SIZES[name])
    module = made.module if isinstance(made, Network) else made
    return Network(module, mean=IMAGENET_MEAN, std=IMAGENET_STD, architecture=(name, SIZES[name])).eval()


def picture(h: int, w: int, seed: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CASES = [(n, p) for n in SIZES for p in PRESETS if len(PRESETS[p].style_weights) <= 5]


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_value_and_gradient_are_those_of_the_evaluator(name, preset):
    chosen = PRESETS[preset]
    for dtype, near in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        net = network(name).to(dtype)
        pictures, content, style = picture(33, 40, 1, 3).to(dtype), picture(33, 40, 2).to(dtype), picture(36, 35, 3)
        leaf = pictures.clone().requires_grad_()
        loss = -Objective(Eye(net, chosen), content, [style.to(dtype)])(leaf)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        judged = score(pictures, content, [style.to(dtype)], network=net, preset=chosen, gradient=True)
        torch.testing.assert_close(loss.detach().double(), judged.total, rtol=near, atol=0)
        assert (slope.double() - judged.gradient).norm() <= 10 * near * judged.gradient.norm()


def test_a_preset_by_name_or_as_it_is():
    assert find_preset("gatys") is PRESETS["gatys"]
    assert find_preset(PRESETS["gatys"]) is PRESETS["gatys"]
    with pytest.raises(SaccadeError, match="gaty"):
        find_preset("gaty")
