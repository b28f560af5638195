"""What the benchmarks of style look at, and the plain side of them: PyTorch's tutorial's loop and its L-BFGS."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import saccade
from saccade.engine.fetch import archive_folders
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks import Network, build
from saccade.pictures import read, resize
from saccade.style import Preset
from saccade.style.eye import Eye
from saccade.style.statistics import Gram
from saccade.style.transfer import fitted

PRESET = Preset(content_weights=(1.0,), content_relative=True, style_weights=(1.0,) * 5, statistic=Gram(relative=True))


def network_of(name: str) -> Network:
    """A network by name; "tiny" has random weights and few channels."""
    if name != "tiny":
        return saccade.load(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings: dict[str, Any] = {"widths": (8, 8, 8, 8), "units": (1, 1, 1, 1)}
        return Network(build("tinynet", **settings), name="tiny", architecture=("tinynet", settings)).eval()


def picture_of(name: str, side: int) -> Tensor:
    """(1, 3, h, w) with the longer side given: a picture of the archive `art`, or generated."""
    if name in ("noise", "waves"):
        seed = generator(len(name), ord(name[0]))
        small = torch.rand(1, 3, 6, 8, generator=seed)
        return resize(small, (3 * side // 4, side)).clamp(0, 1)
    found = [folder / "art" / f"{name}.jpg" for folder in archive_folders()]
    file = next((path for path in found if path.is_file()), None)
    if file is None:
        raise SaccadeError(
            f"There is no picture art/{name}.jpg in the archives; name their folder in SACCADE_ARCHIVES."
        )
    picture = read(file)[None]
    return resize(picture, fitted((picture.shape[2], picture.shape[3]), side)).clamp(0, 1)


class Plain(nn.Module):
    """The network cut behind its last tap, its maps by forward hooks, and the targets, found without a graph."""

    def __init__(self, network: Network, content: Tensor, style: Tensor) -> None:
        super().__init__()
        layers = Eye(network, PRESET).layers  # names only
        self.content_taps, self.style_taps = layers.content, layers.style
        module = copy.deepcopy(network.module).requires_grad_(False)
        order = getattr(module, "order", None) or _order(module)
        last = max(
            place for place, name in enumerate(order) for tap in layers.style if f"{tap}.".startswith(f"{name}.")
        )
        self.trunk = nn.Sequential(*[module.get_submodule(name) for name in order[: last + 1]])
        self.register_buffer("mean", network.mean.clone())
        self.register_buffer("std", network.std.clone())
        self.maps: dict[str, Tensor] = {}
        for tap in {*self.content_taps, *self.style_taps}:
            module.get_submodule(tap).register_forward_hook(self._keep(tap))
        with torch.no_grad():
            self._run(content)
            self.content = [self.maps[tap].detach() for tap in self.content_taps]
            self._run(style)
            self.style = [_gram(self.maps[tap]).detach() for tap in self.style_taps]

    def forward(self, picture: Tensor) -> Tensor:
        self._run(picture)
        loss = picture.new_zeros(())
        for tap, target in zip(self.content_taps, self.content, strict=True):
            loss = loss + (self.maps[tap] - target).square().sum() / target.square().sum()
        for tap, target in zip(self.style_taps, self.style, strict=True):
            loss = loss + (_gram(self.maps[tap]) - target).square().sum() / target.square().sum()
        return loss

    def _run(self, picture: Tensor) -> None:
        self.trunk((picture - self.mean) / self.std)

    def _keep(self, tap: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG001 - PyTorch's signature
            self.maps[tap] = output

        return hook


def _order(module: nn.Module) -> list[str]:
    if isinstance(getattr(module, "features", None), nn.Sequential):
        return [f"features.{name}" for name, _ in module.features.named_children()]  # type: ignore[union-attr,operator]
    return [name for name, _ in module.named_children()]


def _gram(maps: Tensor) -> Tensor:
    _, channels, h, w = maps.shape
    flat = maps.view(channels, h * w)
    return flat @ flat.T / (channels * h * w)


@dataclass
class Trace:
    """Pictures on the way: after how many looks, after how many seconds; `seconds` so far."""

    seconds: float = 0.0
    points: list[tuple[int, float, Tensor]] = field(default_factory=list)

    def losses(self, judge: Callable[[Tensor], float]) -> list[tuple[int, float, float]]:
        """(looks, seconds, loss) of each."""
        return [(looks, seconds, judge(picture)) for looks, seconds, picture in self.points]


def descend_plainly(model: Plain, start: Tensor, looks: int, trace: Trace, *, wolfe: bool = False) -> Iterator[None]:
    """The plain loop; gives way after every call of the optimiser. Its time is that between."""
    picture = start.clone().requires_grad_()
    settings: dict[str, Any] = {"line_search_fn": "strong_wolfe"} if wolfe else {}
    optimizer = torch.optim.LBFGS([picture], **settings)
    count, begun = 0, time.process_time()

    def closure() -> Tensor:
        nonlocal count, begun
        if not wolfe:
            with torch.no_grad():
                picture.clamp_(0, 1)
        if count % 10 == 0 and count <= looks:
            now = time.process_time()
            trace.points.append((count, trace.seconds + now - begun, picture.detach().clamp(0, 1)))
            begun += time.process_time() - now
        optimizer.zero_grad()
        loss = model(picture)
        loss.backward()
        count += 1
        return loss  # type: ignore[no-any-return]

    while count < looks:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        trace.seconds += time.process_time() - begun
        if count >= looks:
            trace.points.append((count, trace.seconds, picture.detach().clamp(0, 1)))
        yield
        begun = time.process_time()
