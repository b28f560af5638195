"""Intervals of shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.attack.evaluate import Share, wilson
from saccade.errors import SaccadeError

Z = 1.959963984540054


@given(of=st.integers(1, 10_000), part=st.floats(0, 1))
def test_the_bounds_are_where_the_test_just_rejects(of: int, part: float) -> None:
    count = round(part * of)
    low, high = wilson(count, of)
    assert 0 <= low <= count / of <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            assert (count / of - bound) ** 2 == pytest.approx(Z**2 * bound * (1 - bound) / of, rel=1e-9, abs=1e-15)


def test_known_values() -> None:
    """Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3."""
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson(29, 29)[1] == 1


def test_it_covers_as_often_as_it_says() -> None:
    """Exact coverage over the binomial distribution, on average over shares."""
    n, covered = 40, []
    for share in (i / 200 for i in range(1, 200)):
        chances = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
        inside = [wilson(k, n)[0] <= share <= wilson(k, n)[1] for k in range(n + 1)]
        covered.append(sum(chance for chance, good in zip(chances, inside, strict=True) if good))
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.005)


def test_a_share_says_all() -> None:
    assert str(Share(500, 1000)) == "50.0% (46.9% to 53.1%, n=1000)"
    assert Share(1, 4).value == 0.25


@pytest.mark.parametrize(("count", "of", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_refuses(count: int, of: int, confidence: float) -> None:
    with pytest.raises(SaccadeError, match="Could not give an interval"):
        wilson(count, of, confidence=confidence)
