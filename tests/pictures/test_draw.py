"""Grids and sheets: every picture stands where it should, unchanged, and every text within its column."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import SaccadeError
from saccade.pictures import grid, sample, sheet
from saccade.pictures.draw import CAPTION_GAP, COLUMN_GAP, MARGIN, ROW_GAP
from saccade.pictures.text import block


def noise(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A picture of whole 8-bit values."""
    values = torch.randint(0, 256, (3, h, w), generator=torch.Generator().manual_seed(seed))
    return values / 255


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.none() | st.integers(1, 15), st.integers(0, 3))
def test_grid_holds_each_picture_once(n: int, columns: int | None, gap: int) -> None:
    pictures = torch.stack([noise(4, 6, i) for i in range(n)])
    page = grid(pictures, columns=columns, gap=gap, background=0.5)
    across = (page.shape[2] + gap) // (6 + gap)
    assert columns is None or across == min(columns, n)
    for i, picture in enumerate(pictures):
        top, left = i // across * (4 + gap), i % across * (6 + gap)
        assert torch.equal(page[:, top : top + 4, left : left + 6], picture)
        page[:, top : top + 4, left : left + 6] = 0.5
    assert (page == 0.5).all()
    assert page.shape[1] == -(-n // across) * (4 + gap) - gap


def test_grid_errors() -> None:
    with pytest.raises(SaccadeError, match="no pictures"):
        grid([])
    with pytest.raises(SaccadeError, match=r"sizes 4 x 5, 4 x 6, expected one"):
        grid([noise(4, 5), noise(4, 6)])
    with pytest.raises(SaccadeError, match="columns is -1"):
        grid([noise(4, 5)], columns=-1)


def test_sheet_without_words_is_the_pictures_and_white() -> None:
    rows = [[noise(20, 20, 0), noise(20, 20, 1)], [noise(10, 20, 2), None]]
    page = sheet(rows, cell=20, density=1)
    assert page.shape == (3, 2 * MARGIN + 30 + COLUMN_GAP, 2 * MARGIN + 40 + COLUMN_GAP)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            if picture is not None:
                top, left = MARGIN + i * (20 + COLUMN_GAP), MARGIN + j * (20 + COLUMN_GAP)
                place = page[:, top : top + picture.shape[1], left : left + 20]
                assert torch.equal(place, picture)
                place.fill_(1)
    assert (page == 1).all()


def test_small_pictures_show_their_pixels_unless_smooth() -> None:
    picture = noise(5, 5)
    inside = slice(2 * MARGIN, -2 * MARGIN)
    page = sheet([[picture]], cell=20)[:, inside, inside]
    assert torch.equal(page, picture.repeat_interleave(8, 1).repeat_interleave(8, 2))
    assert len(sheet([[picture]], cell=20, smooth=True)[0, inside, inside].unique()) > 25


def test_words_take_their_room_and_stand_where_they_belong() -> None:
    grey = torch.full((3, 40, 40), 0.5)
    plain = sheet([[grey]], cell=40)
    words = sheet([[grey]], cell=40, captions=[["cat\n93 %"]])
    assert words.shape[2] == plain.shape[2]
    assert words.shape[1] == plain.shape[1] + 2 * CAPTION_GAP + block("cat\n93 %", width=80, size=20).height
    assert torch.equal(words[:, : plain.shape[1] - 2 * MARGIN], plain[:, : -2 * MARGIN])
    assert (words[:, plain.shape[1] - 2 * MARGIN :] < 0.4).any()
    labelled = sheet([[grey]], cell=40, row_labels=["a row"])
    shift = labelled.shape[2] - plain.shape[2]
    assert shift > 0
    assert torch.equal(labelled[..., shift + 2 * MARGIN :], plain[..., 2 * MARGIN :])
    assert (labelled[..., : shift + 2 * MARGIN] < 0.4).any()
    titled = sheet([[grey]], cell=40, title="Cats", note="A note", column_titles=["column"])
    below = titled.shape[1] - 2 * (MARGIN + ROW_GAP) - block("A note", width=80, size=18).height
    assert torch.equal(titled[:, below - 80 : below], plain[:, 2 * MARGIN : -2 * MARGIN])


def test_density_scales_everything() -> None:
    rows = [[sample("chelsea"), sample("coffee")], [sample("rocket")]]
    words = {"captions": [["cat", "coffee"], ["rocket"]], "row_labels": ["one", "two"], "title": "Samples"}
    once, thrice = (sheet(rows, density=d, **words) for d in (1, 3))
    for a, b in zip(once.shape[1:], thrice.shape[1:], strict=True):
        assert abs(3 * a - b) <= 12


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(codec="latin-1", exclude_categories=["C"]), max_size=60), st.integers(60, 300))
def test_no_line_is_wider_than_its_column_and_no_letter_is_lost(words: str, width: int) -> None:
    b = block(words, width=width, size=20)
    assert b.width <= width
    assert "".join("".join(line.split()) for line, _, _ in b.lines) == "".join(words.split())
    assert b.height == round(len(b.lines) * 20 * 1.36)


def test_what_follows_a_line_break_is_secondary() -> None:
    first, second = block("answer\nrunner-up", width=500, size=20, bold=True).lines
    assert str(first[1].path).endswith("DejaVuSans-Bold.ttf")
    assert str(second[1].path).endswith("DejaVuSans.ttf")
    assert first[2] != second[2]


def test_sheet_errors() -> None:
    picture = noise(4, 4)
    for call, message in (
        (lambda: sheet([]), "no pictures"),
        (lambda: sheet([[], []]), "no pictures"),
        (
            lambda: sheet([[picture]], captions=[["a", "b"]]),
            r"captions in rows of \[2\] for pictures in rows of \[1\]",
        ),
        (lambda: sheet([[picture]], row_labels=["a", "b"]), "2 row_labels, expected 1"),
        (lambda: sheet([[picture]], column_titles=[]), "0 column_titles, expected 1"),
        (lambda: sheet([[picture[None]]]), "Choose one picture of the batch"),
        (lambda: sheet([[picture]], cell=0), "cell is 0"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
