"""The spatial attack: its transformations pixel by pixel, and its grid against trying all."""

import math

import pytest
import torch
from attack.nets import conv_net, draw, labels_of

from saccade.attack.spatial import spatial, transformed


def test_turns_and_shifts_that_need_no_interpolation() -> None:
    x = draw(2, 3, 6, 6)
    torch.testing.assert_close(transformed(x, 0, 0, 0), x)
    torch.testing.assert_close(transformed(x, 90, 0, 0), x.rot90(1, (2, 3)))  # against the clock
    wide = draw(1, 2, 4, 8)
    torch.testing.assert_close(transformed(wide, 180, 0, 0), wide.flip(2, 3))
    down = torch.zeros_like(wide)
    down[:, :, 1:, :-2] = wide[:, :, :-1, 2:]
    torch.testing.assert_close(transformed(wide, 0, 1 / 4, -2 / 8), down)


def test_any_transformation_pixel_by_pixel() -> None:
    x = draw(1, 1, 5, 9)
    new, turn = transformed(x, 25, 0.1, -0.2), math.radians(25)
    for row in range(5):
        for column in range(9):
            across, up = column - 4 + 0.2 * 9, -(row - 2 - 0.1 * 5)  # shifted back
            along, above = (  # turned back, with the clock
                across * math.cos(turn) + up * math.sin(turn),
                -across * math.sin(turn) + up * math.cos(turn),
            )
            i, j = 2 - above, 4 + along
            value = 0.0
            for r in (math.floor(i), math.floor(i) + 1):
                for c in (math.floor(j), math.floor(j) + 1):
                    if 0 <= r < 5 and 0 <= c < 9:
                        value += (1 - abs(i - r)) * (1 - abs(j - c)) * x[0, 0, r, c].item()
            assert new[0, 0, row, column].item() == pytest.approx(value, abs=1e-9)


def test_it_finds_the_mildest_of_the_grid() -> None:
    network, x = conv_net(), draw(8, 3, 8, 8)
    labels = labels_of(network, x)
    network[-1].bias.data[labels[0]] += 3.0  # which is hard to leave
    labels = labels_of(network, x)
    found = spatial(network, x, labels, degrees=20, shift=0.2, angles=3, shifts=3)
    steps = (-1.0, 0.0, 1.0)
    moves = [(a, d, s) for a in steps for d in steps for s in steps if (a, d, s) != (0, 0, 0)]
    for i in range(8):
        fooled, margins = [], []
        for a, d, s in moves:
            z = transformed(x[i : i + 1], 20 * a, 0.2 * d, 0.2 * s)
            scores = network(z)[0].detach()
            rest = scores.clone()
            rest[labels[i]] = -torch.inf
            margins.append((rest.max() - scores[labels[i]]).item())
            if margins[-1] > 0:
                fooled.append((a * a + d * d + s * s, z))
        assert bool(found.success[i]) == bool(fooled)
        if fooled:
            least = min(size for size, _ in fooled)
            assert any(torch.equal(found.adversarial[i], z[0]) for size, z in fooled if size == least)
        else:
            assert found.loss[i].item() >= max(margins) - 1e-12
            assert found.forwards[i] == 27
    assert 0 < found.success.sum() < 8


def test_more_tries_fool_more() -> None:
    network, x = conv_net(), draw(12, 3, 8, 8)
    labels, before = labels_of(network, x), torch.zeros(12, dtype=torch.bool)
    network[-1].bias.data[labels[0]] += 1.5
    labels = labels_of(network, x)
    for tries in (1, 10):
        found = spatial(network, x, labels, tries=tries)
        assert not (before & ~found.success).any()
        before = found.success
    assert before.any()
