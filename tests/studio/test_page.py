"""Pieces of a page."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.studio.page import bars, image, page, per_cent


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_lossless_picture_comes_back_as_it_was(format: str) -> None:
    levels = torch.randint(0, 256, (3, 7, 10), generator=torch.Generator().manual_seed(0))
    html = image(levels.float() / 255, alt='a "small" one', density=2, format=format, quality=100)
    data = re.search('base64,([^"]*)"', html)
    assert data is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"))
    assert np.array_equal(pixels, levels.permute(1, 2, 0).numpy())
    assert 'width="5" height="4"' in html
    assert 'alt="a &quot;small&quot; one"' in html


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"),
        (0.0001, "0.1 %"),
        (0.004, "0.4 %"),
        (0.0094, "0.9 %"),
        (0.0096, "1 %"),
        (0.824, "82 %"),
        (0.9949, "99 %"),
        (0.996, "99.6 %"),
        (0.99999, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_in_words(share: float, words: str) -> None:
    assert per_cent(share) == words


def test_bars_are_as_long_as_their_shares() -> None:
    html = bars([("cat & dog", 0.75), ("owl", 0.003)], right=["owl"])
    assert re.findall('--share:([^"]*)', html) == ["75.00%", "0.30%"]
    assert "cat &amp; dog</span><span>75 %" in html
    assert html.count("✓") == 1
    assert html.index("✓") > html.index("owl")


def test_a_title_cannot_break_the_page() -> None:
    html = page("a < b", "<p>c</p>", description='"d"')
    assert "<title>a &lt; b</title>" in html
    assert 'content="&quot;d&quot;"' in html
    assert "prefers-color-scheme: dark" in html
