"""The zoo: networks with weights, by name. Where they are, where they come from, what they are worth.

A name is looked for among the networks that ship inside the package, then in the cache and the archives (see
`saccade.engine.fetch`), and the networks of ImageNet at last at their official address.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from saccade.engine import fetch
from saccade.errors import SaccadeError
from saccade.networks.network import IMAGENET_MEAN, IMAGENET_STD, Network
from saccade.networks.registry import build, unknown
from saccade.networks.weights import count_classes, fill, read_state

SHIPPED = Path(__file__).parent / "weights"
"""The folder of the networks inside the package: `<name>.safetensors` and its card `<name>.md`."""

SUFFIXES = {".safetensors", ".pth", ".pt", ".th", ".bin"}


@dataclass(frozen=True)
class Official:
    """Weights that torchvision publishes: the architecture has the same name."""

    file: str  # holds the first 8 digits of its SHA-256
    top1: float  # per cent on the validation set of ImageNet, as published
    parameters: int
    megabytes: float

    @property
    def url(self) -> str:
        """The official address."""
        return f"https://download.pytorch.org/models/{self.file}"

    @property
    def sha256(self) -> str:
        """The first 8 digits of the file's SHA-256."""
        return self.file.removesuffix(".pth").rpartition("-")[2]


OFFICIAL: dict[str, Official] = {
    "squeezenet1_0": Official("squeezenet1_0-b66bff10.pth", 58.092, 1_248_424, 5.0),
    "squeezenet1_1": Official("squeezenet1_1-b8a52dc0.pth", 58.178, 1_235_496, 5.0),
    "vgg16": Official("vgg16-397923af.pth", 71.592, 138_357_544, 553.4),
    "vgg19": Official("vgg19-dcbb9e9d.pth", 72.376, 143_667_240, 574.7),
    "vgg16_bn": Official("vgg16_bn-6c64b313.pth", 73.360, 138_365_992, 553.5),
    "vgg19_bn": Official("vgg19_bn-c79401a0.pth", 74.218, 143_678_248, 574.8),
    "resnet18": Official("resnet18-f37072fd.pth", 69.758, 11_689_512, 46.8),
    "resnet34": Official("resnet34-b627a593.pth", 73.314, 21_797_672, 87.3),
    "resnet50": Official("resnet50-0676ba61.pth", 76.130, 25_557_032, 102.5),
    "resnet101": Official("resnet101-63fe2227.pth", 77.374, 44_549_160, 178.8),
}


ENCODERS: dict[str, str] = {"vgg19_thin16x": "Collaborative Distillation (arXiv:2003.08436), MIT"}
"""Encoders whose weights are used where a plain `<name>.safetensors` lies in the cache or the archives: name to source.
They take pictures in [0, 1] as they are."""


