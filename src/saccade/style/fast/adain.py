"""Any style in one pass: features of a photograph are given the means and deviations of a painting's, and decoded.

Huang and Belongie 2017, arXiv:1703.06868. The encoder is any network up to one of its layers; the decoder is trained
here, once for all styles.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.guards import frozen
from saccade.errors import SaccadeError
from saccade.networks.activations import activations
from saccade.networks.targets import check_input
from saccade.style.fast.transformer import Conv
from saccade.style.masks import masks_for_layer


def adain(
    content: Float[Tensor, "n c _h _w"], mean: Float[Tensor, "m c"], deviation: Float[Tensor, "m c"]
) -> Float[Tensor, "n c _h _w"]:
    """Each channel of `content` shifted and scaled to a mean and a standard deviation; one (m = 1) or one for each.

    A channel without variance takes the mean alone.
    """
    own_mean, own_deviation = statistics(content)
    scale = torch.where(own_deviation > 1e-4, deviation / own_deviation.clamp(min=1e-4), torch.zeros_like(deviation))
    return (content - own_mean[:, :, None, None]) * scale[:, :, None, None] + mean[:, :, None, None]


def statistics(features: Float[Tensor, "n c _h _w"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """Mean and standard deviation of each channel over its places."""
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0)
    return mean, variance.sqrt()


class Decoder(nn.Module):
    """Features (N, C, h, w) -> pictures (N, 3, h * factor, w * factor) in (0, 1); the encoder in a mirror.

    Each doubling halves the channels, down to `least`; upsampling is nearest, padding by reflection.
    """

    def __init__(self, channels: int, factor: int, *, least: int = 16) -> None:
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise SaccadeError(
                f"Could not build a decoder: the features are {factor} times smaller than pictures, "
                "expected a power of 2. Choose another layer."
            )
        layers: list[nn.Module] = [Conv(channels, channels, 3), nn.ReLU(inplace=True)]
        while factor > 1:
            fewer = max(least, channels // 2)
            layers += [Conv(channels, fewer, 3, up=2), nn.ReLU(inplace=True), Conv(fewer, fewer, 3)]
            layers += [nn.ReLU(inplace=True)]
            channels, factor = fewer, factor // 2
        self.layers = nn.Sequential(*layers, Conv(channels, 3, 3))

    def forward(self, features: Float[Tensor, "n _c _h _w"]) -> Float[Tensor, "n 3 _a _b"]:
        out: Tensor = torch.sigmoid(self.layers(features))
        return out


class AdaptiveStyle(nn.Module):
    """An encoder, a network up to `layer`, and its decoder; `restyle` gives pictures the style of any others.

    The network is frozen where it is used, and is not among the parameters.
    """

    def __init__(self, network: nn.Module, layer: str, *, seed: int = 0) -> None:
        super().__init__()
        self._network, self.layer = [network], layer  # in a list: no part of this module
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            device = next(network.parameters()).device
            features = self.encode(torch.zeros(1, 3, 64, 64, device=device))
            if features.ndim != 4 or 64 % features.shape[2] or features.shape[2] != features.shape[3]:
                raise SaccadeError(
                    f"Could not build a decoder: layer {layer} gives {tuple(features.shape)} for a picture of 64 x 64, "
                    "expected maps that are a whole number of times smaller. Choose another layer."
                )
            self.factor = 64 // features.shape[2]
            self.decoder = Decoder(features.shape[1], self.factor).to(device)

    @property
    def network(self) -> nn.Module:
        """The encoder's network."""
        return self._network[0]

    def encode(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n _c _h _w"]:
        """The features of the layer; differentiable in the pictures."""
        with frozen(self.network):
            return activations(self.network, pictures, [self.layer])[self.layer]

    def forward(self, features: Float[Tensor, "n _c _h _w"]) -> Float[Tensor, "n 3 _a _b"]:
        pictures: Tensor = self.decoder(features)
        return pictures

    def restyle(
        self,
        pictures: Float[Tensor, "n 3 h w"],
        styles: Sequence[Float[Tensor, "3 _ _"]],
        *,
        weights: Sequence[float] | None = None,
        alpha: float = 1.0,
        masks: Float[Tensor, "r _ _"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """Pictures in the style of others, of their size.

        Args:
            pictures: in [0, 1], of any size.
            styles: one or several, of any sizes.
            weights: the share of each; features are mixed. Equal if not given; not used with masks.
            alpha: from 0, the picture as the decoder shows it, to 1, the full style.
            masks: for each style where it is, in [0, 1]; where their sum is below 1 the picture's own features stay.

        Raises:
            SaccadeError: no style, not one weight or mask for each, or an alpha outside [0, 1].
        """
        check_input(pictures, "restyle pictures")
        shares = [1.0] * len(styles) if weights is None else list(weights)
        if not styles or len(shares) != len(styles) or min(shares) < 0 or sum(shares) <= 0 or not 0 <= alpha <= 1:
            raise SaccadeError(
                f"Could not restyle pictures: {len(styles)} styles, weights {shares}, alpha {alpha}; expected at least "
                "one style, a weight of 0 or more for each, not all 0, and alpha in [0, 1]."
            )
        if masks is not None and (len(masks) != len(styles) or masks.shape[1:] != pictures.shape[2:]):
            raise SaccadeError(
                f"Could not restyle pictures: masks of shape {tuple(masks.shape)}, expected one for each of "
                f"{len(styles)} styles, of the size of the pictures, {tuple(pictures.shape[2:])}."
            )
        h, w = pictures.shape[2:]
        with torch.no_grad():
            padded = _multiple(pictures, self.factor)
            own = self.encode(padded)
            several = [adain(own, *statistics(self.encode(style[None].to(pictures)))) for style in styles]
            if masks is None:
                total = sum(shares)
                mixed = sum(share / total * one for share, one in zip(shares, several, strict=True))
            else:
                small = masks_for_layer(_multiple(masks[None], self.factor)[0], (own.shape[2], own.shape[3])).to(own)
                small = small / small.sum(0, keepdim=True).clamp(min=1)
                mixed = own * (1 - small.sum(0)) + sum(m * one for m, one in zip(small, several, strict=True))
            made = self(torch.lerp(own, torch.as_tensor(mixed), alpha))
        cut: Tensor = made[:, :, :h, :w]
        return cut


def _multiple(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c a b"]:
    """Padded by repetition to multiples of `factor`, and to at least four of them."""
    h, w = (max(4 * factor, -(-side // factor) * factor) for side in x.shape[2:])
    return F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2]), mode="replicate")
