"""A convnet for small pictures that learns CIFAR-10 in a few epochs.

The family of "94% on CIFAR-10 in 3.29 seconds on a single GPU" (Keller Jordan 2024, arXiv:2404.00498),
with names and settings open so that it can grow: wider (`fast95`), deeper with residual connections
(`fast96`), any activation, any number of classes, any picture from 9 pixels up. What makes it fast:

- a frozen first convolution that whitens 2x2 patches, so that training starts from decorrelated inputs;
- convolutions that start as the identity, so that the signal arrives at the classifier in the first step;
- pooling right after the first convolution of a block, so that most work is done at low resolution;
- batch norms with a shift but no scale (the shift may then be trained with a much higher learning rate)
  and a short memory, so that averaged weights have statistics that fit.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.errors import SaccadeError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "celu": nn.CELU,
    "mish": nn.Mish,
}


def whitening_weights(
    pictures: Float[Tensor, "n c h w"], *, kernel: int = 2, eps: float = 5e-4
) -> Float[Tensor, "filters c kernel kernel"]:
    """Filters that whiten the patches of `pictures`, and their negatives: 2 * c * kernel**2 of them.

    Filter i is eigenvector i of the patches' second-moment matrix, largest eigenvalue first, divided by
    sqrt(eigenvalue + eps): its responses have mean square eigenvalue / (eigenvalue + eps), nearly 1, and
    those of different filters are uncorrelated. The second half is the first half negated, as the
    activation that follows keeps only one sign. A few thousand pictures are enough.

    Args:
        pictures: training pictures, normalised as the network will see them (zero mean).
        kernel: side of a patch in pixels.
        eps: keeps directions that hardly occur from being blown up.
    """
    size = pictures.shape[1] * kernel**2
    moment = torch.zeros(size, size, dtype=torch.float64, device=pictures.device)
    count = 0
    for start in range(0, len(pictures), 256):
        patches = F.unfold(pictures[start : start + 256].float(), kernel)  # (n, size, places)
        moment += torch.einsum("nip,njp->ij", patches, patches).double()
        count += patches.shape[0] * patches.shape[2]
    eigenvalues, eigenvectors = torch.linalg.eigh(moment / count)  # ascending; vectors in columns
    filters = (eigenvectors / (eigenvalues + eps).sqrt()).T.flip(0)
    # An eigenvector has no sign of its own; fixing it makes the filters the same on every machine.
    signs = filters.gather(1, filters.abs().argmax(dim=1, keepdim=True)).sign()
    filters = (filters * signs).reshape(size, pictures.shape[1], kernel, kernel)
    return torch.cat([filters, -filters]).to(torch.float32)


class FastBlock(nn.Module):
    """conv - max pool 2 - norm - activation, then `convs` - 1 times conv - norm - activation.

    With three convolutions, the last two are a residual branch: their input is added before the last
    activation. (N, cin, H, W) -> (N, cout, H // 2, W // 2).
    """

    def __init__(self, cin: int, cout: int, *, convs: int, activation: type[nn.Module], momentum: float) -> None:
        super().__init__()
        self.conv1 = _identity_conv(cin, cout)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _shift_norm(cout, momentum)
        self.act1 = activation()
        self.conv2 = _identity_conv(cout, cout)
        self.norm2 = _shift_norm(cout, momentum)
        self.act2 = activation()
        self.residual = convs == 3
        if self.residual:
            self.conv3 = _identity_conv(cout, cout)
            self.norm3 = _shift_norm(cout, momentum)
            self.act3 = activation()

    def forward(self, x: Float[Tensor, "n cin h w"]) -> Float[Tensor, "n cout h2 w2"]:
        x = self.act1(self.norm1(self.pool(self.conv1(x))))
        y: Tensor = self.act2(self.norm2(self.conv2(x)))
        if self.residual:
            y = self.act3(self.norm3(self.conv3(y)) + x)
        return y


class FastNet(nn.Module):
    """whiten - activation - blocks - maximum over the map - linear, scaled.

    (N, 3, H, W) -> (N, num_classes); three blocks need 9 pixels a side. The defaults are the network of the
    94 % recipe: 1,972,792 parameters, of which 1,440 are frozen (288 in the whitening filters, 1,152 norm
    scales of one). The filters start random: call `whiten(pictures)` once before training.

    Args:
        num_classes: how many scores it gives.
        widths: channels of each block; a block halves the side.
        convs: convolutions in a block, 2 or 3.
        activation: one of `ACTIVATIONS`.
        kernel: side of the whitened patches.
        scale: factor on the logits; small logits at the start keep the first steps calm.
        momentum: of the batch norms' running averages: how much of the old value stays.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        widths: Sequence[int] = (64, 256, 256),
        convs: int = 2,
        activation: str = "gelu",
        kernel: int = 2,
        scale: float = 1 / 9,
        momentum: float = 0.6,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise SaccadeError(f"FastNet: activation {activation!r} is not one of {', '.join(ACTIVATIONS)}.")
        if convs not in (2, 3):
            raise SaccadeError(f"FastNet: {convs} convolutions in a block were asked for; 2 or 3 are possible.")
        act = ACTIVATIONS[activation]
        whitened = 2 * 3 * kernel**2
        self.scale = scale
        self.whitening = nn.Conv2d(3, whitened, kernel)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.bias)  # type: ignore[arg-type]  # it has one
        self.act = act()
        pairs = zip([whitened, *widths], widths, strict=False)
        self.blocks = nn.Sequential(
            *(FastBlock(a, b, convs=convs, activation=act, momentum=momentum) for a, b in pairs)
        )
        self.linear = nn.Linear(widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def whiten(self, pictures: Float[Tensor, "n 3 h w"], *, eps: float = 5e-4) -> None:
        """Set the first convolution from training pictures, normalised as the network will see them."""
        kernel = self.whitening.kernel_size[0]
        self.whitening.weight.copy_(whitening_weights(pictures, kernel=kernel, eps=eps))

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.blocks(self.act(self.whitening(x)))
        logits: Tensor = self.linear(x.amax(dim=(2, 3))) * self.scale
        return logits


def _identity_conv(cin: int, cout: int) -> nn.Conv2d:
    """A 3x3 convolution whose first outputs are its inputs; the further ones start random."""
    conv = nn.Conv2d(cin, cout, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:cin])
    return conv


def _shift_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """A batch norm that learns a shift only. PyTorch counts the momentum from the other end."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=1 - momentum)
    norm.weight.requires_grad_(False)
    return norm
