"""Clouds: heights that look alike at every scale, by the diamond-square algorithm."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attack.corruptions.draws import Drawn, uniform


def plasma(drawn: Drawn, height: int, width: int, decay: float, like: Tensor) -> Float[Tensor, "n h w"]:
    """Clouds from 0 to 1, whose detail is `decay` times as flat each time it is half as wide.

    Fournier, Fussell and Carpenter 1982, doi:10.1145/358523.358553. Heights are given to a few places, and those half
    way between get the mean of their four neighbours and a random part: first in the middle of squares, then in the
    middle of their sides. The surface continues at the other border.
    """
    heights, part = like.new_zeros(len(drawn), 1, 1), 1.0
    while heights.shape[-1] < max(height, width):
        count = heights.shape[-1]
        shake = part * uniform(drawn, (3, count, count), like, -1.0, 1.0)
        below, right = heights.roll(-1, 1), heights.roll(-1, 2)
        middle = (heights + below + right + below.roll(-1, 2)) / 4 + shake[:, 0]
        top = (heights + right + middle + middle.roll(1, 1)) / 4 + shake[:, 1]
        left = (heights + below + middle + middle.roll(1, 2)) / 4 + shake[:, 2]
        upper, lower = torch.stack([heights, top], -1).flatten(2), torch.stack([left, middle], -1).flatten(2)
        heights, part = torch.stack([upper, lower], 2).flatten(1, 2), part / decay
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return ((heights - low) / (high - low).clamp_min(1e-12))[:, :height, :width]
