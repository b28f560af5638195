"""Which pixels a neuron can see: the rectangle of the picture that its value may depend on.

Found by experiment rather than from kernels and strides, so that it is right for any module: a column of the picture
is made NaN ("not a number") and every neuron that turns NaN depends on it. NaN times a weight of zero is NaN and the
ReLU and the maximum of NaN are NaN, so what is found does not depend on the weights.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Int
from torch import Tensor, nn

from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.guards import evaluating
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.activations import activations
from saccade.networks.targets import check_input

CHECKED = 4  # places of a layer at which the rectangle is tried with noise
TOLERANCE = 1e-3  # of the layer's largest value: more than rounding, less than what a pixel does


def receptive_fields(
    network: nn.Module, picture: Tensor, layers: Sequence[str], *, batch_size: int | None = None
) -> dict[str, Int[Tensor, "h w 4"]]:
    """The rectangle of a picture that each place of each layer can see: top, left, bottom, right; the last two are
    the first row and column outside.

    A rectangle ends where the picture ends; what a neuron sees of the padding is not counted. Holes, as of dilated
    kernels, are inside. Flat layers, (N, C), have one place.

    A module that hides NaN, such as a ReLU written as `torch.where(x > 0, x, 0)`, makes rectangles that are too small:
    noise outside them then changes the layer, which is tried, and the layer is said to see the whole picture.

    Args:
        network: pictures (N, 3, H, W) to anything.
        picture: (1, 3, H, W), an example of those that the network will be given; only its size, type and device count.
        layers: their dotted names.

    Raises:
        SaccadeError: no pictures, or a layer that is not there or gives no (N, C) or (N, C, h, w).
    """
    operation = "find receptive fields"
    check_input(picture, operation)
    size = (picture.shape[2], picture.shape[3])
    blank = torch.zeros_like(picture[:1])
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        # The fast convolutions (Winograd's, Fourier's) mix what lies near into sums that cancel: NaN does not cancel.
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        at_once = rows_at_once(network, blank, batch_size)
        for axis in (0, 1):
            for part in chunks(size[axis], at_once):
                lines = torch.arange(part.start, part.stop)
                x = blank.repeat(len(lines), 1, 1, 1)
                x.movedim(2 + axis, 1)[torch.arange(len(lines)), lines] = torch.nan
                for name, output in activations(network, x, layers).items():
                    reached = as_maps(output, name, operation).isnan().any(1).cpu()  # (lines, h, w)
                    box = found.setdefault(name, _nothing(reached.shape[1], reached.shape[2]))
                    seen = torch.where(reached, lines[:, None, None], -1).amax(0) + 1
                    unseen = torch.where(reached, lines[:, None, None], size[axis]).amin(0)
                    box[..., axis] = torch.minimum(box[..., axis], unseen)
                    box[..., axis + 2] = torch.maximum(box[..., axis + 2], seen)
        whole = torch.tensor([0, 0, *size])
        for name, box in found.items():
            blind = (box[..., 2:] <= box[..., :2]).any(-1)
            box[blind] = whole
            if not _holds(network, blank, name, box):
                box[:] = whole
    return found


def as_maps(output: Tensor, layer: str, operation: str) -> Tensor:
    """The output of a layer as (N, C, h, w); a flat one has one place. Raises `SaccadeError` for other shapes."""
    if isinstance(output, Tensor) and output.ndim in (2, 4) and output.is_floating_point():
        return output if output.ndim == 4 else output[:, :, None, None]
    given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise SaccadeError(f"Could not {operation}: the layer {layer} gives {given}, expected (n, c) or (n, c, h, w).")


def _nothing(h: int, w: int) -> Tensor:
    far = torch.iinfo(torch.int64).max
    return torch.tensor([far, far, 0, 0]).repeat(h, w, 1)


def _holds(network: nn.Module, blank: Tensor, layer: str, box: Tensor) -> bool:
    """Whether noise outside of the rectangles of some places leaves the layer's values there as they were."""
    h, w, _ = box.shape
    random = generator(0)
    places = torch.randint(h * w, (CHECKED,), generator=random).tolist()
    noise = torch.rand(2, *blank.shape[1:], generator=random).to(blank)
    x = noise[:1].repeat(1 + CHECKED, 1, 1, 1)
    for row, place in enumerate(places, 1):
        top, left, bottom, right = box[place // w, place % w].tolist()
        x[row] = noise[1]
        x[row, :, top:bottom, left:right] = noise[0, :, top:bottom, left:right]
    values = as_maps(activations(network, x, [layer])[layer], layer, "").flatten(2)  # (1 + CHECKED, c, places)
    changes = [(values[row, :, place] - values[0, :, place]).abs().max() for row, place in enumerate(places, 1)]
    return bool(torch.stack(changes).max() <= TOLERANCE * values[0].abs().max())
