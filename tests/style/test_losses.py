"""The course's losses and the variations of pictures, against plain loops."""

import itertools
from typing import get_args

import pytest
import torch

from saccade.errors import SaccadeError
from saccade.style.losses import (
    content_loss,
    gram_matrix,
    guided_gram_matrix,
    guided_style_loss,
    style_loss,
    tv_loss,
)
from saccade.style.preset import Variation
from saccade.style.variation import VARIATIONS


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def looped_gram(features: torch.Tensor) -> torch.Tensor:
    """(C, H, W) -> (C, C)."""
    c, h, w = features.shape
    gram = torch.zeros(c, c, dtype=features.dtype)
    for i, j, y, x in itertools.product(range(c), range(c), range(h), range(w)):
        gram[i, j] += features[i, y, x] * features[j, y, x]
    return gram


def test_content_loss():
    a, b = drawn(2, 2, 3, 4), drawn(2, 2, 3, 4, seed=1)
    looped = sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    assert content_loss(0.5, a, b).item() == pytest.approx(0.5 * looped)
    assert content_loss(0.5, a, a) == 0


def test_gram_matrix():
    features = drawn(2, 3, 2, 4)
    looped = torch.stack([looped_gram(one) for one in features])
    torch.testing.assert_close(gram_matrix(features, normalise=False), looped)
    torch.testing.assert_close(gram_matrix(features), looped / (3 * 2 * 4))


def test_style_loss_compares_the_listed_layers_in_their_order():
    feats = [drawn(1, c, size, size, seed=c) for c, size in ((2, 5), (3, 4), (4, 2))]
    targets = [drawn(1, 4, 4, seed=7), drawn(1, 2, 2, seed=8)]
    looped = 0.0
    for layer, target, weight in zip((2, 0), targets, (10.0, 0.5), strict=True):
        gram = looped_gram(feats[layer][0]) / feats[layer].numel()
        looped += weight * sum(
            (p - q) ** 2 for p, q in zip(gram.flatten().tolist(), target.flatten().tolist(), strict=True)
        )
    assert style_loss(feats, [2, 0], targets, [10.0, 0.5]).item() == pytest.approx(looped)


def looped_differences(picture: torch.Tensor, down: int, across: int, border: int = 0) -> list[float]:
    """Differences of pixels (y + down, x + across) and (y, x) of (C, H, W), wherever both are in the picture; of a
    picture that its edge surrounds, if there is a border."""
    c, h, w = picture.shape

    def value(k: int, y: int, x: int) -> float:
        return picture[k, min(max(y, 0), h - 1), min(max(x, 0), w - 1)].item()

    ys, xs = range(-border, h + border), range(-border, w + border)
    return [
        value(k, y + down, x + across) - value(k, y, x)
        for k, y, x in itertools.product(range(c), ys, xs)
        if y + down in ys and x + across in xs
    ]


def looped_variation(name: str, picture: torch.Tensor) -> float:
    c, h, w = picture.shape
    down, across = looped_differences(picture, 1, 0), looped_differences(picture, 0, 1)
    squares = [sum(d**2 for d in some) for some in (down, across)]
    if name == "squares":
        return sum(squares)
    if name == "absolute":
        return sum(abs(d) for d in down + across)
    if name == "mean-squares":
        return sum(square / len(some) for square, some in zip(squares, (down, across), strict=True))
    diagonal = looped_differences(picture, 1, 1, border=1) + looped_differences(picture, 1, -1, border=1)
    assert len(diagonal) == 2 * c * (h + 1) * (w + 1)
    return 2 * sum(squares) / (3 * c * h * w) + 2 * sum(d**2 for d in diagonal) / (12 * c * (h + 1) * (w + 1))


def test_tv_loss():
    picture = drawn(2, 3, 4, 5)
    looped = sum(looped_variation("squares", one) for one in picture)
    assert tv_loss(picture, 0.25).item() == pytest.approx(0.25 * looped)


