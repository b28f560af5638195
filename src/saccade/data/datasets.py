"""The data sets this library knows by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from saccade.data import cifar, folders, tiny_imagenet
from saccade.data.cache import Labelling

Fill = Callable[..., Labelling]


@dataclass(frozen=True)
class DataSet:
    """A row of `DATASETS`.

    files: the names its archive may have, best first (a folder counts too). sha256: of what `url` holds.
    megabytes: of the download. size: the side of its pictures. classes, train, test: how many. val: how many
    of the training pictures are held out unless `load` is told otherwise.
    """

    name: str
    kind: Literal["archive", "generated"]
    description: str
    licence: str
    size: int
    classes: int
    train: int
    test: int
    val: int
    files: tuple[str, ...] = ()
    url: str | None = None
    sha256: str | None = None
    megabytes: float = 0.0
    fill: Fill | None = None


_TORONTO = "https://www.cs.toronto.edu/~kriz"

_ROWS = [
    DataSet(
        "cifar10",
        "archive",
        "60,000 small colour photographs in 10 classes (Krizhevsky 2009)",
        "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        size=32,
        classes=10,
        train=50_000,
        test=10_000,
        val=5_000,
        files=(
            "cifar-10-python.tar.gz",
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-py",
            "cifar-10-batches-bin",
        ),
        url=f"{_TORONTO}/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        megabytes=170.5,
        fill=partial(cifar.fill, classes=10),
    ),
    DataSet(
        "cifar100",
        "archive",
        "60,000 small colour photographs in 100 classes (Krizhevsky 2009)",
        "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        size=32,
        classes=100,
        train=50_000,
        test=10_000,
        val=5_000,
        files=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz", "cifar-100-python", "cifar-100-binary"),
        url=f"{_TORONTO}/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        megabytes=169.0,
        fill=partial(cifar.fill, classes=100),
    ),
    DataSet(
        "cifar10-jpeg",
        "archive",
        "a JPEG re-compression of CIFAR-10 as class folders; figures are not comparable with CIFAR-10",
        "as CIFAR-10",
        size=32,
        classes=10,
        train=50_000,
        test=10_000,
        val=5_000,
        files=("cifar10_jpg.tar.xz",),
        fill=folders.fill,
    ),
    DataSet(
        "tiny-imagenet",
        "archive",
        "110,000 photographs of 64 x 64 in 200 classes of ImageNet (Le and Yang 2015); test is the official "
        "validation set",
        "as ImageNet: research and teaching only",
        size=64,
        classes=200,
        train=100_000,
        test=10_000,
        val=5_000,
        files=(
            "tiny-imagenet-200.zip",
            "tiny-imagenet-200.tar.xz",
            "tiny-imagenet-200.tar.gz",
            "tiny-imagenet-200.tar",
            "tiny-imagenet-200",
        ),
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        megabytes=248.1,
        fill=tiny_imagenet.fill,
    ),
    DataSet(
        "scenes",
        "generated",
        "coloured, textured shapes on textured backgrounds, drawn by this library; the class is the shape of "
        "the main one",
        "MIT, as this library",
        size=32,
        classes=10,
        train=20_000,
        test=2_000,
        val=2_000,
    ),
]
DATASETS: dict[str, DataSet] = {row.name: row for row in _ROWS}
"""The data sets known by name."""
