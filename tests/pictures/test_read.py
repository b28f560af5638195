"""Reading: every file type against pixels known beforehand, and every fault as one sentence."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from saccade.errors import SaccadeError
from saccade.pictures import encode, read, sample

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)
DOWN, RIGHT = np.meshgrid(np.arange(0, 256, 8, dtype=np.uint8), np.arange(0, 256, 8, dtype=np.uint8), indexing="ij")
SMOOTH = np.dstack([DOWN, RIGHT, np.full_like(DOWN, 80)])


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def pixels(file: io.BytesIO | Path, **options: object) -> np.ndarray:
    """(h, w, 3) as read."""
    picture = read(file, **options)
    assert picture.dtype == torch.float32
    assert picture.is_contiguous()
    return picture.permute(1, 2, 0).numpy()


def png(
    array: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes], size: tuple[int, int] | None = None
) -> io.BytesIO:
    """A second, independent writer of 16-bit PNG: no filter, one chunk after the other."""
    h, w = size or array.shape[:2]
    rows = [b"\0" + row.astype(">u2").tobytes() for row in array]
    head = (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (head, *chunks, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    )
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


def tiff(array: np.ndarray, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_give_the_exact_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(RGB), kind, **options)), (RGB / 255).astype(np.float32))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_close(kind: str) -> None:
    difference = np.abs(pixels(saved(Image.fromarray(SMOOTH), kind, quality=95)) - SMOOTH / 255)
    assert difference.mean() < 0.01
    assert difference.max() < 0.06


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = SMOOTH[..., 0]
    got = pixels(saved(Image.fromarray(grey), kind))
    assert (got == got[..., :1]).all()
    assert np.abs(got[..., 0] - grey / 255).max() < 0.03


def test_bilevel() -> None:
    bits = RGB[..., 0] > 127
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(bits), "PNG"))[..., 1], bits)


def test_palette_and_gif_first_frame() -> None:
    first, second = (Image.new("P", (6, 4), i) for i in (1, 2))
    for image in (first, second):
        image.putpalette([0, 0, 0, 255, 51, 0, 0, 0, 255])
    for file in (saved(first, "PNG"), saved(first, "GIF", save_all=True, append_images=[second])):
        np.testing.assert_allclose(pixels(file), np.broadcast_to([1, 0.2, 0], (4, 6, 3)), atol=1e-6)


def test_cmyk_jpeg() -> None:
    # Pillow defines RGB = (255 - C)(255 - K) / 255; a flat colour survives JPEG.
    file = saved(Image.new("CMYK", (16, 16), (0, 204, 255, 51)), "JPEG", quality=100)
    np.testing.assert_allclose(pixels(file), np.broadcast_to([0.8, 0.16, 0], (16, 16, 3)), atol=0.01)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.0, 0.25, 0.5)])
def test_alpha_is_composited_on_the_stated_colour(kind: str, background: tuple[float, float, float]) -> None:
    alpha = RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    file = saved(Image.fromarray(np.dstack([RGB, alpha])), kind, **options)
    a = alpha / 255
    expected = RGB / 255 * a + np.array(background) * (1 - a)
    np.testing.assert_allclose(pixels(file, background=background), expected, atol=1e-6)


def test_transparent_palette_and_colour_key_and_grey_alpha() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 255, 0, 0])
    image.putpixel((1, 0), 1)
    blue = (0.0, 0.0, 1.0)
    np.testing.assert_allclose(pixels(saved(image, "PNG", transparency=0), background=blue), [[[0, 0, 1], [1, 0, 0]]])
    rgb = Image.new("RGB", (1, 1), (9, 8, 7))
    np.testing.assert_allclose(pixels(saved(rgb, "PNG", transparency=(9, 8, 7)), background=blue), [[[0, 0, 1]]])
    grey = Image.new("LA", (1, 1), (255, 51))
    np.testing.assert_allclose(pixels(saved(grey, "PNG"), background=(0.0, 0.0, 0.0)), [[[0.2, 0.2, 0.2]]], atol=1e-6)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_all_bits(colour_type: int, channels: int) -> None:
    array = DEEP[..., :channels]
    values = array / 65535
    colour = values[..., : 3 if channels > 2 else 1]
    alpha = values[..., -1:] if channels in (2, 4) else 1.0
    expected = np.broadcast_to(colour * alpha + 0.5 * (1 - alpha), (5, 7, 3))
    np.testing.assert_allclose(pixels(png(array, colour_type), background=(0.5, 0.5, 0.5)), expected, atol=2e-7)


def test_16_bit_png_colour_key() -> None:
    array = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint16)
    got = pixels(png(array, 2, (b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    np.testing.assert_allclose(got, [[[1, 1, 1], [1 / 65535, 2 / 65535, 4 / 65535]]], rtol=1e-6)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
def test_16_bit_tiff_keeps_all_bits(byteorder: str, options: dict[str, object]) -> None:
    rgb, grey = DEEP[..., :3], DEEP[..., 0]
    expected = (rgb / 65535).astype(np.float32)
    np.testing.assert_array_equal(pixels(tiff(rgb, photometric="rgb", byteorder=byteorder, **options)), expected)
    got = pixels(tiff(grey, byteorder=byteorder, **options))
    np.testing.assert_array_equal(got, np.repeat(expected[..., :1], 3, axis=2))


def test_16_bit_tiff_with_white_at_zero_and_with_alpha_and_floats() -> None:
    grey = DEEP[..., 0]
    np.testing.assert_allclose(pixels(tiff(grey, photometric="miniswhite"))[..., 2], 1 - grey / 65535, atol=1e-6)
    values = DEEP / 65535
    expected = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    np.testing.assert_allclose(pixels(tiff(DEEP, photometric="rgb", extrasamples=["unassalpha"])), expected, atol=1e-6)
    floats = values[..., 0].astype(np.float32)
    np.testing.assert_array_equal(pixels(tiff(floats))[..., 0], floats)


UPRIGHT = {  # EXIF 2.32, 4.6.4: which stored pixels stand at the top left, for each value of Orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif, "lossless": True}
    got = pixels(saved(Image.fromarray(RGB), kind, **options))
    np.testing.assert_array_equal(got, (UPRIGHT[orientation](RGB) / 255).astype(np.float32))


def test_exif_orientation_of_16_bit_colour() -> None:
    rgb = DEEP[..., :3]
    exif = (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    np.testing.assert_array_equal(pixels(png(rgb, 2, exif)), (np.rot90(rgb, -1) / 65535).astype(np.float32))
    turned = tiff(rgb, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_array_equal(pixels(turned), (np.rot90(rgb, -1) / 65535).astype(np.float32))


def linear_profile(name: str) -> bytes:
    """The smallest ICC profile (ICC.1:2010) with sRGB's primaries and stored values proportional to light."""
    xyz = lambda *v: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(x * 65536) for x in v))  # noqa: E731
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.43607, 0.22249, 0.01392),
        b"gXYZ": xyz(0.38515, 0.71687, 0.09708),
        b"bXYZ": xyz(0.14307, 0.06061, 0.7141),
    } | {c + b"TRC": b"curv\0\0\0\0" + struct.pack(">I", 0) for c in (b"r", b"g", b"b")}
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = 128 + 4 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s", size, 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def test_a_colour_profile_is_converted_to_srgb() -> None:
    image = Image.fromarray(RGB)
    v = RGB / 255
    expected = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    got = pixels(saved(image, "PNG", icc_profile=linear_profile("linear")))
    np.testing.assert_allclose(got, expected, atol=2.5 / 255)
    for left_alone in (linear_profile("sRGB"), b"broken"):
        got = pixels(saved(image, "PNG", icc_profile=left_alone))
        np.testing.assert_allclose(got, v, atol=1e-6)


