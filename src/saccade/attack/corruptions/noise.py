"""Noise: of a sensor (Gaussian), of few photons (shot), of values that fail (impulse). Each value on its own."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack.corruptions.draws import Drawn, normal, uniform


def gaussian_noise(x: Float[Tensor, "n 3 h w"], drawn: Drawn, std: float) -> Float[Tensor, "n 3 h w"]:
    """Normal noise of deviation `std` added."""
    return x + std * normal(drawn, x.shape[1:], x)


def shot_noise(x: Float[Tensor, "n 3 h w"], drawn: Drawn, photons: float) -> Float[Tensor, "n 3 h w"]:
    """What is counted where white is `photons` on average: the variance of a value is the value over `photons`."""
    rates = (photons * x).double().cpu()
    counts = torch.stack([torch.poisson(rate, generator=one) for rate, one in zip(rates, drawn, strict=True)])
    return counts.to(x) / photons


def impulse_noise(x: Float[Tensor, "n 3 h w"], drawn: Drawn, share: float) -> Float[Tensor, "n 3 h w"]:
    """A share of all values replaced, by 0 or by 1 with equal chances: salt and pepper in each channel."""
    chance = uniform(drawn, x.shape[1:], x)
    return x.where(chance >= share, (chance < share / 2).to(x))