@dataclass(frozen=True)
class Row:
    """One line of the catalogue; `found` is None for what would have to be downloaded from `url`.

    `card` is a text about the network, which lies beside its file as `<name>.md`.
    """

    name: str
    architecture: str
    source: str
    accuracy: str
    licence: str
    parameters: int
    megabytes: float
    input_size: int | None
    classes: int
    found: Path | None
    url: str | None
    card: Path | None = None


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names of ILSVRC 2012 in the order of its indices."""
    return tuple((Path(__file__).parent / "imagenet.txt").read_text(encoding="utf-8").splitlines())


def load(
    source: str | Path,
    *,
    architecture: str | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | None = None,
    progress: fetch.Progress | None = None,
    **keywords: Any,
) -> Network:
    """A network with its weights, in evaluation mode, in float32, on the CPU.

    `load("tinynet")`, `load("resnet18")`: by a name that `catalogue` lists.
    `load("runs/7/best.safetensors")`: a file that `Network.save` wrote; it says all there is to know.
    `load("theirs.pth", architecture="resnet18")`: weights alone, of a known architecture. Prefixes that
    DataParallel or torch.compile added to the names are removed; there are as many classes as in the weights.

    Args:
        source: a name, or the path of a file.
        architecture: for weights alone, a name of `saccade.networks.ARCHITECTURES`.
        classes, mean, std, input_size: for weights alone, what `Network` takes. For the architectures of
            ImageNet they default to its constants (the class names if there are 1000 of them).
        progress: called during a download with (bytes so far, bytes in all).
        keywords: for weights alone, further keywords of the architecture.

    Raises:
        SaccadeError: there is no such network or file, or it is damaged, or does not fit the architecture.
    """
    settings = {"classes": classes, "mean": mean, "std": std, "input_size": input_size}
    given = {key: value for key, value in {**settings, **keywords}.items() if value is not None}
    if _is_path(source):
        path = Path(source).expanduser()
        if architecture is not None:
            return _from_weights(path, architecture, name=path.stem, **given)
        if given:
            raise SaccadeError(f"Loading {path}: {', '.join(given)} can only be given along with architecture=.")
        if path.is_file() and path.suffix != ".safetensors":
            raise SaccadeError(
                f"Loading {path}: such a file does not describe its network; say which architecture the "
                "weights belong to, as in saccade.load(path, architecture='resnet18')."
            )
        return Network.load(path)
    name = str(source)
    if architecture or given:
        extra = ", ".join([*given, *(["architecture"] if architecture else [])])
        raise SaccadeError(f"Loading {name} by its name: {extra} can only be given with the path of a file.")
    path = _find(name, progress)
    if _description(path):
        return Network.load(path)
    if name in ENCODERS:
        plain: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": 256}
        return _from_weights(path, name, name=name, meta={"source": ENCODERS[name]}, **plain)
    meta = _official_meta(name, path)
    return _from_weights(path, name, name=name, meta=meta)


def catalogue() -> list[Row]:
    """What there is, by name: what ships, what lies in the cache or the archives, what can be fetched."""
    files = [*sorted(SHIPPED.glob("*.safetensors"))]
    for folder in [fetch.cache_folder(), *fetch.archive_folders()]:
        files += sorted(folder.glob("*.safetensors"))
    rows: dict[str, Row] = {}
    for path in files:
        description = _description(path)
        if description is not None and path.stem not in rows:
            rows[path.stem] = _described_row(path, description)
    for name in OFFICIAL:
        rows.setdefault(name, _official_row(name))
    return list(rows.values())


def _find(name: str, progress: fetch.Progress | None) -> Path:
    """The file of a named network: shipped, else cached, else in an archive, else downloaded."""
    shipped = SHIPPED / f"{name}.safetensors"
    if shipped.is_file():
        return shipped
    official = OFFICIAL.get(name)
    if official is not None:
        names = [official.file, f"{name}.safetensors"]
        return fetch.locate(names, url=official.url, sha256=official.sha256, progress=progress)
    found = fetch.find(f"{name}.safetensors")
    if found is None or not (_description(found) or name in ENCODERS):
        raise unknown("network", name, [row.name for row in catalogue()])
    return found


def _from_weights(
    path: Path,
    architecture: str,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | None = None,
    meta: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Network:
    """A network of weights alone."""
    if architecture not in OFFICIAL and (mean is None or std is None):
        raise SaccadeError(
            f"Loading {path}: {architecture} has no usual normalisation; give the mean= and std= it was "
            "trained with, three numbers each for pictures in [0, 1]."
        )
    state = read_state(path)
    if "num_classes" not in keywords:
        with torch.device("meta"):  # only to know the name of the last parameter
            number = count_classes(build(architecture, **keywords), state)
        keywords |= {"num_classes": number} if number is not None else {}
    module = build(architecture, **keywords)
    fill(module, state, origin=str(path))
    if classes is None and architecture in OFFICIAL and keywords.get("num_classes") == 1000:
        classes = imagenet_classes()
    network = Network(
        module,
        mean=mean or IMAGENET_MEAN,
        std=std or IMAGENET_STD,
        classes=classes,
        input_size=input_size or (224 if architecture in OFFICIAL else None),
        name=name,
        architecture=(architecture, keywords),
        meta=meta,
    )
    return network.eval()


def _is_path(source: str | Path) -> bool:
    """Whether `source` means a file: a Path, or a string with a folder or the suffix of a weight file."""
    return isinstance(source, Path) or len(Path(source).parts) > 1 or Path(source).suffix in SUFFIXES


def _description(path: Path) -> dict[str, Any] | None:
    """What `Network.save` wrote into the header of `path`; None if nothing, or if it is no such file."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("saccade")
    except (SafetensorError, OSError):
        return None
    return dict(json.loads(header)) if header else None


def _described_row(path: Path, description: Mapping[str, Any]) -> Row:
    name, keywords = description["architecture"]["name"], description["architecture"]["keywords"]
    with torch.device("meta"):
        module = build(name, **keywords)
    meta = description["meta"]
    return Row(
        name=path.stem,
        architecture=name,
        source=str(meta.get("source", "trained with Saccade")),
        accuracy=_accuracy(meta),
        licence=str(meta.get("licence", "MIT" if path.parent == SHIPPED else "not stated")),
        parameters=sum(p.numel() for p in module.parameters()),
        megabytes=path.stat().st_size / 1e6,
        input_size=description["input_size"],
        classes=len(description["classes"] or []) or list(module.parameters())[-1].shape[0],
        found=path,
        url=None,
        card=card if (card := path.with_suffix(".md")).is_file() else None,
    )


def _accuracy(meta: Mapping[str, Any]) -> str:
    """What a network's description says of its accuracy: in words, or as the figures of a finished run."""
    test = meta.get("metrics", {}).get("test", {})
    if "accuracy" in meta or "accuracy" not in test:
        return str(meta.get("accuracy", "not stated"))
    return f"{test['accuracy']:.1%} top-1, {meta.get('recipe', {}).get('data', 'its own')} test".replace("%", " %")


def _official_row(name: str) -> Row:
    official = OFFICIAL[name]
    found = fetch.find([official.file, f"{name}.safetensors"])
    meta = _official_meta(name, found)
    return Row(
        name=name,
        architecture=name,
        source=meta["source"],
        accuracy=meta["accuracy"],
        licence=meta["licence"],
        parameters=official.parameters,
        megabytes=found.stat().st_size / 1e6 if found else official.megabytes,
        input_size=224,
        classes=1000,
        found=found,
        url=official.url,
    )


def _official_meta(name: str, path: Path | None) -> dict[str, str]:
    """Source, accuracy and licence, which are only known of the official file itself."""
    official = OFFICIAL[name]
    if path is not None and path.name != official.file:
        return {"source": f"file {path.name}", "accuracy": "not stated", "licence": "not stated"}
    return {
        "source": official.url,
        "accuracy": f"{official.top1:.1f} % top-1, ImageNet validation, as published",
        "licence": "BSD-3-Clause (torchvision)",
    }
