"""Randomness as a pure function of integers, so that nothing random needs to be saved."""

import torch

_MASK = (1 << 64) - 1


def mix(*keys: int) -> int:
    """Hash integers to one in [0, 2**63), well spread (the finaliser of SplitMix64; Steele et al. 2014).

    `mix(seed, epoch, step)` names a stream of random numbers: the same keys give the same stream on any
    machine, neighbouring keys unrelated ones.
    """
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state ^ (key & _MASK)) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*keys: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator seeded by `mix(*keys)`."""
    return torch.Generator(device=device).manual_seed(mix(*keys))
