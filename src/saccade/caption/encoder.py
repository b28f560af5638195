"""The eye of a captioner: a layer of a network, what its features look like, and a cache of them on disk."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.caption.pairs import CaptionSet
from saccade.engine.fetch import cache_folder
from saccade.engine.files import explain_os_error, write_text
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.activations import activations, last_spatial_layer
from saccade.networks.network import Network
from saccade.pictures import resize

Progress = Callable[[int, int], None]
BATCH = 32


@dataclass(frozen=True, eq=False)
class Encoder:
    """Pictures (N, 3, H, W) in [0, 1], any size -> features (N, C, h, w) of `layer`, seen at `size` x `size` pixels."""

    network: Network
    layer: str
    size: int

    @classmethod
    def of(cls, network: Network, *, layer: str | None = None, size: int | None = None) -> "Encoder":
        """The encoder of a network; by default its last layer that gives a map, at the size of its pictures."""
        size = size or network.input_size or 224
        if layer is None:
            with evaluating(network):
                layer = last_spatial_layer(network, torch.zeros(1, 3, size, size, device=network.mean.device))
        network.layer(layer)
        return cls(network, layer, size)

    def __call__(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c a b"]:
        if pictures.shape[2:] != (self.size, self.size):
            pictures = resize(pictures, (self.size, self.size)).clamp(0, 1)
        found = activations(self.network, pictures.contiguous(memory_format=torch.channels_last), [self.layer])
        return found[self.layer]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the features."""
        with evaluating(self.network):
            _, c, h, w = self(torch.zeros(1, 3, self.size, self.size, device=self.network.mean.device)).shape
        return c, h, w

    @property
    def key(self) -> str:
        """Names the function: a hash of architecture, weights, layer and size."""
        digest = hashlib.sha256(json.dumps([str(self.network.architecture), self.layer, self.size]).encode())
        for name, value in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def to_float(pictures: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Stored pictures as the networks take them."""
    return pictures.permute(0, 3, 1, 2).float().div(255)


def features_of(
    encoder: Encoder, data: CaptionSet, *, pooled: bool = False, keep: bool = True, progress: Progress | None = None
) -> Float[Tensor, "total ..."]:
    """The features of all pictures behind `data`, (total, C, h, w), or (total, C) if `pooled`; take `data.rows` of it.

    They are computed once, in float16, into a file of fixed size that is mapped into memory; a computation that was
    stopped goes on where it was. keep: False computes them in memory. Raises `SaccadeError` if the disk is full.
    """
    total = len(data.pictures)
    channels, h, w = encoder.shape
    shape = (total, channels) if pooled else (total, channels, h, w)
    if not keep:
        held = np.empty(shape, np.float16)
        _compute(encoder, data, held, 0, pooled, None, progress)
        return torch.from_numpy(held)
    name = f"{data.key}-{encoder.key}-{'pooled' if pooled else 'grid'}"
    folder = cache_folder() / "features" / name
    path, mark = folder / "features.f16", folder / "done.json"
    try:
        done = _opened(path, mark, shape)
        held = np.memmap(path, np.float16, "r+", shape=shape)
        if done < total:
            _compute(encoder, data, held, done, pooled, mark, progress)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return torch.from_numpy(held)


def _opened(path: Path, mark: Path, shape: tuple[int, ...]) -> int:
    """Make sure that the file is there in full length; how many pictures in it are done."""
    length = 2 * int(np.prod(shape))
    if path.is_file() and path.stat().st_size == length and mark.is_file():
        try:
            return int(json.loads(mark.read_text("utf-8"))["done"])
        except (ValueError, KeyError, TypeError):
            pass
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate") and length:
            os.posix_fallocate(file.fileno(), 0, length)  # a full disk is found out now, not by a crash later
        else:
            file.truncate(length)
    write_text(mark, json.dumps({"done": 0}))
    return 0


def _compute(
    encoder: Encoder,
    data: CaptionSet,
    held: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]",
    done: int,
    pooled: bool,
    mark: Path | None,
    progress: Progress | None,
) -> None:
    device = encoder.network.mean.device
    with evaluating(encoder.network):
        for number, first in enumerate(range(done, len(held), BATCH), 1):
            batch = slice(first, min(first + BATCH, len(held)))
            features = encoder(to_float(data.pictures[batch]).to(device))
            features = features.mean((2, 3)) if pooled else features
            if not torch.isfinite(features).all() or features.abs().max() > 65504:
                raise SaccadeError(
                    f"The features of {encoder.network.name}, layer {encoder.layer}, are not finite or do not fit into "
                    "16 bits; choose another layer."
                )
            held[batch] = features.cpu().numpy()
            last = batch.stop == len(held)
            if mark is not None and (number % 32 == 0 or last):
                held.flush()  # type: ignore[attr-defined]
                write_text(mark, json.dumps({"done": batch.stop}))
            if progress is not None:
                progress(batch.stop, len(held))
