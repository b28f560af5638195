"""The one-pixel attack against exhaustive search, and its evolution against a plain one."""

import itertools

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of
from torch import Tensor

from saccade.attack.one_pixel import _first, _parents, one_pixel, painted
from saccade.engine.seeding import generator


@pytest.mark.parametrize("pixels", [1, 2])
def test_it_finds_the_best_pixels_of_small_linear_networks(pixels: int) -> None:
    """The best colours are corners of the cube, so there are few enough to try all."""
    weight = draw(2, 2, 3, 3, seed=1) - 0.5
    network = Linear(weight, torch.tensor([30.0, 0.0], dtype=torch.float64))  # never fooled, so it searches to the end
    x = draw(3, 2, 3, 3, seed=2)
    labels = labels_of(network, x)
    found = one_pixel(network, x, labels, pixels=pixels, population=80, steps=40)
    assert not found.success.any()
    corners = list(itertools.product((0.0, 1.0), repeat=2))
    for i in range(3):
        gains = []
        for place in range(9):
            row, column = divmod(place, 3)
            tried = []
            for colour in corners:
                z = x[i : i + 1].clone()
                z[0, :, row, column] = torch.tensor(colour, dtype=torch.float64)
                said = network(z)[0].detach()
                tried.append((said[1] - said[0]).item())
            gains.append(max(tried))
        before = (network(x)[i, 1] - network(x)[i, 0]).item()
        best = before + sum(sorted((gain - before for gain in gains), reverse=True)[:pixels])
        assert found.loss[i].item() <= best + 1e-9
        assert found.loss[i].item() >= best - 0.02 * (best - before)


def test_it_evolves_as_a_plain_evolution_does() -> None:
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    network[-1].bias.data[labels[0]] += 2  # takes a while, or fails
    labels = labels_of(network, x)
    found = one_pixel(network, x, labels, population=12, steps=6, seed=3)

    def margin(z: Tensor, label: int) -> float:
        scores = network(z[None])[0].detach()
        return (torch.cat([scores[:label], scores[label + 1 :]]).max() - scores[label]).item()

    for i in range(4):
        drawn, label = generator(3), int(labels[i])
        genes = _first(12, 1, 3, drawn)[0].clone()
        highest = [-float("inf")] * 12
        for step in range(7):
            children = genes.clone()
            if step:
                for k, (a, b, c) in enumerate(zip(*_parents(12, drawn), strict=True)):
                    child = genes[a, 0] + 0.5 * (genes[b, 0] - genes[c, 0])
                    children[k, 0] = torch.cat([child[:2] - child[:2].floor(), child[2:].clamp(0, 1)])
            for k in range(12):
                z = x[i].clone()
                z[:, int(children[k, 0, 0] * 8), int(children[k, 0, 1] * 8)] = children[k, 0, 2:]
                value = margin(z, label)
                if value > highest[k]:
                    highest[k], genes[k] = value, children[k]
            if max(highest) > 0:
                break
        assert max(found.loss[i].item(), margin(x[i], label)) == pytest.approx(
            max(max(highest), margin(x[i], label)), rel=1e-9
        )
        assert bool(found.success[i]) == (max(highest) > 0)
        assert found.forwards[i] == 1 + 12 * (step + 1)


def test_parents_are_different_and_fewer_pixels_change_than_allowed() -> None:
    a, b, c = _parents(9, generator(1))
    for one in zip(range(9), a.tolist(), b.tolist(), c.tolist(), strict=True):
        assert len(set(one)) == 4
    genes = torch.tensor([[[[0.0, 0.999, 0.1, 0.2], [0.0, 1.0, 0.3, 0.4]]]])
    z = painted(torch.full((1, 2, 3, 4), 0.5), genes)[0, 0]
    assert z[:, 0, 3].tolist() == pytest.approx([0.3, 0.4])  # the last counts
    assert (z != 0.5).sum() == 2
