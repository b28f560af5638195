"""Export a style network to ONNX, believed only after the exported file gave the same pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.networks.export import exported
from saccade.style.fast.network import FastStyle, Style

SIZES = ((96, 128), (64, 52), (128, 96))
"""Heights and widths at which the file is checked; the first is the one it is made with."""


class _OneStyle(nn.Module):
    def __init__(self, network: FastStyle, style: Style) -> None:
        super().__init__()
        self.network, self.style = network, style

    def forward(self, pictures: Tensor) -> Tensor:
        restyled: Tensor = self.network(pictures, self.style)
        return restyled


def export_fast(network: FastStyle, path: str | Path, *, style: Style = None, tolerance: float = 2e-3) -> float:
    """Write one style of a network as ONNX: pictures (N, 3, H, W) in [0, 1] -> restyled (N, 3, H, W).

    N, H and W are free; H and W are multiples of 4, from 8. The file is run on random pictures of three sizes. Returns
    the largest difference of a pixel value. Raises `SaccadeError` if the extra `export` is not installed or the
    difference exceeds `tolerance`; then no file is left.
    """
    one = _OneStyle(network, style)
    device = next(network.parameters()).device
    draw = torch.Generator().manual_seed(0)
    batches = [torch.rand(3 - i, 3, h, w, generator=draw) for i, (h, w) in enumerate(SIZES)]
    n, h, w = torch.export.Dim("n"), torch.export.Dim("h4", min=2), torch.export.Dim("w4", min=2)
    with exported(one, batches[0], path, output="restyled", free={0: n, 2: 4 * h, 3: 4 * w}) as run:
        difference = max(float((run(each) - one(each.to(device)).cpu()).abs().max()) for each in batches)
        if not difference <= tolerance:
            raise SaccadeError(
                f"Exporting {network.name}: the ONNX file is off by {difference:.2g} in a pixel, more than "
                f"{tolerance:g}; no file was written."
            )
    return difference
