"""SimBA against its paper written plainly, and its bases."""

import math

import pytest
import torch
from attack.nets import conv_net, draw, labels_of
from torch import Tensor

from saccade.attack.simba import _direction, simba, wave
from saccade.engine.seeding import generator


def test_the_waves_are_orthonormal_and_the_first_is_constant() -> None:
    for length in (1, 4, 7):
        basis = torch.stack([wave(k, length) for k in range(length)])
        torch.testing.assert_close(basis @ basis.T, torch.eye(length, dtype=torch.float64))
        assert basis[0].std(correction=0) < 1e-12
    k, n = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    plain = torch.cos(math.pi * k * (2 * n + 1) / 10).double()
    torch.testing.assert_close(wave(3, 5) / wave(3, 5)[0], plain[3] / plain[3, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_a_basis_is_complete(basis: str) -> None:
    every = torch.stack([_direction(i, (2, 3, 4), (3, 4), basis).flatten() for i in range(24)])
    torch.testing.assert_close(every @ every.T, torch.eye(24, dtype=torch.float64))


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_agrees_with_its_paper(basis: str) -> None:
    network, x = conv_net(), draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    found = simba(network, x, labels, basis=basis, steps=25, stride=0.15, seed=6)

    def margin(z: Tensor, label: int) -> float:
        scores = network(z[None])[0].detach()
        return (torch.cat([scores[:label], scores[label + 1 :]]).max() - scores[label]).item()

    order = torch.randperm(192, generator=generator(6, 0)).tolist()
    for i in range(6):
        z, label, asked = x[i], int(labels[i]), 1
        value, accepted = margin(z, label), 0
        for number in order[:25]:
            q = _direction(number, (3, 8, 8), (8, 8), basis)
            for sign in (1, -1):
                new = (z + sign * 0.15 * q).clamp(0, 1)
                asked += 1
                if margin(new, label) > value:
                    z, value, accepted = new, margin(new, label), accepted + 1
                    break
            if value > 0:
                break
        assert found.forwards[i] == asked
        assert bool(found.success[i]) == (value > 0)
        assert found.loss[i].item() == pytest.approx(value, rel=1e-9)
        assert found.norm[i] <= math.sqrt(accepted) * 0.15 + 1e-9
        if value > 0:
            torch.testing.assert_close(found.adversarial[i], z)


def test_low_frequencies_alone() -> None:
    network, x = conv_net(), 0.4 + 0.2 * draw(6, 3, 8, 8)
    labels = labels_of(network, x)
    found = simba(network, x, labels, basis="dct", frequencies=0.5, stride=0.1, steps=96)
    assert found.success.any()
    basis = torch.stack([wave(k, 8) for k in range(8)])
    amounts = basis @ (found.adversarial - x) @ basis.T
    assert amounts[found.success].abs().amax((0, 1))[:4, :4].max() > 0.05
    amounts[..., :4, :4] = 0
    assert amounts.abs().max() < 1e-12


def test_it_begins_anew_when_all_directions_were_tried_and_more_steps_help() -> None:
    network, x = conv_net(), draw(8, 3, 8, 8)
    labels, before = labels_of(network, x), None
    for steps in (0, 20, 200):
        found = simba(network, x, labels, stride=0.01, steps=steps)
        assert before is None or (found.loss >= before.loss).all()
        before = found
    assert (found.forwards > 1 + 192).any()
