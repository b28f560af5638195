"""Ablation-CAM: a layer's maps weighted by how much the score falls without each.

Desai and Ramaswamy 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
Localization", WACV. It needs no gradient. Of the network only what lies behind the layer is run for each channel.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.explain.cam import as_map, cam_layer, weighted_sum
from saccade.explain.head import Head
from saccade.explain.question import Target, asking, finished


def ablation_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """Ablation-CAM: a channel's weight is the share of the raw score that is lost if its map is set to 0.

    The weight is (y - y_k) / |y|, of the score y and the score y_k without channel k. The paper divides by y, the same
    where y is positive; where it is negative that would turn the map's sign. Where y is 0 nothing is divided.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is explained, see `Target`; a `Unit` must lie behind the layer.
        layer: whose maps are weighted, as in `grad_cam`.
        relu: keep what speaks for the target, as in the paper; False gives the signed map.
        enlarge: enlarge the map bilinearly to the pictures; False gives it in the size of the layer's maps.
        batch_size: channels at once; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), or (N, h, w) of the layer if not `enlarge`; of the device and dtype of `pictures`, not normalised.

    Raises:
        SaccadeError: as `grad_cam`.
    """
    operation = "compute Ablation-CAM"
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        part = cam_layer(question, layer)
        size = rows_at_once(network, question.x, batch_size)
        found = []
        for row in range(len(question.x)):
            head = Head(question, part, row)
            many = size
            if batch_size is None and head.replays:  # as many as hold as much as the pictures that may be run at once
                many = max(size, size * question.x[0].numel() // head.activation.numel())
            found.append(weighted_sum(_losses(head, many), head.activation))
        maps = as_map(torch.cat(found), question, relu=relu, enlarge=enlarge)
    return finished(maps, operation)


def _losses(head: Head, size: int) -> Float[Tensor, "1 c"]:
    """The share of the score that is lost with each channel, `size` channels at a time; without a dead one, nothing."""
    activation, score = head.activation, head.score
    scores = score.repeat(activation.shape[1])
    alive = activation[0].flatten(1).any(1).nonzero()[:, 0]
    for chunk in chunks(len(alive), size):
        without = alive[chunk]
        ablated = activation.repeat(len(without), 1, 1, 1)
        ablated[torch.arange(len(without), device=without.device), without] = 0
        scores[without] = head(ablated)
    return ((score - scores) / torch.where(score == 0, torch.ones_like(score), score.abs()))[None]
