"""Square, which asks about one window after the other, with and without keeping what lies outside."""

import pytest
import torch
from attack.nets import conv_net, draw, labels_of
from torch import Tensor

from saccade.attack import near as whole
from saccade.attack import passes
from saccade.attack.engine import searching
from saccade.attack.near import Near
from saccade.attack.passes import AFTER
from saccade.attack.square import square
from saccade.networks.windowed import Window, Windowed

X = draw(9, 3, 16, 16)
NETWORK = conv_net(side=16)
LABELS = labels_of(NETWORK, X)
SMALL, LARGE = Window(2, 5, 4, 8), Window(1, 15, 1, 15)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows that were asked about."""
    windows: list[Window] = []
    ask = Windowed.ask

    def noted(self: Windowed, piece: Tensor, window: Window) -> Tensor:
        windows.append(window)
        return ask(self, piece, window)

    monkeypatch.setattr(Windowed, "ask", noted)
    return windows


@pytest.mark.parametrize("batch_size", [None, 4])
def test_square_finds_the_same(asked: list[Window], monkeypatch: pytest.MonkeyPatch, batch_size: int | None) -> None:
    settings = {"eps": 0.03, "queries": 400, "batch_size": batch_size}
    found = square(NETWORK, X, LABELS, **settings)
    assert len(asked) > 150
    assert torch.equal(labels_of(NETWORK, found.adversarial) != LABELS, found.success)
    monkeypatch.setattr(whole, "SMALL", 0.0)
    asked.clear()
    usual = square(NETWORK, X, LABELS, **settings)
    assert not asked
    assert 0 < usual.success.sum() < 9
    assert torch.equal(found.success, usual.success)
    torch.testing.assert_close(found.adversarial, usual.adversarial)
    torch.testing.assert_close(found.loss, usual.loss)


def test_it_counts_its_passes_and_forgets_what_is_no_longer_so() -> None:
    with searching(NETWORK, X, LABELS, operation="attack with this") as search:
        rows, z, near = search.every_row, search.x.clone(), Near(search)
        new = draw(9, 3, 16, 16, seed=1)
        nearby = z.clone()
        SMALL.of(nearby).copy_(SMALL.of(new))
        assert near.ask(z, nearby, rows, SMALL) is None  # not learnt yet
        for _ in range(AFTER + 1):
            search.ask(z, rows)
        search.learn(rows)
        before = search.forwards.clone()
        first = near.ask(z, nearby, rows, SMALL)
        assert first is not None
        torch.testing.assert_close(first, NETWORK(nearby))
        assert (search.forwards - before).tolist() == [3] * 9  # what is kept, the window, and the whole to compare
        again = near.ask(z, nearby, rows, SMALL)
        torch.testing.assert_close(again, first)
        assert (search.forwards - before).tolist() == [4] * 9
        assert near.ask(z, new, rows, LARGE) is None
        assert near.ask(z, new, rows, None) is None
        few = torch.tensor([1, 4])
        torch.testing.assert_close(near.ask(nearby[few], z[few], few, SMALL), NETWORK(z[few]))
        assert (search.forwards - before).tolist() == [4, 6, 4, 4, 6, 4, 4, 4, 4]


def test_after_a_difference_it_is_not_used_again(asked: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    right = Windowed.ask
    monkeypatch.setattr(Windowed, "ask", lambda self, piece, window: right(self, piece, window) + 0.1)
    found = square(NETWORK, X, LABELS, eps=0.02, queries=260)
    assert len(asked) == 1
    monkeypatch.setattr(passes.Passes, "follow", lambda *_: None)
    usual = square(NETWORK, X, LABELS, eps=0.02, queries=260)
    assert torch.equal(found.adversarial, usual.adversarial)