def test_reads_a_path_a_string_and_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(sample("chelsea")))
    with path.open("rb") as file:
        pictures = [read(path), read(str(path)), read(file)]
    for picture in pictures:
        torch.testing.assert_close(picture, sample("chelsea"), rtol=0, atol=1e-6)


FAULTY = {
    "text": b"These are no pixels.",
    "empty": b"",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
}


@pytest.mark.parametrize("name", FAULTY)
def test_no_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FAULTY[name])
    with pytest.raises(SaccadeError, match=r"Could not read .*a\.png: it is no picture in a known format"):
        read(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = saved(noise, kind).getvalue()
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SaccadeError, match=r"Could not read .*cut: (the file is truncated|it is no picture)"):
        read(path)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_truncated_16_bit(options: dict[str, object]) -> None:
    array = RNG.integers(0, 65536, (40, 40, 3), dtype=np.uint16)
    for file in (png(array, 2), tiff(array, photometric="rgb", **options)):
        with pytest.raises(SaccadeError, match="truncated"):
            read(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match="there is no such file"):
        read(tmp_path / "none.png")
    with pytest.raises(SaccadeError, match=f"Could not read {tmp_path}"):
        read(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(mode=0)
    with pytest.raises(SaccadeError, match="permission denied"):
        read(path)


def test_the_pixel_limit_is_checked_before_decoding() -> None:
    bomb = png(np.zeros((1, 1, 3), np.uint16), 2, size=(8193, 8192))  # it claims 67 million pixels in 100 bytes
    with pytest.raises(SaccadeError, match="8192 x 8193 pixels, expected at most 67,108,864"):
        read(bomb)
    ok = saved(Image.new("RGB", (10, 10)), "PNG")
    assert read(ok, max_pixels=100).shape == (3, 10, 10)
    ok.seek(0)
    with pytest.raises(SaccadeError, match="at most 99"):
        read(ok, max_pixels=99)


@pytest.mark.parametrize("side", [10_000, 100_000])  # Pillow warns of the first and refuses the second
def test_pillows_own_pixel_limit_is_told_too(side: int) -> None:
    with pytest.raises(SaccadeError, match="pixels"):
        read(png(np.zeros((1, 1, 3), np.uint16), 2, size=(side, side)), max_pixels=side**2)


def test_pixels_without_a_known_range_are_refused() -> None:
    planes = np.ascontiguousarray(np.moveaxis(DEEP[..., :3], -1, 0))
    with pytest.raises(SaccadeError, match="separate colour planes"):
        read(tiff(planes, photometric="rgb", planarconfig="separate"))
    for array in (
        DEEP[..., 0].astype(np.int32),
        np.full((2, 2), 7, np.float32),
        np.full((2, 2), np.nan, np.float32),
    ):
        with pytest.raises(SaccadeError, match="states no range"):
            read(tiff(array))


def test_a_wrong_background() -> None:
    with pytest.raises(SaccadeError, match="background"):
        read(saved(Image.new("RGB", (1, 1)), "PNG"), background=(0.0, 0.0, 255.0))
