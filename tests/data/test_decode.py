import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from saccade.data.decode import check_fit, decode, is_picture
from saccade.errors import SaccadeError

Picture = Callable[..., bytes]


def encoded(image: Image.Image, format: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP", "TIFF", "JPEG", "AVIF", "GIF"])
def test_formats(picture: Picture, format: str) -> None:
    pixels = decode(picture((200, 30, 60), size=(16, 16), format=format), size=16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (200, 30, 60)).max() <= 8  # lossy ones are near


def test_lossless_pixels_come_back_exactly(noise: Picture) -> None:
    content = noise(3, size=24)
    assert np.array_equal(decode(content, size=24), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),  # nothing of it shows on white
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("LA", (40, 255), (40, 40, 40)),
        ("I;16", 40_000, (156, 156, 156)),  # 40000 / 256
    ],
)
def test_modes(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    pixels = decode(encoded(Image.new(mode, (8, 8), colour)), size=8)  # type: ignore[arg-type]
    assert np.array_equal(pixels, np.broadcast_to(np.uint8(expected), (8, 8, 3)))


def test_cmyk_and_grey_jpeg() -> None:
    cyan = decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"), size=8)
    assert np.abs(cyan.astype(int) - (0, 255, 255)).max() <= 3
    grey = decode(encoded(Image.new("L", (8, 8), 90), "JPEG"), size=8)
    assert np.abs(grey.astype(int) - 90).max() <= 1


def test_palette_with_transparency() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 9, 99, 199])
    assert np.array_equal(decode(encoded(image), size=8)[0, 0], (9, 99, 199))
    assert np.array_equal(decode(encoded(image, transparency=1), size=8)[0, 0], (255, 255, 255))


def test_exif_rotation_is_undone() -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255  # light above, dark below
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    stored = encoded(Image.fromarray(upright[::-1].copy()), "JPEG", exif=exif, quality=95)
    assert decode(stored, size=16)[2, 8].min() > 200


def test_crop_squash_and_pad_of_a_wide_picture() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the middle third
    content = encoded(Image.fromarray(wide))
    assert decode(content, size=20, fit="crop").min() == 255  # the middle alone
    squashed = decode(content, size=20, fit="squash")
    assert squashed[:, 9:11].min() == 255
    assert squashed[:, :5].max() == 0
    padded = decode(content, size=20, fit="pad")
    assert (padded[0] == 127).all()
    assert padded[10, 10].min() == 255


def test_shrinking_is_antialiased() -> None:
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[:, ::2] = 255
    assert np.abs(decode(encoded(Image.fromarray(lines)), size=16).astype(int) - 127).max() < 30


def test_a_broken_picture_is_a_value_error(noise: Picture) -> None:
    for content in (b"", b"no picture", noise(1)[:200], b"\xff\xd8\xff" + b"x" * 50):
        with pytest.raises(ValueError, match=r"."):
            decode(content, size=8)


def test_what_counts_as_a_picture() -> None:
    assert all(is_picture(name) for name in ("a.jpg", "b/c.JPEG", "d.webp", "e.avif", "f.bmp", "g.png"))
    assert not any(is_picture(name) for name in ("a.txt", "jpg", "a.jpg.txt"))


def test_fit_and_size_out_of_range() -> None:
    check_fit("pad", 64)
    with pytest.raises(SaccadeError, match="fit='stretch'"):
        check_fit("stretch", 64)
    with pytest.raises(SaccadeError, match="size=0"):
        check_fit("crop", 0)
