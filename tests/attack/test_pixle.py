"""Pixle against its search written plainly."""

import pytest
import torch
from attack.nets import conv_net, draw, labels_of

from saccade.attack.pixle import _mapping, pixle, rearranged
from saccade.engine.seeding import generator


def test_a_rearrangement_copies_pixels_whole() -> None:
    x = draw(2, 3, 2, 3)
    new = rearranged(x, torch.tensor([0, 4]), torch.tensor([4, 5]))
    assert torch.equal(new[:, :, 1, 1], x[:, :, 0, 0])
    assert torch.equal(new[:, :, 1, 2], x[:, :, 1, 1])  # as it was before
    assert torch.equal(new[:, :, 0], x[:, :, 0])


def test_rectangles_are_inside_and_of_the_sides_allowed() -> None:
    seen = set()
    for i in range(60):
        sources, places = _mapping(torch.Size([1, 3, 5, 7]), (2, 6), generator(i))
        rows, columns = sources // 7, sources % 7
        tall, wide = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert tall * wide == len(sources) == len(set(places.tolist()))
        assert places.max() < 35
        seen.add((tall, wide))
    assert {tall for tall, _ in seen} == {2, 3, 4, 5}
    assert {wide for _, wide in seen} == {2, 3, 4, 5, 6}


def test_it_is_the_search_written_plainly() -> None:
    network, x = conv_net(), draw(6, 3, 8, 8)
    network[-1].bias.data[labels_of(network, x)[0]] += 2.0
    labels = labels_of(network, x)
    found = pixle(network, x, labels, restarts=4, tries=3, sides=(1, 3), seed=9)
    for i in range(6):
        z, label, asked = x[i], int(labels[i]), 1

        def margin(picture: torch.Tensor, label: int = label) -> float:
            scores = network(picture[None])[0].detach()
            return (torch.cat([scores[:label], scores[label + 1 :]]).max() - scores[label]).item()

        value = margin(z)
        for restart in range(4):
            drawn, base = generator(9, restart), z
            for _ in range(3):
                sources, places = _mapping(x.shape, (1, 3), drawn)
                new = base.clone()
                for source, place in zip(sources.tolist(), places.tolist(), strict=True):
                    new[:, place // 8, place % 8] = base[:, source // 8, source % 8]
                asked += 1
                if margin(new) > value:
                    value, z = margin(new), new
            if value > 0:
                break
        assert found.forwards[i] == asked
        assert found.loss[i].item() == pytest.approx(value, rel=1e-9)
        assert bool(found.success[i]) == (value > 0)
    assert 0 < found.success.sum() < 6
