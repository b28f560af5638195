"""Eigen-CAM against activations of known rank, and against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.explain.eigen_cam import eigen_cam


def through(weight: torch.Tensor) -> nn.Module:
    """Layer "0" mixes the three colours into the channels."""
    conv = nn.Conv2d(3, len(weight), 1, bias=False).to(weight.dtype)
    conv.weight.data = weight[:, :, None, None].clone()
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("sign", [1, -1])
def test_of_one_pattern_it_is_that_pattern(sign: int) -> None:
    v = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    pattern = sign * torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.5, 4.0]], dtype=torch.float64)
    x = torch.stack([pattern, pattern * 7, pattern * -3])[None]
    weight = torch.stack([v, torch.zeros(3), torch.zeros(3)], 1)  # channel k is v[k] times the first colour
    found = eigen_cam(through(weight), x, 0, layer="0")
    assert_close(found[0], 5 * pattern, rtol=1e-12, atol=1e-12)  # |v| = 5, and the sign of the summed activation


@pytest.mark.parametrize("channels", [5, 200])
def test_is_numpy_s_first_principal_direction(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    weight = torch.randn(channels, 3, dtype=torch.float64, generator=generator)
    x = torch.rand(4, 3, 6, 9, dtype=torch.float64, generator=generator)
    network = through(weight)
    found = eigen_cam(network, x, [0, 1, 2, 3], layer="0", batch_size=3)
    for i, a in enumerate(network[0](x).detach().numpy()):
        places = a.reshape(channels, -1).T
        values, directions = np.linalg.eigh(places.T @ places)
        expected = places @ directions[:, np.argmax(values)]
        expected *= np.sign(expected @ places.sum(1))
        np.testing.assert_allclose(found[i].numpy().ravel(), expected, rtol=1e-8, atol=1e-9)


def test_is_of_no_class_but_checks_it() -> None:
    network = through(torch.rand(4, 3))
    x = torch.rand(2, 3, 5, 5)
    assert torch.equal(eigen_cam(network, x, 0, layer="0"), eigen_cam(network, x, 3, layer="0"))
    with pytest.raises(SaccadeError, match="no class 4"):
        eigen_cam(network, x, 4, layer="0")


def test_in_half_precision() -> None:
    network, x = through(torch.rand(4, 3)).bfloat16(), torch.rand(2, 3, 5, 5).bfloat16()
    found = eigen_cam(network, x, 0, layer="0")
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), eigen_cam(network.float(), x.float(), 0, layer="0"), rtol=3e-2, atol=3e-2)
