"""Originals: what comes back is of the kind that went in, and looks as it did."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures import read, write
from saccade.pictures.colour import luminance
from saccade.pictures.original import Original, read_original, write_like
from saccade.pictures.profile import deep_to_srgb, srgb_profile

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
RGBA[..., 3] |= 1  # nothing is wholly transparent
DEEP = RNG.integers(1, 65536, (5, 7, 4), dtype=np.uint16)

SPACES = {  # columns of Display P3 and ProPhoto RGB under D50, as their published profiles have them
    "Display P3": [(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)],
    "ProPhoto RGB": [(0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)],
}
SRGB_CURVE = struct.pack(
    ">4s4xHH5i", b"para", 3, 0, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
CURVES = {  # each kind that profiles know, and the function that it states
    "linear": (struct.pack(">4s4xI", b"curv", 0), lambda v: v),
    "gamma": (struct.pack(">4s4xIH", b"curv", 1, round(1.8 * 256)), lambda v: v ** (round(1.8 * 256) / 256)),
    "table": (
        struct.pack(">4s4xI3H", b"curv", 3, 0, 16384, 65535),
        lambda v: np.interp(v, [0, 0.5, 1], [0, 16384 / 65535, 1]),
    ),
    "para 0": (struct.pack(">4s4xHH1i", b"para", 0, 0, 2 * 65536), lambda v: v**2),
    "para 1": (
        struct.pack(">4s4xHH3i", b"para", 1, 0, 131072, 81920, -16384),
        lambda v: np.maximum(1.25 * v - 0.25, 0) ** 2,
    ),
    "para 2": (
        struct.pack(">4s4xHH4i", b"para", 2, 0, 131072, 65536, -16384, 8192),
        lambda v: np.maximum(v - 0.25, 0) ** 2 + 0.125,
    ),
    "para 3": (SRGB_CURVE, lambda v: np.where(v >= 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92)),
    "para 4": (
        struct.pack(">4s4xHH7i", b"para", 4, 0, 131072, 65536, 0, 32768, 16384, 6554, 3277),
        lambda v: np.where(v >= 0.25, v**2 + 6554 / 65536, v / 2 + 3277 / 65536),
    ),
}


def profile(columns: list[tuple[float, ...]] | None, curve: bytes, name: str = "test") -> bytes:
    """An ICC profile (ICC.1:2010) of a matrix and one curve; grey without columns."""
    text = name.encode() + b"\0"
    numbers = lambda v: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(x * 65536) for x in v))  # noqa: E731
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": numbers((0.9642, 1, 0.8249)),
    }
    if columns:
        for letter, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags |= {letter + b"XYZ": numbers(column), letter + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind = b"RGB " if columns else b"GRAY"
    head = struct.pack(">I4xI4s4s4s", offset + len(body), 0x04200000, b"mntr", kind, b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


P3 = profile(SPACES["Display P3"], SRGB_CURVE, "Display P3")


def encoded(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1


def srgb_under_d50() -> np.ndarray:
    """sRGB's colours (columns) from its chromaticities, IEC 61966-2-1, adapted from D65 to D50 by Bradford's matrix."""
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06))]).T
    d65, d50 = np.array([0.95047, 1, 1.08883]), np.array([0.96422, 1, 0.82521])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ d65)) @ bradford
    return adapt @ primaries @ np.diag(np.linalg.solve(primaries, d65))


def png16(path: Path, array: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes]) -> None:
    h, w = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in (head, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        )
    )


def icc(data: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(data)


def palette(path: Path) -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 255, 0, 0, 0, 0, 255])
    image.putpixel((2, 1), 2)
    image.putpixel((0, 0), 0)
    image.save(path, transparency=bytes([255, 128, 255]))


MADE = {  # file: how it is made, grey, has alpha, bits
    "grey.png": (lambda p: Image.fromarray(RGBA[..., 0]).save(p), True, False, 8),
    "grey.jpg": (lambda p: Image.fromarray(RGBA[..., 0]).save(p, quality=95), True, False, 8),
    "grey.webp": (lambda p: Image.fromarray(RGBA[..., 0]).convert("RGB").save(p, lossless=True), False, False, 8),
    "bilevel.png": (lambda p: Image.fromarray(RGBA[..., 0] > 127).save(p), True, False, 8),
    "grey alpha.png": (lambda p: Image.fromarray(RGBA[..., [0, 3]]).save(p), True, True, 8),
    "grey.tif": (lambda p: Image.fromarray(RGBA[..., 0]).save(p), True, False, 8),
    "one pixel.png": (lambda p: Image.fromarray(RGBA[:1, :1]).save(p), False, True, 8),
    "rgb.tif": (lambda p: Image.fromarray(RGBA[..., :3]).save(p), False, False, 8),
    "rgba.tif": (lambda p: Image.fromarray(RGBA).save(p), False, True, 8),
    "rgba.webp": (lambda p: Image.fromarray(RGBA).save(p, lossless=True, exact=True), False, True, 8),
    "palette.png": (palette, False, True, 8),
    "deep grey.png": (lambda p: png16(p, DEEP[..., :1], 0), True, False, 16),
    "deep grey alpha.png": (lambda p: png16(p, DEEP[..., :2], 4), True, True, 16),
    "deep rgb.png": (lambda p: png16(p, DEEP[..., :3], 2), False, False, 16),
    "deep rgba.png": (lambda p: png16(p, DEEP, 6), False, True, 16),
    "deep rgb.tif": (lambda p: tifffile.imwrite(p, DEEP[..., :3], photometric="rgb"), False, False, 16),
    "deep rgba.tif": (
        lambda p: tifffile.imwrite(p, DEEP, photometric="rgb", extrasamples=["unassalpha"]),
        False,
        True,
        16,
    ),
    "deep grey.tif": (lambda p: tifffile.imwrite(p, DEEP[..., 0]), True, False, 16),
}


@pytest.mark.parametrize("name", MADE)
def test_round_trip(tmp_path: Path, name: str) -> None:
    make, grey, has_alpha, bits = MADE[name]
    path = tmp_path / name
    make(path)
    first = read_original(path)
    assert (first.grey, first.alpha is not None, first.bits, first.profile) == (grey, has_alpha, bits, None)
    on_black = first.colour if first.alpha is None else first.colour * first.alpha
    torch.testing.assert_close(on_black, read(path, background=(0.0, 0.0, 0.0)), rtol=0, atol=1e-6)
    again = tmp_path / "out" / name
    write_like(first.colour, again, first, quality=100)
    second = read_original(again)
    assert (second.grey, second.bits, second.profile) == (grey, bits, None)
    atol = 1 / 255 if name.endswith("jpg") else 1e-6
    torch.testing.assert_close(second.colour, first.colour, rtol=0, atol=atol)
    assert (second.alpha is None) == (first.alpha is None)
    if first.alpha is not None and second.alpha is not None:
        torch.testing.assert_close(second.alpha, first.alpha, rtol=0, atol=1e-6)


def original(
    alpha: Tensor | None = None, *, grey: bool = False, bits: int = 8, profile: bytes | None = None
) -> Original:
    return Original(torch.rand(3, 4, 6), alpha, grey, bits, profile)


def test_another_size_takes_the_alpha_along(tmp_path: Path) -> None:
    alpha = torch.linspace(0, 1, 6).expand(1, 4, 6)
    picture = torch.rand(3, 8, 12)
    write_like(picture, tmp_path / "a.png", original(alpha))
    back = np.array(Image.open(tmp_path / "a.png"))
    assert back.shape == (8, 12, 4)
    centres = (np.arange(12) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(back[..., 3] / 255, np.tile(np.clip(centres, 0, 5) / 5, (8, 1)), atol=0.51 / 255)
    np.testing.assert_allclose(back[..., :3] / 255, picture.permute(1, 2, 0), atol=0.51 / 255)
    write_like(picture, tmp_path / "a.jpg", original(torch.zeros(1, 4, 6)))
    assert read(tmp_path / "a.jpg").min() > 0.99  # nothing of it is visible on white


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_grey_stays_grey_unless_colours_are_wanted(tmp_path: Path, suffix: str, bits: int, with_alpha: bool) -> None:
    picture = torch.tensor([0.9, 0.4, 0.1])[:, None, None].expand(3, 16, 16)
    source = original(torch.full((1, 4, 6), 0.5) if with_alpha else None, grey=True, bits=bits)
    path = tmp_path / f"a{suffix}"
    write_like(picture, path, source, quality=100)
    got = read_original(path)
    visible = luminance(picture).expand(3, 16, 16)
    if with_alpha and suffix == ".jpg":
        visible = visible / 2 + 0.5
    torch.testing.assert_close(got.colour, visible, rtol=0, atol=0.01)
    assert (got.colour == got.colour[:1]).all()
    write_like(picture, path, source, keep_grey=False, quality=100)
    colour = read_original(path)
    assert not colour.grey
    assert (colour.colour[0] - colour.colour[2]).min() > 0.3
    assert colour.bits == (bits if suffix in (".png", ".tif") else 8)


def test_hidden_colours_do_not_bleed(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 1] = 255  # green all over, but hidden
    pixels[8:24, 8:24] = (200, 0, 0, 255)
    pixels[8:24, 23] = (0, 0, 200, 1)  # hardly visible is visible
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = read_original(tmp_path / "a.png")
    assert got.alpha is not None
    shown = torch.from_numpy(pixels[..., 3] > 0)
    expected = torch.from_numpy(pixels[..., :3] / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(got.colour[:, shown], expected[:, shown], rtol=0, atol=1e-6)
    assert got.colour[1].max() < 1e-6  # no green anywhere
    hidden = got.colour[:, ~shown]
    assert hidden[0].min() > 0.3
    torch.testing.assert_close(got.colour[:, 16, 2], torch.tensor([200 / 255, 0, 0]), rtol=0, atol=0.05)
    other = pixels.copy()
    other[pixels[..., 3] == 0] = 0  # whatever is hidden makes no difference
    Image.fromarray(other).save(tmp_path / "b.png")
    assert torch.equal(read_original(tmp_path / "b.png").colour, got.colour)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (7, 3)])
def test_nothing_visible_is_white_and_a_single_visible_pixel_fills_all(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 4), 9, np.uint8)
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = read_original(tmp_path / "a.png")
    assert (got.colour == 1).all()
    assert got.alpha is not None
    assert (got.alpha == 0).all()
    pixels[-1, -1] = (51, 102, 153, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, *size)
    torch.testing.assert_close(read_original(tmp_path / "a.png").colour, expected)


def as_viewed(path: Path) -> np.ndarray:
    """What a viewer with colour management shows, (h, w, 3) of sRGB in [0, 255]."""
    with Image.open(path) as image:
        data = image.info.get("icc_profile")
        if data:
            source = ImageCms.ImageCmsProfile(io.BytesIO(data))
            image = ImageCms.profileToProfile(image.convert("RGB"), source, ImageCms.createProfile("sRGB"))
        return np.asarray(image.convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_picture_with_a_profile_looks_the_same_and_is_labelled(tmp_path: Path, suffix: str) -> None:
    smooth = np.tile(np.linspace(60, 180, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
    smooth[..., 0] = 200  # reddish, inside sRGB
    path = tmp_path / "p3.jpg"
    Image.fromarray(smooth).save(path, quality=100, subsampling=0, icc_profile=P3)
    source = read_original(path)
    assert source.profile == P3
    assert (source.colour - torch.from_numpy(smooth / 255).permute(2, 0, 1)).abs().max() > 0.05  # P3 is not sRGB
    out = tmp_path / f"out{suffix}"
    write_like(source.colour, out, source, quality=100)
    with Image.open(out) as image:
        assert image.info["icc_profile"] == srgb_profile()
    assert np.abs(as_viewed(out) - as_viewed(path)).max() <= 3
    assert (read(out) - source.colour).abs().max() < 3 / 255
    write_like(source.colour, out, Original(source.colour, None, False, 8, None))
    with Image.open(out) as image:
        assert "icc_profile" not in image.info


def test_cmyk_jpeg_comes_back_as_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 204, 255, 51)).save(tmp_path / "a.jpg", quality=100)
    source = read_original(tmp_path / "a.jpg")
    assert (source.grey, source.bits, source.alpha) == (False, 8, None)
    write_like(source.colour, tmp_path / "b.jpg", source, quality=100)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image)[8, 8] / 255, [0.8, 0.16, 0], atol=0.015)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("curve", CURVES)
def test_matrix_profiles_are_exact_and_agree_with_littlecms(space: str, curve: str) -> None:
    tag, formula = CURVES[curve]
    data = profile(SPACES[space], tag)
    values = RNG.random((40, 40, 3)).astype(np.float32)
    light = formula(values.astype(np.float64)) @ (np.linalg.inv(srgb_under_d50()) @ np.array(SPACES[space]).T).T
    inside = light.clip(0.001, 1) == light  # near black the slope of sRGB is 13
    expected = encoded(light)
    got = deep_to_srgb(values, data)
    assert got.dtype == np.float32
    assert 0 <= got.min() <= got.max() <= 1
    np.testing.assert_allclose(got[inside], expected[inside], atol=6e-4)  # the profile's own numbers have 4 digits
    bytes_ = (values * 255).round().astype(np.uint8)
    shown = ImageCms.profileToProfile(
        Image.fromarray(bytes_),
        ImageCms.ImageCmsProfile(io.BytesIO(data)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,  # another would stretch a curve that ends above black
    )
    difference = np.abs(deep_to_srgb((bytes_ / 255).astype(np.float32), data) * 255 - np.asarray(shown))
    assert np.quantile(difference[(light.clip(0.01, 1) == light).all(2)], 0.99) < 1.5


def test_16_bit_with_a_profile(tmp_path: Path) -> None:
    data = profile(SPACES["ProPhoto RGB"], CURVES["gamma"][0])
    ramp = np.linspace(20000, 40000, 300).astype(np.uint16)
    array = np.stack([ramp, ramp, ramp[::-1]], axis=1)[None]
    png16(tmp_path / "a.png", array, 2, icc(data))
    source = read_original(tmp_path / "a.png")
    assert (source.bits, source.profile) == (16, data)
    expected = deep_to_srgb((array / 65535).astype(np.float32), data)
    torch.testing.assert_close(source.colour.permute(1, 2, 0), torch.from_numpy(expected))
    assert len(source.colour[0].unique()) == 300  # no banding, which 8 bits would show
    for name in ("b.png", "b.tif"):
        write_like(source.colour, tmp_path / name, source)
        back = read_original(tmp_path / name)
        assert (back.bits, back.profile) == (16, srgb_profile())
        torch.testing.assert_close(back.colour, source.colour, rtol=0, atol=0.6 / 65535)


def test_16_bit_grey_with_a_profile(tmp_path: Path) -> None:
    tag, formula = CURVES["gamma"]
    png16(tmp_path / "a.png", DEEP[..., :2], 4, icc(profile(None, tag)))
    source = read_original(tmp_path / "a.png")
    assert source.grey
    expected = encoded(formula(DEEP[..., 0] / 65535))
    np.testing.assert_allclose(source.colour[1].numpy(), expected, atol=1e-5)
    write_like(source.colour, tmp_path / "b.png", source)
    back = read_original(tmp_path / "b.png")
    assert (back.grey, back.bits, back.profile) == (True, 16, None)
    torch.testing.assert_close(back.colour, source.colour, rtol=0, atol=1e-5)


def test_profiles_that_are_not_of_a_matrix() -> None:
    values = RNG.random((3, 4, 3)).astype(np.float32)
    assert deep_to_srgb(values, b"broken") is values
    assert deep_to_srgb(values, srgb_profile()) is values
    damaged = bytearray(P3)
    damaged[128:132] = struct.pack(">I", 10**6)
    assert np.array_equal(deep_to_srgb(values, bytes(damaged)), values)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # tables, and other channels
    np.testing.assert_allclose(deep_to_srgb(values, lab), values, atol=0.51 / 255)


def test_the_label_is_srgb_and_the_same_each_time() -> None:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in ImageCms.getProfileDescription(opened)
    assert opened.profile.creation_date.year == 2000
    assert srgb_profile()[:24] == ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:24]


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    write(torch.rand(3, 8, 9), tmp_path / "a.png")
    for call, message in (
        (lambda: read_original(tmp_path / "none.png"), "no such file"),
        (lambda: read_original(tmp_path / "text.png"), "no picture in a known format"),
        (lambda: read_original(tmp_path / "a.png", max_pixels=71), "8 pixels, expected at most 71"),
        (lambda: write_like(torch.rand(3, 2, 2), tmp_path / "a.gif", original()), "suffix is '.gif'"),
        (lambda: write_like(torch.rand(1, 2, 2), tmp_path / "b.png", original()), r"b\.png: the picture has shape"),
        (lambda: write_like(torch.rand(3, 2, 2) * 255, tmp_path / "b.png", original()), "run from"),
        (lambda: write_like(torch.rand(3, 2, 2), tmp_path / "b.jpg", original(), quality=0), "quality is 0"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
    assert not (tmp_path / "b.png").exists()
