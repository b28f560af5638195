"""Products by either library against float64, and when each is taken."""

import time

import pytest
import torch
from torch.testing import assert_close

from saccade.engine import product as module
from saccade.engine.product import over_rows, prepared, product

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


@pytest.mark.parametrize("sums_faster", [True, False])
def test_sums_over_rows_are_those_of_float64(sums_faster, monkeypatch):
    monkeypatch.setattr(module, "_sums_faster", lambda: sums_faster)
    for n, widths, m in ((300, (64, 40), 80), (3, (2, 5), 4), (0, (2, 3), 4)):
        several, y = [draw(n, width) for width in widths], draw(n, m)
        for x, found in zip(several, over_rows(several, y), strict=True):
            assert_close(found.double(), x.double().T @ y.double(), rtol=1e-5, atol=5e-5)


def test_the_faster_library_is_found_by_timing(monkeypatch):
    right = module._onednn

    def slow(x, rows, summand):
        time.sleep(0.2)
        return right(x, rows, summand)

    monkeypatch.setattr(module, "_onednn", slow)
    questions = module._sums_faster, module.onednn_is_far_faster
    for question in questions:
        question.cache_clear()
    try:
        assert not any(question() for question in questions)
    finally:
        for question in questions:
            question.cache_clear()


def test_other_dtypes_keep_their_precision():
    x, w = draw(300, 64).double(), draw(64, 80).double()
    assert torch.equal(product(x, w), x @ w)
    assert torch.equal(prepared(w, 300)(x, None), x @ w)
