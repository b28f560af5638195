"""The losses of the course's style transfer, as written in its notebook.

Feature maps are what a layer of a network gives, (N, C, H, W). Losses are sums over all that is in them, in the dtype
of what they are given. `saccade.style.statistics` has the same and others, with a number for each picture.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError


def content_loss(
    content_weight: float, content_current: Float[Tensor, "n c h w"], content_target: Float[Tensor, "n c h w"]
) -> Float[Tensor, ""]:
    """The weighted sum of squared differences of two feature maps (Gatys et al. 2015, arXiv:1508.06576, equation 1)."""
    return content_weight * (content_current - content_target).square().sum()


def gram_matrix(features: Float[Tensor, "n c h w"], normalise: bool = True) -> Float[Tensor, "n c c"]:
    """The products of all pairs of channels, summed over places; divided by C * H * W if normalised."""
    _, c, h, w = features.shape
    flat = features.flatten(2)
    gram = flat @ flat.mT
    return gram / (c * h * w) if normalise else gram


def style_loss(
    feats: Sequence[Float[Tensor, "n _c _h _w"]],
    style_layers: Sequence[int],
    style_targets: Sequence[Float[Tensor, "n _c _c"]],
    style_weights: Sequence[float],
) -> Float[Tensor, ""]:
    """The weighted sum of squared differences of normalised Gram matrices.

    Args:
        feats: the maps of all layers of a network.
        style_layers: which of them are compared.
        style_targets: the Gram matrix wanted of each of these.
        style_weights: of each of these.

    Raises:
        SaccadeError: there is not one target and one weight for each layer.
    """
    _check_layers(feats, style_layers, style_targets, style_weights)
    losses = [
        weight * (gram_matrix(feats[layer]) - target).square().sum()
        for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True)
    ]
    return torch.stack(losses).sum()


def tv_loss(img: Float[Tensor, "n c h w"], tv_weight: float) -> Float[Tensor, ""]:
    """The weighted sum of squared differences of vertical and of horizontal neighbours."""
    down = img[:, :, 1:, :] - img[:, :, :-1, :]
    across = img[:, :, :, 1:] - img[:, :, :, :-1]
    return tv_weight * (down.square().sum() + across.square().sum())


def guided_gram_matrix(
    features: Float[Tensor, "n r c h w"], masks: Float[Tensor, "n r h w"], normalise: bool = True
) -> Float[Tensor, "n r c c"]:
    """The Gram matrix of each of R regions: of the features times its mask (Gatys et al. 2017, arXiv:1611.07865).

    If normalised it is divided by C * H * W, the full size whatever the mask.
    """
    *_, c, h, w = features.shape
    flat = (features * masks[:, :, None]).flatten(3)
    gram = flat @ flat.mT
    return gram / (c * h * w) if normalise else gram


def guided_style_loss(
    feats: Sequence[Float[Tensor, "n r _c _h _w"]],
    style_layers: Sequence[int],
    style_targets: Sequence[Float[Tensor, "n r _c _c"]],
    style_weights: Sequence[float],
    content_masks: Sequence[Float[Tensor, "n r _h _w"]],
) -> Float[Tensor, ""]:
    """`style_loss` with guided Gram matrices, summed over regions.

    feats: the maps of all layers, repeated for each region. content_masks: of all layers, each at its layer's size.
    """
    _check_layers(feats, style_layers, style_targets, style_weights)
    if len(content_masks) != len(feats):
        raise SaccadeError(
            f"Could not compare styles: {len(content_masks)} masks for {len(feats)} layers, expected one for each."
        )
    losses = [
        weight * (guided_gram_matrix(feats[layer], content_masks[layer]) - target).square().sum()
        for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True)
    ]
    return torch.stack(losses).sum()


def _check_layers(
    feats: Sequence[Tensor],
    style_layers: Sequence[int],
    style_targets: Sequence[Tensor],
    style_weights: Sequence[float],
) -> None:
    counts = len(style_layers), len(style_targets), len(style_weights)
    if len(set(counts)) > 1 or not style_layers:
        raise SaccadeError(
            f"Could not compare styles: {counts[0]} layers, {counts[1]} targets and {counts[2]} weights, expected as "
            "many of each, and at least one."
        )
    for layer in style_layers:
        if not 0 <= layer < len(feats):
            raise SaccadeError(f"Could not compare styles: there is no layer {layer}, only 0 to {len(feats) - 1}.")
