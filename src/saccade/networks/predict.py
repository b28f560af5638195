"""What a network says of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.engine.guards import evaluating
from saccade.networks.network import Network
from saccade.pictures import centre_crop, resize


@dataclass(frozen=True)
class Prediction:
    """A class, by index and name, and its probability."""

    index: int
    name: str
    probability: float


def prepare(network: Network, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
    """A picture of any size as the network was trained to see it: shorter side resized, centre cut out.

    Networks of 128 pixels and more get the usual margin (shorter side 256 for 224). Clamped to [0, 1].
    """
    side = network.input_size or 224
    shorter = round(side * 256 / 224) if side >= 128 else side
    return centre_crop(resize(picture, shorter), side).clamp(0, 1)[None]


def predict(network: Network, pictures: Sequence[Float[Tensor, "3 _ _"]], *, top: int = 5) -> list[list[Prediction]]:
    """The `top` most probable classes of each picture (any sizes, [0, 1]), most probable first."""
    device = next(network.parameters()).device
    answers = []
    with evaluating(network):
        for picture in pictures:
            logits = network(prepare(network, picture).to(device))
            best = torch.softmax(logits[0].double(), 0).topk(min(top, logits.shape[1]))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            answers.append([Prediction(i, network.class_name(i), p) for i, p in pairs])
    return answers
