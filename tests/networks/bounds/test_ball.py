"""Balls against the two ends they stand for, in float64 and in 16 bits."""

import torch

from saccade.networks.bounds.ball import Ball, relu


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_relu_of_a_ball_is_that_of_its_ends() -> None:
    centre, radius = draw(4, 50, seed=0), draw(4, 50, seed=1).abs()
    found = relu(Ball(centre, radius))
    torch.testing.assert_close(found.lower, (centre - radius).relu())
    torch.testing.assert_close(found.upper, (centre + radius).relu())


def test_its_gradient_is_that_of_the_ends() -> None:
    centre, radius = draw(4, 50, seed=2).requires_grad_(), draw(4, 50, seed=3).abs().requires_grad_()
    a, b = draw(4, 50, seed=4), draw(4, 50, seed=5)
    found = relu(Ball(centre, radius))
    ours = torch.autograd.grad((a * found.centre + b * found.radius).sum(), (centre, radius))
    low, high = (centre - radius).relu(), (centre + radius).relu()
    wanted = torch.autograd.grad((a * (high + low) / 2 + b * (high - low) / 2).sum(), (centre, radius))
    torch.testing.assert_close(ours, wanted)


def test_a_small_radius_outlives_16_bits() -> None:
    """A radius of a thousandth of the centre, which the ends in 16 bits could not tell apart."""
    centre = 1 + draw(200, seed=6).abs()
    radius = 1e-3 * (1 + draw(200, seed=7).abs())
    found = relu(Ball(centre.bfloat16(), radius.bfloat16()))
    assert found.radius.dtype == torch.bfloat16
    torch.testing.assert_close(found.radius.double(), radius, rtol=2**-7, atol=0)
    ends = (centre + radius).bfloat16().double() - (centre - radius).bfloat16().double()
    assert (ends == 0).any()
    wide = Ball(centre.bfloat16(), radius.bfloat16())
    torch.testing.assert_close((wide.upper - wide.lower).double(), 2 * radius, rtol=2**-7, atol=1e-6)
