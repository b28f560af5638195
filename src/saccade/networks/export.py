"""Export to ONNX, believed only after the exported file gave the same scores."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.engine.files import atomic_path
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.network import Network


def export_onnx(network: Network, path: str | Path, *, size: int | None = None, tolerance: float = 1e-3) -> float:
    """Write `network` (normalisation included) as ONNX, run the file on random pictures and compare.

    The file takes pictures (N, 3, size, size) in [0, 1] for any N and gives logits (N, C). size: side of the pictures,
    by default that of the network. Returns the largest difference of a logit relative to the largest logit.
    Raises `SaccadeError` if the extra `export` is not installed or the difference exceeds `tolerance`; then no file
    is left.
    """
    side = size or network.input_size or 64
    pictures = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    device = next(network.parameters()).device
    with exported(network, pictures[:2], path, output="logits", free={0: torch.export.Dim("n")}) as run:
        expected = network(pictures.to(device)).cpu()
        difference = float((run(pictures) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not difference <= tolerance:
            raise SaccadeError(
                f"Exporting {network.name}: the ONNX file differs from the network by {difference:.2g} of the largest "
                f"logit, more than {tolerance:g}; no file was written."
            )
    return difference


@contextmanager
def exported(
    module: nn.Module, example: Tensor, path: str | Path, *, output: str, free: Mapping[int, Any]
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Write a module of pictures as ONNX and give a function that runs the file; an error inside leaves no file.

    example: pictures to trace with. output: what it gives. free: the axes of the pictures that may have other lengths.
    Raises `SaccadeError` if the extra `export` is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise SaccadeError(
            "Exporting needs onnx, onnxscript and onnxruntime: `pip install saccade[export]`."
        ) from error
    device = next(module.parameters()).device
    with evaluating(module), atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns, and logs, about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module,
            (example.to(device),),
            str(temporary),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["pictures"],
            output_names=[output],
            dynamic_shapes=(dict(free),),
        )
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        yield lambda pictures: torch.from_numpy(session.run([output], {"pictures": pictures.numpy()})[0])
