"""The convolutions of VGG-19 up to the fifth stage with a fourth to a sixteenth of its work, for style transfer.

Wang, Li, Wang, Hu, Yang 2020, "Collaborative Distillation for Ultra-Resolution Universal Style Transfer"
(arXiv:2003.08436), whose authors publish weights. Layers are named as in the papers on style: `relu41` is relu4_1.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

DEPTHS = (2, 2, 4, 4, 1)


class ThinVGG(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1], from 32 pixels a side -> the means of the last maps, (N, num_classes).

    It is an encoder: its "scores" are features. `conv0` makes of a picture what VGG's authors fed theirs; convolutions
    mirror the border. The layers `*_aux`, which do not run, lift a map to the width that VGG-19 has there.

    widths, full: channels of the first four stages, and VGG-19's of all five. num_classes: channels of the last.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        full: Sequence[int] = (64, 128, 256, 512, 512),
        num_classes: int = 128,
    ) -> None:
        super().__init__()
        widths = (*widths, num_classes)
        for stage, (width, wide) in enumerate(zip(widths, full, strict=True), 1):
            self.add_module(f"conv{stage}1_aux", nn.Conv2d(width, wide, 1).requires_grad_(False))
        self.order = ["conv0"]
        self.conv0 = nn.Conv2d(3, 3, 1)
        channels = 3
        for stage, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True), 1):
            for place in range(1, depth + 1):
                name = f"{stage}{place}"
                self.add_module(f"conv{name}", nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect"))
                self.add_module(f"relu{name}", nn.ReLU())
                self.order += [f"conv{name}", f"relu{name}"]
                channels = width
            if stage < len(widths):
                self.add_module(f"pool{stage}", nn.MaxPool2d(2))
                self.order.append(f"pool{stage}")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))
