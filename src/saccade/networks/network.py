"""`Network`: any module that maps pictures to class scores, with all that is needed to use it."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from saccade.engine.files import write_bytes
from saccade.errors import SaccadeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """A classifier of pictures: a module, its normalisation, its class names and its usual picture size.

    Takes pictures (N, 3, H, W) in [0, 1], sRGB, and gives logits (N, C). The normalisation is done inside, so that
    every distance measured on its input is in pixel units. `module` may come from anywhere.

    architecture: (name, keywords) with which `saccade.networks.build` makes the same module; needed for `save`.
    meta: whatever is known of the network (recipe, metrics, source, licence).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        classes: Sequence[str] | None = None,
        input_size: int | None = None,
        name: str = "network",
        architecture: tuple[str, Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            given = f"mean {tuple(mean)} and std {tuple(std)}"
            raise SaccadeError(f"Network {name}: got {given}; three numbers each are expected, std above zero.")
        self.module = module
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.classes = tuple(classes) if classes is not None else None
        self.input_size = input_size
        self.name = name
        self.architecture = architecture
        self.meta = dict(meta or {})

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        # A row of constants instead of one number a channel: broadcasting along whole rows is five times as fast.
        row = (1, 3, 1, pictures.shape[-1])
        mean, std = (v.expand(row).contiguous(memory_format=torch.channels_last) for v in (self.mean, self.std))
        logits: Tensor = self.module((pictures - mean) / std)
        return logits

    @property
    def layers(self) -> dict[str, nn.Module]:
        """Every layer by its dotted name, as in `module.named_modules()`."""
        return {name: layer for name, layer in self.module.named_modules() if name}

    def layer(self, name: str) -> nn.Module:
        """The layer called `name`; raises `SaccadeError` with the names there are."""
        if name not in self.layers:
            raise SaccadeError(f"{self.name} has no layer {name!r}; its layers are {', '.join(self.layers)}.")
        return self.layers[name]

    def class_index(self, target: int | str) -> int:
        """The index of a class given as index or name (case and underscores do not matter, a part will do if only
        one class has it)."""
        count = len(self.classes) if self.classes is not None else None
        if isinstance(target, str) and self.classes is not None and self.classes.count(target) == 1:
            return self.classes.index(target)  # first, as a class may be called "3"
        if isinstance(target, int) or re.fullmatch(r"-?\d+", target):
            index = int(target)
            if index < 0 or (count is not None and index >= count):
                raise SaccadeError(f"{self.name} has no class {index}; it has {count or 'some'}, counted from 0.")
            return index
        if self.classes is None:
            raise SaccadeError(f"{self.name} has no class names; give a class as a number instead of {target!r}.")
        wanted = _plain(target)
        names = [_plain(name) for name in self.classes]
        hits = [i for i, name in enumerate(names) if name == wanted or wanted in name.split(", ")]
        hits = hits or [i for i, name in enumerate(names) if wanted in name]
        if len(hits) == 1:
            return hits[0]
        if not hits:
            raise SaccadeError(f"{self.name} has no class named {target!r}; `saccade models --classes` lists them.")
        some = ", ".join(repr(self.classes[i]) for i in hits[:8])
        raise SaccadeError(f"{target!r} may be any of {len(hits)} classes of {self.name}: {some}. Give the whole name.")

    def class_name(self, index: int) -> str:
        """The name of class `index`, or the number where there are no names."""
        return self.classes[index] if self.classes is not None else str(index)

    def save(self, path: str | Path, *, half: bool = False, meta: Mapping[str, Any] | None = None) -> None:
        """Write weights and description to one safetensors file, atomically.

        half: store floating-point weights in 16 bits. meta: added to the network's own (recipe, metrics, ...).
        Raises `SaccadeError` if the architecture is not one that `saccade.networks.build` knows.
        """
        if self.architecture is None:
            raise SaccadeError(
                f"Saving {self.name}: its module was not made by saccade.networks.build, so a file "
                "could not be loaded again; save module.state_dict() instead."
            )
        state = {
            key: value.detach()
            .to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype)
            .contiguous()
            for key, value in self.module.state_dict().items()
        }
        name, keywords = self.architecture
        description = {
            "format": 1,
            "name": self.name,
            "architecture": {"name": name, "keywords": dict(keywords)},
            "mean": [float(f"{v:.9g}") for v in self.mean.flatten().tolist()],  # 9 digits hold a float32
            "std": [float(f"{v:.9g}") for v in self.std.flatten().tolist()],
            "classes": self.classes,
            "input_size": self.input_size,
            "meta": {
                **self.meta,
                **(meta or {}),
                "versions": {"saccade": version("saccade"), "torch": torch.__version__},
            },
        }
        write_bytes(path, save(state, metadata={"saccade": json.dumps(description)}))

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        """Read a file that `save` wrote; the network comes in evaluation mode, in float32."""
        from saccade.networks.registry import build

        description, state = read_weights(path)
        if description is not None and not _is_whole(description):
            raise SaccadeError(f"{path} describes its network incompletely; it may be damaged or of another version.")
        if description is None:
            raise SaccadeError(
                f"{path} holds weights but no description of their network; say which architecture "
                "they belong to, as in saccade.load(path, architecture='resnet18')."
            )
        module = build(description["architecture"]["name"], **description["architecture"]["keywords"])
        try:
            module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise SaccadeError(
                f"{path} does not fit its own architecture ({description['architecture']['name']}): {first}"
            ) from error
        network = cls(
            module,
            mean=description["mean"],
            std=description["std"],
            classes=description["classes"],
            input_size=description["input_size"],
            name=description["name"],
            architecture=(description["architecture"]["name"], description["architecture"]["keywords"]),
            meta=description["meta"],
        )
        return network.eval()


def read_weights(path: str | Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The description (None for a plain file) and the tensors of a safetensors file.

    Raises `SaccadeError` if the file is missing, cut short or no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise SaccadeError(f"There is no weight file {path}; `saccade models` lists the networks there are.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("saccade")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        return (json.loads(header) if header else None), state
    except (SafetensorError, OSError, ValueError) as error:
        raise SaccadeError(f"{path} is no whole safetensors file ({error}); copy or download it again.") from error


def _is_whole(description: Any) -> bool:
    """Whether a file's description has all that `Network.load` reads."""
    wanted = {"name", "architecture", "mean", "std", "classes", "input_size", "meta"}
    return (
        isinstance(description, dict)
        and description.keys() >= wanted
        and isinstance(description["architecture"], dict)
        and description["architecture"].keys() >= {"name", "keywords"}
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()
