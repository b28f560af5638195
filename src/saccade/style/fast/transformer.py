"""The transformation network: one pass turns a photograph into a picture in a style that it was trained for.

Johnson et al. 2016, arXiv:1603.08155, with instance norm (Ulyanov et al. 2016, arXiv:1607.08022) and, where it halved
and doubled with strided and transposed convolutions, nearest upsampling and a convolution on the way up, which leave no
checkerboard (Odena et al. 2016). One network holds several styles, each with scales and shifts of its own (conditional
instance norm; Dumoulin et al. 2017, arXiv:1610.07629).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError


class StyleNorm(nn.Module):
    """Each channel of each picture to mean 0 and deviation 1, then scaled and shifted as the styles say.

    weight, bias: (styles, C). mixing: (N, styles), the share of each style for each picture.
    """

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(styles, channels))
        self.bias = nn.Parameter(torch.zeros(styles, channels))
        self.held: tuple[Tensor, Tensor] | None = None  # mean and variance to use instead of the picture's own
        self.pooled = False  # whether to measure these over all pictures together

    def forward(self, x: Float[Tensor, "n c h w"], mixing: Float[Tensor, "n s"]) -> Float[Tensor, "n c h w"]:
        weight, bias = mixing @ self.weight, mixing @ self.bias
        if self.pooled:
            variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
            self.held = mean, variance
        if self.held is not None or torch.compiler.is_exporting():
            mean, variance = self.held or torch.var_mean(x, dim=(2, 3), correction=0)[::-1]
            scale = weight * torch.rsqrt(variance + 1e-5)
            return x * scale[:, :, None, None] + (bias - mean * scale)[:, :, None, None]
        # Picture by picture, as PyTorch's instance norm leaves channels_last and takes three times as long.
        return torch.cat(
            [
                F.batch_norm(one, None, None, w, b, training=True)
                for one, w, b in zip(torch.split(x, 1), weight.unbind(), bias.unbind(), strict=True)
            ]
        )


class Conv(nn.Module):
    """A convolution of an odd kernel, padded by reflection; `up` times nearest upsampling before it."""

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int = 1, up: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(cin, cout, kernel, stride, dilation=dilation)
        self.up, self.reach = up, kernel // 2 * dilation

    def forward(self, x: Float[Tensor, "n _c _h _w"]) -> Float[Tensor, "n _d _a _b"]:
        if self.up > 1:
            x = F.interpolate(x, scale_factor=self.up, mode="nearest")
        out: Tensor = self.conv2d(F.pad(x, (self.reach,) * 4, mode="reflect"))
        return out


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int, styles: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1, self.in1 = Conv(channels, channels, 3, dilation=dilation), StyleNorm(channels, styles)
        self.conv2, self.in2 = Conv(channels, channels, 3, dilation=dilation), StyleNorm(channels, styles)

    def forward(self, x: Float[Tensor, "n c h w"], mixing: Float[Tensor, "n s"]) -> Float[Tensor, "n c h w"]:
        out: Tensor = F.relu(self.in1(self.conv1(x), mixing), inplace=True)
        result: Tensor = x + self.in2(self.conv2(out), mixing)
        return result


class TransformationNet(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] of any size -> pictures of the same size, in a style.

    Most work is done at a quarter of the resolution. The names of parameters are those of PyTorch's own example
    (fast_neural_style), whose networks have widths (32, 64, 128), kernel 9 and values "bytes".

    widths: channels at full, half and quarter resolution. blocks: residual blocks. dilations: how far apart the weights
    of each lie, 1 by default; with more it sees farther in the same time. kernel: of the first and the last
    convolution, odd. styles: how many it holds. values: what its layers see and give, "unit": the output is a sigmoid;
    "bytes": numbers in [0, 255], clamped at the end.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 5,
        dilations: Sequence[int] | None = None,
        kernel: int = 5,
        styles: int = 1,
        values: Literal["unit", "bytes"] = "unit",
    ) -> None:
        super().__init__()
        dilations = (1,) * blocks if dilations is None else tuple(dilations)
        if len(dilations) != blocks or any(one < 1 for one in dilations):
            raise SaccadeError(
                f"Could not build a style network: {blocks} blocks have the dilations {dilations}, expected one of 1 "
                "or more for each."
            )
        if len(widths) != 3 or min(widths) < 1 or blocks < 0 or kernel % 2 == 0 or not 1 <= kernel <= 9 or styles < 1:
            raise SaccadeError(
                f"Could not build a style network: widths {tuple(widths)}, {blocks} blocks, kernel {kernel}, {styles} "
                "styles; expected three widths, an odd kernel up to 9, and at least one style."
            )
        full, half, quarter = widths
        self.blocks, self.kernel, self.styles, self.values = blocks, kernel, styles, values
        self.conv1, self.in1 = Conv(3, full, kernel), StyleNorm(full, styles)
        self.conv2, self.in2 = Conv(full, half, 3, stride=2), StyleNorm(half, styles)
        self.conv3, self.in3 = Conv(half, quarter, 3, stride=2), StyleNorm(quarter, styles)
        self.dilations = dilations
        for i, dilation in enumerate(dilations, 1):
            self.add_module(f"res{i}", Residual(quarter, styles, dilation))
        self.deconv1, self.in4 = Conv(quarter, half, 3, up=2), StyleNorm(half, styles)
        self.deconv2, self.in5 = Conv(half, full, 3, up=2), StyleNorm(full, styles)
        self.deconv3 = Conv(full, 3, kernel)

    def forward(
        self, pictures: Float[Tensor, "n 3 h w"], mixing: Float[Tensor, "_ _"] | None = None
    ) -> Float[Tensor, "n 3 h w"]:
        """mixing: the share of each style for each picture, (N, styles); of a network with one style it may be left
        out."""
        n, _, h, w = pictures.shape
        if mixing is None:
            mixing = pictures.new_ones(n, 1)
        if mixing.shape[1] != self.styles or mixing.shape[0] != n:
            raise SaccadeError(
                f"Could not restyle {n} pictures: the shares of styles have shape {tuple(mixing.shape)}, expected "
                f"({n}, {self.styles}), one of each style for each picture."
            )
        x = pictures * 255 if self.values == "bytes" else pictures * 4 - 2
        least = 4 * (max(self.dilations, default=1) + 1)  # a mirrored border needs more than its width
        down, across = (least - side if side < least else -side % 4 for side in (h, w))  # to be halved twice
        x = F.pad(x, (0, across, 0, down), mode="replicate").contiguous(memory_format=torch.channels_last)
        x = F.relu(self.in1(self.conv1(x), mixing), inplace=True)
        x = F.relu(self.in2(self.conv2(x), mixing), inplace=True)
        x = F.relu(self.in3(self.conv3(x), mixing), inplace=True)
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"res{i}")(x, mixing)
        x = F.relu(self.in4(self.deconv1(x), mixing), inplace=True)
        x = F.relu(self.in5(self.deconv2(x), mixing), inplace=True)
        x = self.deconv3(x)[:, :, :h, :w].to(pictures.dtype)
        return (x / 255).clamp(0, 1) if self.values == "bytes" else torch.sigmoid(x)

    @property
    def halo(self) -> int:
        """From how far, in pixels, an output pixel sees its surroundings, statistics apart; a multiple of 4."""
        edge = self.kernel // 2
        reach = edge + 1 + 2 + 8 * sum(self.dilations) + 4 + 2 + edge  # each layer's, at its resolution
        return -(-reach // 4) * 4


@contextmanager
def shared_statistics(network: TransformationNet, samples: Float[Tensor, "n 3 h w"], mixing: Tensor) -> Iterator[None]:
    """While it is entered, norms use the means and variances that they have over all of `samples` together.

    With them a picture can be computed piece by piece: without, each piece would be normalised by itself.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, StyleNorm)]
    before = [layer.held for layer in norms]
    try:
        for layer in norms:
            layer.pooled = True
        network(samples, mixing)
        for layer in norms:
            layer.pooled = False
        yield
    finally:
        for layer, held in zip(norms, before, strict=True):
            layer.held, layer.pooled = held, False
