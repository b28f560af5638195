"""Colour transfer: the statistics become the reference's, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.exposure import match_histograms
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures import sample
from saccade.pictures.colour import luminance
from saccade.pictures.palette import METHODS, match_colours, with_luminance

WEIGHTS = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mild(n: int, seed: int) -> Tensor:
    """Pictures (n, 3, 9, 11) of correlated colours with so little contrast that nothing leaves [0, 1]."""
    mix = noise(n, 3, 3, seed=seed) - 0.5
    return 0.5 + 0.1 * torch.einsum("nij,njhw->nihw", mix, noise(n, 3, 9, 11, seed=seed + 1) - 0.5)


def covariance(picture: Tensor) -> Tensor:
    return torch.cov(picture.flatten(1), correction=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_linear_gives_the_mean_and_covariance_of_the_reference(seed: int) -> None:
    pictures, reference = noise(2, 3, 8, 7, seed=seed), mild(2, seed)
    for out, target in zip(match_colours(pictures, reference), reference, strict=True):
        torch.testing.assert_close(out.mean((1, 2)), target.mean((1, 2)), rtol=0, atol=1e-6)
        torch.testing.assert_close(covariance(out), covariance(target), rtol=1e-5, atol=1e-8)


def test_linear_is_the_map_of_symmetric_roots() -> None:
    """Of all maps that match covariances it is the one of the paper: S^1/2 C^-1/2, roots by Denman and Beavers."""
    picture, reference = noise(3, 8, 7), mild(1, 3)[0]

    def roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
        root, inverse = matrix * 100, torch.eye(3, dtype=torch.float64)
        for _ in range(60):
            root, inverse = (root + inverse.inverse()) / 2, (inverse + root.inverse()) / 2
        return root / 10, inverse * 10

    stretch = roots(covariance(reference))[0] @ roots(covariance(picture))[1]
    centred = picture.flatten(1) - picture.flatten(1).mean(1, keepdim=True)
    expected = (stretch @ centred).view_as(picture) + reference.mean((1, 2), keepdim=True)
    torch.testing.assert_close(match_colours(picture[None], reference[None])[0], expected)


def test_linear_of_a_grey_picture_lies_on_a_line_and_has_no_noise_blown_up() -> None:
    grey = noise(1, 1, 8, 7).expand(1, 3, 8, 7)
    rounding = (grey * 255).round() / 255 + 1e-4 * (noise(1, 3, 8, 7, seed=1) - 0.5)
    reference = mild(1, 5)
    for picture in (grey, rounding):
        out = match_colours(picture, reference)[0]
        torch.testing.assert_close(out.mean((1, 2)), reference.mean((0, 2, 3)), rtol=0, atol=1e-6)
        values = torch.linalg.eigvalsh(covariance(out))
        assert values[2] > 1e-5  # its luma was stretched to the reference's
        assert values[1] < 1e-9
    for flat in (torch.full((1, 3, 4, 4), 0.3), noise(1, 3, 1, 1).float()):
        out = match_colours(flat, reference.float())
        torch.testing.assert_close(out, reference.float().mean((2, 3), keepdim=True).expand_as(flat))


def test_luminance_matches_luma_and_keeps_chroma() -> None:
    pictures, reference = mild(2, 0), mild(1, 9)
    out = match_colours(pictures, reference, "luminance")
    target = torch.einsum("c,nchw->nhw", WEIGHTS, reference)
    for before, after in zip(pictures, out, strict=True):
        luma = torch.einsum("c,chw->hw", WEIGHTS, after)
        torch.testing.assert_close(luma.mean(), target.mean())
        torch.testing.assert_close(luma.std(correction=0), target.std(correction=0))
        for a, b in ((0, 1), (1, 2)):  # chroma is what colours differ by
            torch.testing.assert_close(after[a] - after[b], before[a] - before[b])


@pytest.mark.parametrize("size", [(8, 7), (5, 9)])
def test_histogram_gives_the_quantiles_of_the_reference(size: tuple[int, int]) -> None:
    picture, reference = 0.3 + 0.4 * noise(1, 3, 8, 7), 0.4 + 0.2 * noise(1, 3, *size, seed=1)
    out = match_colours(picture, reference, "histogram")
    if size == (8, 7):
        torch.testing.assert_close(out.flatten(2).sort().values, reference.flatten(2).sort().values)
    second = match_histograms(picture[0].numpy(), reference[0].numpy(), channel_axis=0)  # ranks differ by half a pixel
    step = reference.flatten(2).sort().values.diff().max().item()
    np.testing.assert_allclose(out[0].numpy(), second, atol=step)
    assert (out.flatten(2).argsort() == picture.flatten(2).argsort()).all()


def test_histogram_of_equal_values() -> None:
    black_and_white = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]).expand(1, 3, 1, 5)
    reference = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4]).expand(1, 3, 1, 5)
    out = match_colours(black_and_white, reference, "histogram")
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([0.1, 0.1, 0.1, 0.35, 0.35]))  # the middles of 0-.2, .3-.4


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str) -> None:
    photographs = torch.stack([sample("chelsea")[:, 50:90, 50:100], sample("astronaut")[:, 50:90, 50:100]])
    reference = sample("coffee")[None, :, 50:80, 50:90]
    out = match_colours(photographs, reference, method)
    assert out.shape == photographs.shape
    assert 0 <= out.min() <= out.max() <= 1
    assert (out - photographs).abs().mean() > 0.01
    torch.testing.assert_close(match_colours(photographs[1:], reference, method), out[1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(match_colours(photographs, photographs, method), photographs, rtol=0, atol=1e-5)
    half = match_colours(photographs.bfloat16(), reference.bfloat16(), method)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), out, rtol=0, atol=0.05)


@pytest.mark.parametrize("method", ["linear", "luminance"])
def test_gradient(method: str) -> None:
    picture = noise(1, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: match_colours(p, mild(1, 2), method), picture)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_with_luminance_has_exact_luma_and_chroma_of_the_same_hue(seed: int) -> None:
    colour, other = noise(2, 3, 5, 6, seed=seed), noise(2, 3, 5, 6, seed=seed + 1)
    out = with_luminance(colour, other)
    assert 0 <= out.min() <= out.max() <= 1
    torch.testing.assert_close(torch.einsum("c,nchw->nhw", WEIGHTS, out), luminance(other)[:, 0])
    before, after = colour - luminance(colour), out - luminance(out)
    share = (before * after).sum(1) / before.square().sum(1)
    torch.testing.assert_close(after, share[:, None] * before)
    assert -1e-9 <= share.min() <= share.max() <= 1 + 1e-9
    less = share < 1 - 1e-9  # only as much as needed: one colour is then at a bound
    edge = torch.minimum(out, 1 - out).amin(1)
    assert edge[less].abs().max() < 1e-9 if less.any() else True


def test_with_luminance_keeps_chroma_exactly_where_it_fits() -> None:
    colour, other = mild(1, 0), mild(3, 7)
    out = with_luminance(colour, other)
    assert out.shape == other.shape
    torch.testing.assert_close(out - luminance(out), (colour - luminance(colour)).expand_as(out))
    torch.testing.assert_close(with_luminance(colour, colour), colour)
    grey = luminance(other).expand_as(other)
    torch.testing.assert_close(with_luminance(grey, other), grey)


def test_errors() -> None:
    picture = noise(2, 3, 4, 5)
    for call, message in (
        (
            lambda: match_colours(picture, picture, "cholesky"),
            "method is 'cholesky', expected one of linear, luminance",
        ),
        (lambda: match_colours(picture[0], picture), r"shape \(3, 4, 5\), expected \(n, 3, height, width\)"),
        (lambda: match_colours(picture, noise(3, 3, 4, 5)), "3 references for 2 pictures"),
        (lambda: match_colours(picture, picture * 255), "run from"),
        (lambda: match_colours(picture * torch.nan, picture), "not finite"),
        (lambda: with_luminance(picture, noise(2, 3, 4, 6)), "do not belong together"),
        (lambda: with_luminance(picture, noise(3, 3, 4, 5)), "do not belong together"),
    ):
        with pytest.raises(SaccadeError, match=message):
            call()
