"""Writing: what comes back is what went in, and a fault leaves the earlier file whole."""

import errno
import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saccade.errors import SaccadeError
from saccade.pictures import encode, read, sample, write


def noise(h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, h, w, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16)]),
)
def test_lossless_round_trip_within_half_a_step(h: int, w: int, case: tuple[str, int]) -> None:
    format, bits = case
    picture = noise(h, w, seed=h * 100 + w)
    back = read(io.BytesIO(encode(picture, format=format, bits=bits)))
    assert (back - picture).abs().max() <= 0.5 / (2**bits - 1) + 1e-7


def test_16_bit_files_as_other_programs_see_them() -> None:
    picture = noise(9, 11)
    expected = (picture.double() * 65535).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(encode(picture, format="tiff", bits=16))), expected)
    data = encode(picture, bits=16)
    high = np.asarray(Image.open(io.BytesIO(data)))  # Pillow keeps the high bytes of a PNG, and checks the CRCs
    np.testing.assert_array_equal(high, expected.astype(np.uint16) >> 8)
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(9, 1 + 66)
    assert set(rows[:, 0]) == {2}
    undone = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view(">u2").reshape(9, 11, 3)  # the "Up" filter, undone
    np.testing.assert_array_equal(undone, expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".tif", ".tiff"])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"cat{suffix}"
    write(sample("chelsea"), path)
    with Image.open(path) as image:
        assert image.format == {"j": "JPEG", "p": "PNG", "w": "WEBP", "t": "TIFF"}[suffix[1].lower()]
    assert (read(path) - sample("chelsea")).abs().mean() < 0.01
    assert os.listdir(path.parent) == [path.name]


def test_quality() -> None:
    cat = sample("chelsea")
    sizes = [len(encode(cat, format="jpeg", quality=q)) for q in (10, 50, 95)]
    assert sizes == sorted(sizes)
    exact = read(io.BytesIO(encode(cat, format="webp", quality=100)))
    torch.testing.assert_close(exact, cat, rtol=0, atol=1e-6)


def test_rounding_errors_beyond_the_range_are_clamped_and_strides_and_gradients_do_not_matter() -> None:
    picture = noise(4, 5)
    picture[0, 0, 0], picture[1, 0, 0] = -1e-6, 1 + 1e-6
    expected = encode(picture.clamp(0, 1))
    assert encode(picture) == expected
    assert encode(picture.permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()) == expected
    assert encode(picture.double()) == expected


BAD = {
    "nan": (torch.full((3, 2, 2), float("nan")), "not finite"),
    "infinity": (torch.full((3, 2, 2), float("inf")), "not finite"),
    "normalised": (torch.linspace(-2, 2.5, 12).reshape(3, 2, 2), "run from -2 to 2.5"),
    "integers": (torch.zeros(3, 2, 2, dtype=torch.uint8), "holds uint8"),
    "batch": (torch.zeros(2, 3, 2, 2), r"shape \(2, 3, 2, 2\), expected \(3, height, width\)"),
    "channels last": (torch.zeros(4, 5, 3), "movedim"),
    "grey": (torch.zeros(4, 5), "expand"),
    "empty": (torch.zeros(3, 0, 5), "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_and_the_earlier_file_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.png"
    write(noise(2, 2), path)
    before = path.read_bytes()
    picture, message = BAD[name]
    with pytest.raises(SaccadeError, match=rf"Could not write .*a\.png: .*{message}"):
        write(picture, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("a.gif", {}, "suffix is '.gif'"),
        ("a", {}, "suffix is ''"),
        ("a.jpg", {"bits": 16}, "bits=16 with jpeg"),
        ("a.png", {"bits": 12}, "bits=12"),
        ("a.jpg", {"quality": 0}, "quality is 0"),
    ],
)
def test_bad_settings(tmp_path: Path, name: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        write(noise(2, 2), tmp_path / name, **settings)
    assert os.listdir(tmp_path) == []


def test_a_size_beyond_the_format() -> None:
    with pytest.raises(SaccadeError, match=r"webp cannot hold 17000 x 1 pixels .* Use png"):
        encode(torch.zeros(3, 1, 17000), format="webp")


def test_a_full_disk_leaves_the_earlier_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write(noise(2, 2), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaccadeError, match="the disk is full"):
        write(noise(3, 3), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]
