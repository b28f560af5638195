"""Products by either library against float64, and when each is taken."""

import pytest
import torch
from torch.testing import assert_close

from saccade.recurrent import product as module
from saccade.recurrent.product import prepared, product

SHAPES = [(300, 64, 80), (1, 3, 2), (0, 4, 5), (5, 0, 3)]  # the first is large enough for the other library


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_float64(n, k, m, turned, there, monkeypatch):
    if not there:
        monkeypatch.setattr(module, "_works", lambda: False)
    x, w, b, y = draw(n, k), draw(k, m), draw(m), draw(n, m)
    if turned:  # the same values lying the other way
        x, w = x.T.contiguous().T, w.T.contiguous().T
    exact, before = x.double() @ w.double(), y.clone()
    times = prepared(w, n)
    for found, expected in (
        (product(x, w), exact),
        (product(x, w, b), exact + b),
        (times(x, None), exact),
        (times(x[: n // 2], y[: n // 2]), exact[: n // 2] + y[: n // 2]),
        (times(x, y), exact + y),
    ):
        assert found.is_contiguous()
        assert_close(found.double(), expected, rtol=1e-5, atol=2e-5)
    assert torch.equal(y, before)


@pytest.mark.parametrize("missing", [AttributeError, RuntimeError, None])
def test_operations_that_are_missing_or_wrong_are_not_used(missing, monkeypatch):
    def broken(x, rows, summand):
        if missing:
            raise missing
        return x @ rows.T

    monkeypatch.setattr(module, "_onednn", broken)
    module._works.cache_clear()
    try:
        assert not module._works()
        x, w, b = draw(300, 64), draw(64, 80), draw(80)
        assert_close(product(x, w, b), x @ w + b)
    finally:
        module._works.cache_clear()


def test_other_dtypes_keep_their_precision():
    x, w = draw(300, 64).double(), draw(64, 80).double()
    assert torch.equal(product(x, w), x @ w)
    assert torch.equal(prepared(w, 300)(x, None), x @ w)
