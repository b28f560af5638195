"""Score-CAM: a layer's maps weighted by what the network still says where only the map lets the picture through.

Wang and others 2020, arXiv:1910.01279. It needs no gradient, and one run of the network for each channel.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.explain.cam import as_map, batches, cam_layer, split, weighted_sum
from saccade.explain.hiding import Fill, fills, hidden, rows_of
from saccade.explain.question import Question, Target, asking, finished


def score_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    fill: Fill = 0.0,
    softmax: bool = True,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """Score-CAM: a channel's weight is how much its map, as a mask on the picture, raises the raw score.

    A channel's map is enlarged to the picture and brought to [0, 1], and hides the picture where it is 0. The raw score
    of what is left, less that of a picture of which all is hidden, is the channel's increase; as in the paper, the
    weights are a softmax of the increases over the channels. (What the hidden picture says is then one factor of all
    weights, and cancels.) A map that is constant hides everything: its increase is 0.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is explained, see `Target`; a `Unit` must lie behind the layer.
        layer: whose maps are weighted, as in `grad_cam`.
        fill: what is seen where the mask is 0, see `Fill`; 0 is black.
        softmax: False takes the increases themselves as weights; a softmax of large scores is close to one channel.
        relu: keep what speaks for the target, as in the paper.
        enlarge: enlarge the map bilinearly to the pictures; False gives it in the size of the layer's maps.
        batch_size: masked pictures at once; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), or (N, h, w) of the layer if not `enlarge`; of the device and dtype of `pictures`, not normalised.

    Raises:
        SaccadeError: as `grad_cam`.
    """
    operation = "compute Score-CAM"
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        part = cam_layer(question, layer)
        size = rows_at_once(network, question.x, batch_size)
        hide = fills(question, fill)
        activation = torch.cat([split(question, part, rows)[0] for rows in batches(question, size)])
        question.learn(len(activation) * activation.shape[1])
        weights = torch.stack([_increases(question, i, maps, hide[i], size) for i, maps in enumerate(activation)])
        if softmax:
            weights = weights.softmax(1)
        found = as_map(weighted_sum(weights, activation), question, relu=relu, enlarge=enlarge)
    return finished(found, operation)


def _increases(
    question: Question, i: int, activation: Float[Tensor, "c a b"], hide: Float[Tensor, "3 h w"], size: int
) -> Float[Tensor, " c"]:
    """The score of picture `i` behind each channel's mask less that of what hides it, `size` masks at a time."""
    nothing = question.score(hide[None], rows_of(question, i, 1))
    found = torch.zeros_like(activation[:, 0, 0])
    varied = (activation.amax((1, 2)) > activation.amin((1, 2))).nonzero()[:, 0]
    for chunk in chunks(len(varied), size):
        some = varied[chunk]
        mask = F.interpolate(
            activation[some, None], size=question.x.shape[2:], mode="bilinear", align_corners=False
        ).squeeze(1)
        low, high = mask.amin((1, 2), keepdim=True), mask.amax((1, 2), keepdim=True)
        mask = (mask - low) / (high - low).clamp_min(torch.finfo(mask.dtype).tiny)
        said = question.score(hidden(question, question.x[i], hide, mask), rows_of(question, i, len(some)))
        found[some] = said - nothing
    return found
