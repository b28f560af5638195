"""`FastStyle`: a transformation network with the names of its styles, in one object and one file."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from saccade.engine.files import write_bytes
from saccade.errors import SaccadeError
from saccade.networks.network import read_weights
from saccade.networks.weights import read_state
from saccade.style.fast.transformer import TransformationNet

SHIPPED = Path(__file__).parent / "weights"
"""The folder of the style networks inside the package: `<name>.safetensors` and its card `<name>.md`."""

Style = int | str | Sequence[float] | None
"""A style by number or name, or the share of each; None: the first."""


class FastStyle(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1], of any size -> pictures of that size in a style.

    styles: a name for each style of the network. architecture: the keywords of `TransformationNet`. meta: whatever is
    known (recipe, backbone, licence).
    """

    def __init__(
        self,
        *,
        styles: Sequence[str] = ("style",),
        name: str = "fast",
        architecture: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = {**(architecture or {}), "styles": len(styles)}
        self.net = TransformationNet(**self.architecture)
        self.styles, self.name, self.meta = tuple(styles), name, dict(meta or {})

    def forward(self, pictures: Float[Tensor, "n 3 h w"], style: Style = None) -> Float[Tensor, "n 3 h w"]:
        shares = self.shares(style).to(pictures)
        restyled: Tensor = self.net(
            pictures, shares.expand(pictures.shape[0], -1)
        )  # an export takes len() for a constant
        return restyled

    def shares(self, style: Style = None) -> Float[Tensor, " s"]:
        """The share of each style, in float32 and of sum 1. Raises `SaccadeError` if the style is not there."""
        count = len(self.styles)
        if style is None or isinstance(style, int | str):
            number = self.styles.index(style) if isinstance(style, str) and style in self.styles else style or 0
            if not isinstance(number, int) or not 0 <= number < count:
                raise SaccadeError(f"{self.name} has no style {style!r}; it has {', '.join(self.styles)}.")
            return torch.eye(count)[number]
        shares = torch.tensor(list(style), dtype=torch.float32)
        if shares.shape != (count,) or not torch.isfinite(shares).all() or not float(shares.sum()) > 0:
            raise SaccadeError(
                f"{self.name}: the shares are {list(style)}, expected {count} numbers ({', '.join(self.styles)}"
                ") whose sum is above 0."
            )
        return shares / shares.sum()

    def save(self, path: str | Path, *, half: bool = False, meta: Mapping[str, Any] | None = None) -> None:
        """Write weights and description to one safetensors file, atomically.

        half: store weights in 16 bits. meta: added to the network's own.
        """
        dtype = torch.float16 if half else torch.float32
        state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in self.net.state_dict().items()}
        versions = {"saccade": version("saccade"), "torch": torch.__version__}
        description = {
            "format": 1,
            "kind": "fast-style",
            "name": self.name,
            "styles": self.styles,
            "architecture": self.architecture,
            "meta": {**self.meta, **(meta or {}), "versions": versions},
        }
        write_bytes(path, save(state, metadata={"saccade": json.dumps(description)}))


def load_fast(source: str | Path) -> FastStyle:
    """A style network by the name of one that ships, or from a file; in evaluation mode, float32, on the CPU.

    Files are those of `FastStyle.save` (.safetensors) and of PyTorch's example fast_neural_style (.pth, .model): one
    style, of widths and blocks as its weights say, which sees and gives bytes.

    Raises:
        SaccadeError: there is no such network, or its file is damaged or another thing.
    """
    shipped = shipped_styles()
    path = shipped.get(str(source)) or Path(source).expanduser()
    if not path.is_file():
        raise SaccadeError(
            f"There is no style network {str(source)!r}: neither a file nor one of those that ship "
            f"({', '.join(shipped) or 'none in this version'})."
        )
    if path.suffix != ".safetensors":
        return _official(path)
    description, state = read_weights(path)
    if description is None or description.get("kind") != "fast-style":
        raise SaccadeError(f"{path} holds no style network; train_fast makes one.")
    try:
        network = FastStyle(
            styles=description["styles"],
            name=description["name"],
            architecture=description["architecture"],
            meta=description["meta"],
        )
        network.net.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise SaccadeError(f"{path} is no whole style network ({str(error).splitlines()[0]}).") from error
    return network.eval()


def shipped_styles() -> dict[str, Path]:
    """The style networks inside the package: name to file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def _official(path: Path) -> FastStyle:
    """Weights in the layout of PyTorch's example; running means, which instance norm never used, are left out."""
    state = {key: value for key, value in read_state(path).items() if "running_" not in key}
    try:
        widths = [len(state[f"conv{i}.conv2d.weight"]) for i in (1, 2, 3)]
        kernel = state["conv1.conv2d.weight"].shape[-1]
        blocks = sum(key.startswith("res") and key.endswith("conv1.conv2d.weight") for key in state)
        architecture = {"widths": widths, "blocks": blocks, "kernel": kernel, "values": "bytes"}
        network = FastStyle(styles=(path.stem,), name=path.stem, architecture=architecture)
        norm = {key: value[None] for key, value in state.items() if ".conv2d." not in key}
        network.net.load_state_dict({**state, **norm})
    except (KeyError, RuntimeError) as error:
        raise SaccadeError(
            f"{path} is not in the layout of PyTorch's fast_neural_style ({str(error).splitlines()[0]}); expected "
            "conv1.conv2d.weight, in1.weight, res1.conv1.conv2d.weight and so on."
        ) from error
    return network.eval()
