"""tinynet: sizes, the blur against its definition, and input gradients without a checkerboard."""

import pytest
import torch
from torch.nn import functional as F

from saccade.networks.tiny import BlurPool, TinyNet


def small(**changes):
    torch.manual_seed(0)
    return TinyNet(**{"num_classes": 5, "widths": (8, 12, 16), "units": (1, 2, 1), **changes})


def test_blur_is_the_stated_filter():
    x = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    padded, found = F.pad(x, (1, 1, 1, 1)), BlurPool(3)(x)
    line = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    assert found.shape == (2, 3, 4, 3)
    for i in range(4):
        for j in range(3):
            window = padded[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            expected = sum(line[a] * line[b] * window[:, :, a, b] for a in range(4) for b in range(4))
            torch.testing.assert_close(found[:, :, i, j], expected)


def test_blur_treats_every_pixel_alike():
    """Each pixel inside has the same share in the output: no checkerboard in a gradient that passes through."""
    x = torch.zeros(1, 2, 12, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(BlurPool(2)(x).sum(), x)
    inside = gradient[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.25))


def test_blur_under_autocast_is_that_of_the_rounded_values():
    x = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = BlurPool(3)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, BlurPool(3)(x.float()).bfloat16(), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(found.float().sum(), x)
    assert gradient.dtype == torch.bfloat16
    inside = gradient[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.25))


@pytest.mark.parametrize("side", [16, 17, 23, 31, 64])
def test_any_size_and_the_taps(side):
    network = small(widths=(8, 12, 16, 16), units=(1, 1, 1, 1)).eval()
    shapes = {}
    for name in ("stem", "stage1.unit1", "stage2.unit1", "stage3.unit1", "stage4.unit1"):
        network.get_submodule(name).register_forward_hook(lambda m, a, out, name=name: shapes.update({name: out.shape}))
    assert network(torch.rand(2, 3, side, side + 5)).shape == (2, 5)
    assert [shape[2] for shape in shapes.values()] == [side, side // 2, side // 4, side // 8, side // 16]
    assert [shape[1] for shape in shapes.values()] == [4, 8, 12, 16, 16]


def test_parameters_of_the_default():
    """Counted by hand: 3x3 convolutions without bias, two numbers a channel for each norm, one linear layer."""
    widths, channels, total = (48, 96, 192, 384), 24, 3 * 24 * 9 + 2 * 24
    for width in widths:
        total += channels * width * 9 + 2 * width + width * width * 9 + 2 * width
        channels = width
    total += 384 * 200 + 200
    network = TinyNet()
    assert sum(p.numel() for p in network.parameters()) == total
    assert total * 2 < 10e6  # bytes in half precision: fits the ten megabytes it may take


def test_batch_invariance_and_names():
    network = small().eval()
    x = torch.rand(3, 3, 20, 20)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))
    names = dict(network.named_modules())
    assert {"stem.relu", "stage2.pool", "stage2.unit2.conv", "stage3.unit1.relu", "classifier"} <= names.keys()
    assert not any("kernel" in key for key in network.state_dict())  # fixed filters are no weights


def test_activations_keep_their_scale_at_the_start():
    """He initialisation and batch norm: the last features are neither dead nor blown up."""
    network = small(widths=(16, 32, 32), units=(2, 2, 2)).train()
    features = []
    network.get_submodule("stage3").register_forward_hook(lambda m, a, out: features.append(out))
    network(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 0.2 < features[0].std() < 2
    assert 0.2 < (features[0] > 0).float().mean() < 0.8


def test_widths_and_units_must_match():
    with pytest.raises(ValueError, match="shorter"):
        TinyNet(widths=(8, 16), units=(1,))
