"""Winograd's convolution against PyTorch's, in values and in gradients."""

import pytest
import torch
from torch import Tensor

from saccade.networks import winograd
from saccade.networks.winograd import Winograd


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def both(x: Tensor, conv: Winograd, relu: bool) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient by PyTorch and by Winograd."""
    found = []
    for which in range(2):
        leaf = x.clone().requires_grad_()
        plain = torch.conv2d(leaf, conv.weight, conv.bias, padding=1)
        y = conv(leaf, relu) if which else plain.relu() if relu else plain
        found.append((y.detach(), torch.autograd.grad(y, leaf, numbers(*y.shape, dtype=x.dtype, seed=9))[0]))
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("n", "cin", "cout", "h", "w"),
    [(2, 3, 5, 8, 12), (1, 4, 2, 1, 1), (3, 2, 6, 7, 9), (2, 5, 5, 4, 17), (1, 1, 1, 6, 2)],
)
def test_equals_pytorch(n: int, cin: int, cout: int, h: int, w: int, relu: bool, layout: torch.memory_format) -> None:
    x = numbers(n, cin, h, w).contiguous(memory_format=layout)
    for bias in (None, numbers(cout, seed=2)):
        plain, found = both(x, Winograd(numbers(cout, cin, 3, 3, seed=1), bias), relu)
        torch.testing.assert_close(found, plain, rtol=1e-11, atol=1e-12)


def test_in_float32_it_errs_by_rounding() -> None:
    conv = Winograd(numbers(64, 64, 3, 3, dtype=torch.float32, seed=1) / 24)
    exact = Winograd(conv.weight.double())
    x = numbers(2, 64, 14, 14, dtype=torch.float32)
    for found, right in zip(both(x, conv, False)[1], both(x.double(), exact, False)[0], strict=True):
        assert 0 < (found - right).norm() < 1e-5 * right.norm()


@pytest.mark.parametrize("at_once", [1, 36 * 6 * 5, 10**9])
def test_a_few_pictures_at_a_time_are_all_pictures(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    x, conv = numbers(5, 3, 6, 10), Winograd(numbers(2, 3, 3, 3, seed=1))
    monkeypatch.setattr(winograd, "AT_ONCE", at_once)
    torch.testing.assert_close(conv(x), torch.conv2d(x, conv.weight, padding=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(conv(x)[3:4], conv(x[3:4]), rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_differences() -> None:
    conv = Winograd(numbers(3, 2, 3, 3, seed=1), numbers(3, seed=2))
    x = numbers(1, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(conv, (x,))
    assert torch.autograd.gradcheck(lambda x: conv(x, True), (x,))


@pytest.mark.parametrize("far", [False, True])
def test_products_by_either_library_are_the_same(monkeypatch: pytest.MonkeyPatch, far: bool) -> None:
    monkeypatch.setattr(winograd, "onednn_is_far_faster", lambda: far)
    x, weight = numbers(3, 40, 9, 14, dtype=torch.float32), numbers(48, 40, 3, 3, dtype=torch.float32, seed=1) / 19
    plain, found = both(x, Winograd(weight, numbers(48, dtype=torch.float32, seed=2)), True)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("amx", [False, True])
def test_it_is_used_where_it_saves(monkeypatch: pytest.MonkeyPatch, amx: bool) -> None:
    """Later where convolutions are fast: with more channels, and more tiles for the larger cost of the weights."""
    monkeypatch.setattr(winograd, "AMX", amx)
    for far in (False, True):
        monkeypatch.setattr(winograd, "onednn_is_far_faster", lambda far=far: far)
        asked = ((64, 64, 1000), (64, 128, 1000), (128, 128, 1000), (128, 128, 200), (256, 63, 1000), (256, 256, 20))
        narrow = not (amx or far)
        assert [winograd.pays(*one) for one in asked] == [narrow, narrow, True, not far, False, False]
