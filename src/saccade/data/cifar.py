"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official python or binary archive or a folder of its
files."""

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.data.archives import Progress, members
from saccade.data.cache import Labelling, Writer
from saccade.data.decode import fit_image
from saccade.errors import SaccadeError

T = TypeVar("T")
_TRAIN = {
    10: {f"data_batch_{k}{end}" for k in range(1, 6) for end in ("", ".bin")},
    100: {"train", "train.bin"},
}
_TEST = {10: {"test_batch", "test_batch.bin"}, 100: {"test", "test.bin"}}
_NAMES = {10: ("batches.meta", "batches.meta.txt"), 100: ("meta", "fine_label_names.txt")}
_LABELS = {10: b"labels", 100: b"fine_labels"}


def fill(source: Path, writer: Writer, *, classes: int, progress: Progress | None = None) -> Labelling:
    """Read CIFAR-10 (`classes=10`) or CIFAR-100 (`classes=100`, fine labels), in the official order.

    Raises:
        SaccadeError: files are missing or damaged, or a pickle asks for more than arrays and plain values.
    """
    batches: dict[str, bytes] = {}
    wanted = _TRAIN[classes] | _TEST[classes] | set(_NAMES[classes])
    for name, content in members(source, wanted=lambda name: PurePosixPath(name).name in wanted, progress=progress):
        batches[PurePosixPath(name).name] = content
    class_names = _class_names(source, batches, classes)
    for part, files in (("train", _TRAIN[classes]), ("test", _TEST[classes])):
        found = sorted(files & batches.keys())
        if len(found) != (5 if part == "train" and classes == 10 else 1):
            raise SaccadeError(f"Reading CIFAR-{classes} from {source}: files of its {part} part are missing.")
        for name in found:
            labels, pictures = _intact(source, name, partial(_batch, batches[name], classes, name=name))
            writer.add_pixels(part, [class_names[label] for label in labels], _resize(pictures, writer))
    return Labelling(class_names, {name: number for number, name in enumerate(class_names)})


def _class_names(source: Path, batches: dict[str, bytes], classes: int) -> list[str]:
    pickled, text = _NAMES[classes]
    if text in batches:
        found = batches[text].decode("ascii", errors="replace").split()
    elif pickled in batches:
        key = b"label_names" if classes == 10 else b"fine_label_names"
        listed = _intact(source, pickled, lambda: load_plain(batches[pickled])[key])
        found = [name.decode("ascii", errors="replace") for name in listed]
    else:
        raise SaccadeError(f"Reading CIFAR-{classes} from {source}: the class names ({pickled} or {text}) are missing.")
    if len(found) != classes:
        raise SaccadeError(f"Reading CIFAR-{classes} from {source}: it names {len(found)} classes.")
    return found


def _intact(source: Path, name: str, parse: Callable[[], T]) -> T:
    """The result of `parse`, or one sentence about the file it could not parse."""
    try:
        return parse()
    except (pickle.UnpicklingError, ValueError, LookupError, EOFError, TypeError, AttributeError) as error:
        raise SaccadeError(f"Reading {source}: {name} in it is damaged ({error}).") from error


def _batch(content: bytes, classes: int, *, name: str) -> tuple[list[int], NDArray[np.uint8]]:
    """Labels and pictures (N, 32, 32, 3) of one file."""
    if name.endswith(".bin"):  # rows of: coarse label (CIFAR-100 only), label, 1024 red, 1024 green, 1024 blue
        first = 1 if classes == 10 else 2
        rows = np.frombuffer(content, np.uint8).reshape(-1, first + 3072)
        labels, flat = rows[:, first - 1].astype(int).tolist(), rows[:, first:]
    else:
        entries = load_plain(content)
        labels, flat = [int(label) for label in entries[_LABELS[classes]]], entries[b"data"]
    pictures = np.asarray(flat, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if len(pictures) != len(labels):
        raise ValueError(f"{len(pictures)} pictures, {len(labels)} labels")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise ValueError(f"a label outside 0 to {classes - 1}")
    return labels, np.ascontiguousarray(pictures)


def _resize(pictures: NDArray[np.uint8], writer: Writer) -> NDArray[np.uint8]:
    if writer.size == 32:
        return pictures
    images = (Image.fromarray(picture) for picture in pictures)
    return np.stack([np.asarray(fit_image(image, writer.size, writer.fit)) for image in images])


def load_plain(content: bytes) -> Any:
    """Unpickle arrays and plain values, and nothing else; Python 2's strings become bytes.

    Raises:
        pickle.UnpicklingError: the pickle names anything but the parts of a numpy array.
    """
    return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()


class _PlainUnpickler(pickle.Unpickler):
    """Admits the few names that arrays of whole numbers need, old and new; a pickle can then run no code."""

    _ADMITTED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how Python 3 writes bytes in protocols that have none
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        if name == "_reconstruct":
            return np.ndarray.__reduce__(np.zeros(0))[0]  # under its present name, whatever numpy calls it
        return super().find_class(module, name)
