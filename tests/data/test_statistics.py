import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.images import ImageSet
from saccade.data.statistics import channel_statistics
from saccade.errors import SaccadeError


def images_of(pixels: np.ndarray) -> ImageSet:  # type: ignore[type-arg]
    return ImageSet("test", torch.from_numpy(pixels), torch.zeros(len(pixels), dtype=torch.int64), ("one",))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 9), st.integers(1, 7), st.integers(1, 300))
def test_agrees_with_numpy_in_double_precision(seed: int, n: int, h: int, w: int, chunk: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    mean, std = channel_statistics(images_of(pixels), chunk=chunk)
    assert np.allclose(mean, (pixels / 255).mean((0, 1, 2)), rtol=0, atol=1e-14)
    assert np.allclose(std, (pixels / 255).std((0, 1, 2)), rtol=0, atol=1e-13)


def test_nothing_overflows_in_a_set_of_white_pictures() -> None:
    white = np.full((600, 128, 2, 3), 255, np.uint8)  # more rows of pixels than are summed at a time
    assert channel_statistics(images_of(white)) == ((1.0,) * 3, (0.0,) * 3)


def test_deviation_of_all_pixels_not_mean_of_deviations() -> None:
    """Each picture has one grey, so every deviation within a picture is 0; that of the set is not."""
    pixels = np.repeat(np.uint8([0, 255]), 4 * 4 * 3).reshape(2, 4, 4, 3)
    assert channel_statistics(images_of(pixels)) == ((0.5,) * 3, (0.5,) * 3)


def test_a_subset_is_measured_alone() -> None:
    pixels = np.repeat(np.uint8([0, 255, 255]), 4 * 4 * 3).reshape(3, 4, 4, 3)
    assert channel_statistics(images_of(pixels).subset([1, 2])) == ((1.0,) * 3, (0.0,) * 3)


def test_an_empty_set() -> None:
    with pytest.raises(SaccadeError, match="holds no pictures"):
        channel_statistics(images_of(np.zeros((0, 4, 4, 3), np.uint8)))
