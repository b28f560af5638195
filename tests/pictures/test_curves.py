"""Curves: lines run where their numbers say, names do not overlap, and nothing global is changed."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from saccade.errors import SaccadeError
from saccade.pictures import Curve, curves
from saccade.pictures.curves import COLOURS, _running_mean
from saccade.pictures.labels import spread


def where(page: torch.Tensor, colour: str | tuple[float, ...]) -> torch.Tensor:
    """(n, 2) rows and columns of the pixels of exactly this colour."""
    rgb = torch.tensor(matplotlib.colors.to_rgb(colour))[:, None, None]
    return ((page - rgb).abs().amax(0) < 1 / 255).nonzero()


def test_size_and_determinism() -> None:
    page = curves({"a": [1.0, 2.0, 3.0]}, width=300, height=200, density=3)
    assert page.shape == (3, 600, 900)
    assert torch.equal(page, curves({"a": torch.tensor([1.0, 2.0, 3.0])}, width=300, height=200, density=3))
    assert torch.equal(page[:, 0, 0], torch.ones(3))


def test_lines_run_where_their_numbers_say() -> None:
    page = curves({"up": [0.0, 1.0], "middle": [0.5, 0.5]}, y_range=(0.0, 1.0))
    up, middle = where(page, COLOURS[0]).float(), where(page, COLOURS[1]).float()
    for column in (0.25, 0.75):  # the rising line crosses a share of the height at that share of the width
        left, right = middle[:, 1].min(), middle[:, 1].max()
        x = left + column * (right - left)
        rows = up[(up[:, 1] - x).abs() < 1, 0]
        top, bottom = up[:, 0].min(), up[:, 0].max()
        assert abs(float((bottom - rows.mean()) / (bottom - top)) - column) < 0.02
    assert abs(float(middle[:, 0].mean() - (up[:, 0].min() + up[:, 0].max()) / 2)) < 2


def test_colours_can_be_shared_and_dashes_leave_gaps() -> None:
    y = [0.2, 0.2]
    page = curves({"solid": Curve(y), "dashed": Curve([0.8, 0.8], colour=0, style="dashed")}, y_range=(0.0, 1.0))
    found = where(page, COLOURS[0])
    half = page.shape[1] // 2
    dashed, solid = ({int(c) for r, c in found if (r < half) == upper} for upper in (True, False))
    assert 0.5 < len(dashed) / len(solid) < 0.8
    assert len(where(page, COLOURS[1])) == 0


def test_gaps_bands_marks_single_points_and_logarithms_are_drawn() -> None:
    y = [3.0, math.nan, 2.0, 1.0, math.inf, 0.5, 0.4]
    plain = curves({"loss": y})
    assert len(where(plain, COLOURS[0])) > 50
    for other in (
        curves({"loss": Curve(y, low=np.array(y) - 0.2, high=np.array(y) + 0.2)}),
        curves({"loss": y}, marks={"here": 3.0}),
        curves({"loss": y}, smooth=3),
        curves({"loss": y}, log_y=True),
        curves({"loss": y}, log_x=True),
        curves({"loss": y}, title="Loss", y_label="nats", percent=True),
    ):
        assert other.shape == plain.shape
        assert not torch.equal(other, plain)
    assert len(where(curves({"one": [0.5]}), COLOURS[0])) > 20


def test_a_line_that_ends_early_is_named_there() -> None:
    page = curves({"": [0.0] * 10, "short": Curve([1.0, 1.0], x=[1.0, 2.0])}, y_range=(-1.0, 2.0))
    text = where(page, tuple(0.8 * v for v in matplotlib.colors.to_rgb(COLOURS[1])))
    assert 0 < text[:, 1].max() < page.shape[2] / 2


@settings(deadline=None)
@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=30), st.integers(1, 9))
def test_running_mean(y: list[float], window: int) -> None:
    got = _running_mean(np.array(y), window)
    for i, value in enumerate(y):
        recent = [v for v in y[max(0, i + 1 - window) : i + 1] if math.isfinite(v)]
        assert (
            math.isnan(got[i]) if math.isnan(value) else math.isclose(got[i], sum(recent) / len(recent), abs_tol=1e-9)
        )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_names_move_as_little_as_possible(values: list[float]) -> None:
    y = np.array(values)
    got = spread(y, gap=10.0, low=0.0, high=100.0)
    order = np.argsort(y, kind="stable")
    assert (np.diff(got[order]) >= 10 - 1e-9).all()
    assert got.min() >= -1e-9
    assert got.max() <= 100 + 1e-9
    gaps = [{"type": "ineq", "fun": lambda z, i=i, j=j: z[j] - z[i] - 10} for i, j in itertools.pairwise(order)]
    start = np.empty(len(y))
    start[order] = np.linspace(0, 100, len(y)) if len(y) > 1 else y
    best = minimize(lambda z: ((z - y) ** 2).sum(), start, bounds=[(0, 100)] * len(y), constraints=gaps, tol=1e-9)
    assert ((got - y) ** 2).sum() <= best.fun + 1e-3


def test_names_that_are_apart_do_not_move_and_too_many_run_over() -> None:
    np.testing.assert_array_equal(spread(np.array([50.0, 10.0]), gap=10.0, low=0.0, high=100.0), [50, 10])
    np.testing.assert_array_equal(spread(np.zeros(4), gap=10.0, low=0.0, high=20.0), [0, 10, 20, 30])


def test_matplotlibs_settings_neither_matter_nor_change() -> None:
    page = curves({"a": [1, 2]})
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "black", "font.size": 30, "text.color": "red"}):
        inside = curves({"a": [1, 2]})
    assert dict(matplotlib.rcParams) == before
    assert torch.equal(inside, page)


def test_errors() -> None:
    for call, message in (
        (lambda: curves({}), "no lines"),
        (lambda: curves({"a": []}), r"'a': its values have shape \(0,\)"),
        (lambda: curves({"a": [math.nan]}), "at least one finite"),
        (lambda: curves({"a": Curve([1, 2], x=[1])}), r"lengths \[1, 2\]"),
        (lambda: curves({"a": Curve([1, 2], low=[1], high=[2])}), r"lengths \[1, 2\]"),
        (lambda: curves({"a": [0, 1]}, log_y=True), "not positive"),
        (lambda: curves({"a": Curve([1, 2], x=[0, 1])}, log_x=True), "not positive"),
        (lambda: curves({"a very long name indeed": [1, 2]}, width=120), "no room"),
        (lambda: curves({"a": [1, 2]}, density=0), "density is 0"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
