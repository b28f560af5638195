"""Export to ONNX, believed only after the exported file gave the same scores."""

import logging
import warnings
from pathlib import Path

import torch

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
    try:
        import onnxruntime
    except ImportError as error:
        raise SaccadeError(
            "Exporting needs onnx, onnxscript and onnxruntime: `pip install saccade[export]`."
        ) from error
    side = size or network.input_size or 64
    pictures = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    device = next(network.parameters()).device
    with evaluating(network), atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns, and logs, about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            network,
            (pictures[:2].to(device),),
            str(temporary),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        (found,) = session.run(["logits"], {"pictures": pictures.numpy()})
        expected = network(pictures.to(device)).cpu()
        difference = float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not difference <= tolerance:
            raise SaccadeError(
                f"Exporting {network.name}: the ONNX file differs from the network by {difference:.2g} of the largest "
                f"logit, more than {tolerance:g}; no file was written."
            )
    return difference
