"""Mixed pictures and the loss that belongs to them, pixel by pixel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.train.mix import Targets, mix


def marked(count, h, w):
    """Picture i is of the constant i + 1, so that each pixel says where it is from."""
    return (torch.arange(count).float() + 1)[:, None, None, None].expand(count, 3, h, w).contiguous()


def soft_labels(targets, classes):
    first = F.one_hot(targets.labels, classes).double()
    if targets.others is None:
        return first
    return targets.share * first + (1 - targets.share) * F.one_hot(targets.others, classes)


@given(st.integers(0, 10**6), st.floats(0.05, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_cutmix_share_is_the_visible_area(seed, alpha, h, w, count):
    pictures, labels = marked(count, h, w), torch.arange(count)
    g = torch.Generator().manual_seed(seed)
    mixed, targets = mix(pictures, labels, mixup=0.0, cutmix=alpha, generator=g)
    assert targets.others is not None
    for i in range(count):
        own, other = i + 1, int(targets.others[i]) + 1
        pixels = mixed[i, 0]
        assert set(pixels.unique().tolist()) <= {float(own), float(other)}
        if own != other:
            visible = (pixels == own).double().mean().item()
            assert visible == pytest.approx(targets.share, abs=1e-12)
            foreign = (pixels == other).nonzero()
            if len(foreign):  # a full rectangle
                top, left = foreign.amin(0).tolist()
                bottom, right = foreign.amax(0).tolist()
                assert len(foreign) == (bottom - top + 1) * (right - left + 1)
        assert torch.equal(mixed[i, 0], mixed[i, 1])
    assert torch.equal(pictures, marked(count, h, w))  # the batch itself is untouched


@given(st.integers(0, 10**6), st.floats(0.05, 4))
@settings(max_examples=30, deadline=None)
def test_mixup_is_the_weighted_mean(seed, alpha):
    pictures, labels = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(5)
    mixed, targets = mix(pictures, labels, mixup=alpha, cutmix=0.0, generator=torch.Generator().manual_seed(seed))
    assert targets.others is not None
    assert 0 <= targets.share <= 1
    assert sorted(targets.others.tolist()) == [0, 1, 2, 3, 4]  # every picture is used once
    expected = targets.share * pictures + (1 - targets.share) * pictures[targets.others]
    torch.testing.assert_close(mixed, expected)


def test_the_share_is_beta_distributed():
    """Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))."""
    alpha, count = 0.4, 3000
    g = torch.Generator().manual_seed(0)
    pictures, labels = torch.zeros(2, 3, 1, 1), torch.arange(2)
    shares = torch.tensor([mix(pictures, labels, mixup=alpha, cutmix=0.0, generator=g)[1].share for _ in range(count)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * (variance / count) ** 0.5
    assert shares.var() == pytest.approx(variance, rel=0.08)


def test_both_take_turns():
    pictures, labels = marked(2, 6, 6), torch.arange(2)
    g = torch.Generator().manual_seed(0)
    blended = 0
    for _ in range(200):
        mixed, targets = mix(pictures, labels, mixup=1.0, cutmix=1.0, generator=g)
        assert targets.others is not None
        if targets.others[0] == 1:
            blended += not set(mixed[0].unique().tolist()) <= {1.0, 2.0}
    assert 25 < blended < 75  # about half of the half that was swapped


def test_without_mixing_nothing_happens():
    pictures, labels = torch.rand(3, 3, 2, 2), torch.arange(3)
    g = torch.Generator().manual_seed(0)
    before = g.get_state()
    mixed, targets = mix(pictures, labels, mixup=0.0, cutmix=0.0, generator=g)
    assert mixed is pictures
    assert targets.others is None
    assert torch.equal(before, g.get_state())


@pytest.mark.parametrize("kind", [{"mixup": 1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}])
def test_channels_last_stays(kind):
    """Else every convolution of the step would pay for a conversion."""
    pictures = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    mixed, _ = mix(pictures, torch.arange(4), **kind, generator=torch.Generator().manual_seed(1))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@given(st.floats(0, 1), st.floats(0, 0.9))
@settings(max_examples=30, deadline=None)
def test_loss_is_the_cross_entropy_with_soft_labels(share, smoothing):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=g).double()
    labels, others = torch.randint(0, 5, (2, 6), generator=g)
    targets = Targets(labels, others, share)
    smooth = (1 - smoothing) * soft_labels(targets, 5) + smoothing / 5
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(targets.loss(logits, smoothing=smoothing), expected)
    plain = Targets(labels)
    smooth = (1 - smoothing) * soft_labels(plain, 5) + smoothing / 5
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(plain.loss(logits, smoothing=smoothing), expected)