@pytest.mark.parametrize("name", get_args(Variation))
def test_variations(name):
    pictures = drawn(2, 3, 4, 6)
    varied = VARIATIONS[name](pictures)
    assert varied.tolist() == pytest.approx([looped_variation(name, one) for one in pictures])
    torch.testing.assert_close(VARIATIONS[name](pictures[1:]), varied[1:])
    torch.testing.assert_close(VARIATIONS[name](pictures.flip(3).transpose(2, 3)), varied)
    assert VARIATIONS[name](torch.full((1, 3, 4, 4), 0.3)) == 0
    assert torch.isfinite(VARIATIONS[name](drawn(1, 3, 1, 5))).all()
    assert VARIATIONS[name](pictures.float()).dtype == torch.float32
    assert torch.autograd.gradcheck(VARIATIONS[name], drawn(1, 3, 4, 4).requires_grad_())


def test_every_variation_of_a_preset_is_there():
    assert set(VARIATIONS) == set(get_args(Variation))


def test_guided_gram_matrix():
    features, masks = drawn(2, 2, 3, 2, 4), drawn(2, 2, 2, 4, seed=1).sigmoid()
    for normalise, divisor in ((False, 1), (True, 3 * 2 * 4)):
        found = guided_gram_matrix(features, masks, normalise)
        for n, r in itertools.product(range(2), range(2)):
            torch.testing.assert_close(found[n, r], looped_gram(features[n, r] * masks[n, r]) / divisor)
    whole = guided_gram_matrix(features, torch.ones_like(masks))
    torch.testing.assert_close(whole.flatten(0, 1), gram_matrix(features.flatten(0, 1)))


def test_guided_style_loss_sums_over_regions():
    feats = [drawn(1, 2, 3, size, size, seed=size) for size in (4, 2)]
    masks = [(drawn(1, 2, size, size, seed=10 + size) > 0).double() for size in (4, 2)]
    targets = [drawn(1, 2, 3, 3, seed=20)]
    apart = [
        style_loss([feats[1][:, r] * masks[1][:, r, None]], [0], [targets[0][:, r]], [3.0]).item() for r in range(2)
    ]
    assert guided_style_loss(feats, [1], targets, [3.0], masks).item() == pytest.approx(sum(apart))


def test_gradients():
    features, masks = drawn(1, 2, 16, 16), (drawn(1, 2, 16, 16, seed=1) > 0).double()
    target, both = drawn(1, 2, 2, seed=2), drawn(1, 2, 2, 2, seed=3)

    def guided(x: torch.Tensor) -> torch.Tensor:
        return guided_style_loss([x[:, None].expand(-1, 2, -1, -1, -1)], [0], [both], [3.0], [masks])

    for loss in (
        lambda x: content_loss(2.0, x, features),
        lambda x: style_loss([x], [0], [target], [3.0]),
        lambda x: tv_loss(x, 0.5),
        guided,
    ):
        assert torch.autograd.gradcheck(loss, drawn(1, 2, 16, 16, seed=4).requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    features = drawn(1, 2, 3, 3).to(dtype)
    gram = gram_matrix(features)
    guided = guided_gram_matrix(features[:, None], features[:, :1])
    losses = content_loss(1.0, features, features), style_loss([features], [0], [gram], [1.0]), tv_loss(features, 1.0)
    assert {one.dtype for one in (gram, guided, *losses)} == {dtype}


def test_errors():
    features, target = drawn(1, 2, 3, 3), drawn(1, 2, 2)
    with pytest.raises(SaccadeError, match="1 layers, 1 targets and 2 weights"):
        style_loss([features], [0], [target], [1.0, 2.0])
    with pytest.raises(SaccadeError, match="no layer 1, only 0 to 0"):
        style_loss([features], [1], [target], [1.0])
    with pytest.raises(SaccadeError, match="0 masks for 1 layers"):
        guided_style_loss([features[:, None]], [0], [target[:, None]], [1.0], [])
