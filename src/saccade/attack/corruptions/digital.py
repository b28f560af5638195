"""What processing does: contrast lost, geometry bent, resolution lost, and JPEG."""

import io

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saccade.attack.corruptions.draws import Drawn, normal, uniform
from saccade.attack.corruptions.kernels import filtered, gaussian


def contrast(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, kept: float) -> Float[Tensor, "n 3 h w"]:
    """Each channel drawn to its mean over the picture; of the distance a share is `kept`."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + kept * (x - mean)


def elastic(
    x: Float[Tensor, "n 3 h w"], drawn: Drawn, size: float, grain: float, corner: float
) -> Float[Tensor, "n 3 h w"]:
    """The picture bent, bilinear, mirrored at the borders.

    Each pixel comes from a place that is displaced by a smooth random field, normal with a deviation of `size` each way
    and smoothed by a bell of `grain`, and by an affine map that moves three points a third of the side from the middle
    by up to `corner`; all in pixels. Published severities are not ordered (at 224 pixels 1 and 2 are large affine maps,
    3 to 5 fine waves); these go evenly up to the published waves of severity 5, so that figures are close to published
    ones in kind alone.
    """
    height, width = x.shape[-2:]
    bell = gaussian(grain)
    reach = bell.shape[-1] // 2
    field = normal(drawn, (2, height + 2 * reach, width + 2 * reach), x)
    smooth = filtered(field, bell / bell.norm())[..., reach : reach + height, reach : reach + width]
    third = max(min(height, width) / 3, 1.0)
    down, right = ((torch.arange(n, dtype=x.dtype, device=x.device) - (n - 1) / 2) / third for n in (height, width))
    a, b, c = uniform(drawn, (3, 2, 1, 1), x, -corner, corner).unbind(1)
    moved = b + (a - b) * (down[:, None] + 1) / 2 + (c - b) * (1 - right) / 2 + size * smooth
    rows, columns = down[:, None] * third + moved[:, 0], right * third + moved[:, 1]
    grid = torch.stack([2 * columns / width, 2 * rows / height], -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def pixelate(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, block: float) -> Float[Tensor, "n 3 h w"]:
    """Shrunk until `block` pixels are one, each the mean of those it covers, and enlarged without interpolation."""
    height, width = x.shape[-2:]
    rows, columns = (_boxes(n, max(1, int(n / block + 1e-6))).to(x) for n in (height, width))
    return F.interpolate(rows @ x @ columns.T, size=(height, width), mode="nearest-exact")


def jpeg(x: Float[Tensor, "n 3 h w"], _drawn: Drawn, quality: float) -> Float[Tensor, "n 3 h w"]:
    """Written as JPEG by Pillow, from 8 bits, and read again; `quality` (to a whole number) is libjpeg's, up to 95.

    Pictures that were JPEG before, and have not been resized since, can fare worse at a higher quality: from files of
    quality 75, as Tiny ImageNet's are, 51 to 60 makes details nearly twice as strong (what was one step of the old
    rounding becomes one step of the new, which is nearly two), and 49 removes them.
    """
    raw = (255 * x).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    read = [torch.from_numpy(_through_file(one, round(quality))) for one in raw]
    return torch.stack(read).permute(0, 3, 1, 2).to(x) / 255


def _boxes(size: int, smaller: int) -> Float[Tensor, "smaller size"]:
    """Means over the pixels whose middles lie in each of `smaller` equal boxes; a middle between two is the first's."""
    box = ((2 * torch.arange(size) + 1) * smaller - 1) // (2 * size)
    member = (box == torch.arange(smaller)[:, None]).double()
    return member / member.sum(1, keepdim=True)


def _through_file(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as it comes back from a JPEG file in memory."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
