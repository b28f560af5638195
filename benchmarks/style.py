"""python benchmarks/style.py [--entries descent memory large pyramid wolfe]

Style transfer by optimisation beside a plain loop, written as PyTorch's tutorial writes it: torch.optim.LBFGS as it
comes, the picture clamped in the closure, plain autograd in float32. Both minimise the same objective (relative content
loss + relative Gram losses of five layers, behind ReLUs) from the same start, the content; every picture that either
reaches is judged by one function in float32, outside of the time.

- descent: the time and the looks at the objective until ours is where the plain loop ends; both sides in turn in one
  process, twenty looks each;
- memory: what is kept for the way back and by the optimiser, and how much a fresh process grows;
- large: 4096 pixels in tiles, in a fresh process;
- pyramid: 1024 pixels, from small to large within the time of the plain loop;
- wolfe: the plain loop with a line search and no clamp.

SACCADE_ARCHIVES names the folder with `art/` and the networks. Times are seconds of the processor.
"""

import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, prepare, table
from torch import Tensor, nn

import saccade
from saccade.engine.fetch import archive_folders
from saccade.engine.guards import differentiable
from saccade.engine.precision import choose_precision
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks import Network, build
from saccade.pictures import read, resize
from saccade.pictures.optimise import LBFGS, Stage, optimise
from saccade.style import Preset, score, style_transfer
from saccade.style.eye import Eye
from saccade.style.objective import Objective
from saccade.style.statistics import Gram
from saccade.style.transfer import fitted

ENTRIES = ("descent", "memory", "large", "pyramid", "wolfe")
NETWORKS = ("vgg19_thin16x", "squeezenet1_0")
PAIRS = (
    ("tubingen", "starry_night"),
    ("tubingen", "the_scream"),
    ("golden_gate", "shipwreck"),
    ("golden_gate", "starry_night"),
)
PRESET = Preset(content_weights=(1.0,), content_relative=True, style_weights=(1.0,) * 5, statistic=Gram(relative=True))
STRIDE = 20


@dataclass(frozen=True)
class Settings:
    """How large everything is: pictures by their longer side in pixels, `looks` at the objective, `steps` of ours."""

    networks: tuple[str, ...] = NETWORKS
    pairs: tuple[tuple[str, str], ...] = PAIRS
    side: int = 384
    looks: int = 300
    memory: tuple[int, int] = (64, 768)
    large: int = 4096
    pyramid: tuple[int, int, int] = (1024, 256, 100)  # the side, the smallest side, looks of the plain loop


SMOKE = Settings(("tiny",), (("noise", "waves"),), 48, 40, (32, 48), 64, (64, 32, 20))


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


def halves() -> bool:
    """Whether this processor is faster in 16 bits."""
    return choose_precision(torch.device("cpu")).name == "bf16"


def descend(
    network: Network, content: Tensor, style: Tensor, looks: int, trace: Trace, between: Iterator[None]
) -> None:
    """Ours: the same objective; the last tenth in float32. `between` goes on in every pause."""
    begun = time.process_time()
    low = Objective(Eye(network, PRESET, dtype=torch.bfloat16 if halves() else None), content, [style])
    exact = Objective(Eye(network, PRESET), content, [style])
    size, finish = (content.shape[2], content.shape[3]), max(1, looks // 10)
    trace.points.append((0, 0.0, content.clone()))

    def told(moment: Any) -> None:
        nonlocal begun
        trace.seconds += time.process_time() - begun
        if moment.step % 10 == 0 and moment.step < looks:
            trace.points.append((moment.step, trace.seconds, moment.pictures))
        if moment.step % STRIDE == 0:
            with torch.enable_grad():
                next(between, None)
        begun = time.process_time()

    with differentiable(network):
        found = optimise(
            low,
            content,
            stages=[Stage(size, looks - finish, low), Stage(size, finish, exact)],
            rule=LBFGS(rate=0.02 * content[0].numel() ** 0.5, memory=20, low=0.0, high=1.0),
            callback=told,
        )
    trace.seconds += time.process_time() - begun
    trace.points.append((looks, trace.seconds, found))
    for _ in between:
        pass


def judge_of(network: Network, content: Tensor, style: Tensor) -> Callable[[Tensor], float]:
    """The loss of a picture in float32."""
    objective = Objective(Eye(network, PRESET), content, [style])

    def judge(picture: Tensor) -> float:
        with torch.no_grad():
            return -float(objective(picture))

    return judge


def crossing(points: Sequence[tuple[int, float, float]], loss: float) -> tuple[int, float] | None:
    """Looks and seconds at the first recorded picture whose loss is as low."""
    return next(((looks, seconds) for looks, seconds, at in points if at <= loss), None)


def best_by(points: Sequence[tuple[int, float, float]], seconds: float) -> float:
    """The lowest loss that was recorded in so many seconds."""
    return min(loss for _, at, loss in points if at <= seconds)


def descent(name: str, pair: tuple[str, str], settings: Settings, *, wolfe: bool = False) -> dict[str, Any]:
    """Both sides from the content, in turn."""
    network = network_of(name)
    content, style = (picture_of(each, settings.side) for each in pair)
    judge = judge_of(network, content, style)
    plain, ours = Trace(), Trace()
    model = Plain(network, content, style)
    before, same = float(model(content).detach()), judge(content)
    descend(
        network,
        content,
        style,
        settings.looks,
        ours,
        descend_plainly(model, content, settings.looks, plain, wolfe=wolfe),
    )
    curves = {"plain": plain.losses(judge), "ours": ours.losses(judge)}
    ends = {side: trace.points[-1][2] for side, trace in (("plain", plain), ("ours", ours))}
    exact = {
        side: float(score(end, content, [style], network=network, preset=PRESET).total) for side, end in ends.items()
    }
    final = curves["plain"][-1][2]
    reached = crossing(curves["ours"], final)
    shared = min(plain.seconds, ours.seconds)
    return {
        "start": same,
        "objectives apart": abs(before - same) / same,
        "final plain": final,
        "final ours": curves["ours"][-1][2],
        "final plain, float64": exact["plain"],
        "final ours, float64": exact["ours"],
        "seconds plain": curves["plain"][-1][1],
        "looks plain": curves["plain"][-1][0],
        "seconds ours": reached[1] if reached else None,
        "looks ours": reached[0] if reached else None,
        "ratio": curves["plain"][-1][1] / reached[1] if reached and reached[1] else None,
        "equal seconds": shared,
        "plain at equal seconds": best_by(curves["plain"], shared),
        "ours at equal seconds": best_by(curves["ours"], shared),
        "curves": curves,
    }


def pyramid(name: str, pair: tuple[str, str], settings: Settings) -> dict[str, Any]:
    """The plain loop at one size, then ours from small to large in the same time."""
    side, smallest, looks = settings.pyramid
    network = network_of(name)
    content, style = (picture_of(each, side) for each in pair)
    plain = Trace()
    for _ in descend_plainly(Plain(network, content, style), content, looks, plain):
        pass
    begun = time.process_time()
    stopped: list[int] = []

    def late(moment: Any) -> bool:
        stopped[:] = [moment.step, moment.steps]
        return time.process_time() - begun > plain.seconds

    found = style_transfer(
        content, style, network=network, preset=PRESET, steps=looks, smallest=smallest, tile=0, stop=late
    )
    seconds = time.process_time() - begun
    judge = judge_of(network, content, style)
    return {
        "start": judge(content),
        "final plain": judge(plain.points[-1][2]),
        "final ours": judge(found),
        "seconds plain": plain.seconds,
        "seconds ours": seconds,
        "looks plain": plain.points[-1][0],
        "steps done": stopped[0] + 1,
        "steps planned": stopped[1],
        "curve": plain.losses(judge),
    }


def kept(loss: Callable[[], Tensor], network: nn.Module) -> int:
    """Bytes that are saved for the way back, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    held: dict[int, tuple[Tensor, int]] = {}  # the tensors stay, so that no address is given twice

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()
        if place.data_ptr() not in weights:
            held[place.data_ptr()] = (tensor, place.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = loss()
    total = sum(size for _, size in held.values())
    del graph
    return total


def state_bytes(state: Any) -> int:
    """Bytes of all tensors in the state of an optimiser."""
    seen: dict[int, int] = {}

    def walk(one: Any) -> None:
        if isinstance(one, Tensor):
            seen[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        elif isinstance(one, Mapping):
            for each in one.values():
                walk(each)
        elif isinstance(one, list | tuple):
            for each in one:
                walk(each)

    walk(state)
    return sum(seen.values())


def optimiser_bytes() -> dict[str, float]:
    """Per pixel, when the history is full; it does not depend on the size."""
    side = 8
    target = torch.rand(1, 3, side, side, generator=generator(3))
    picture = torch.zeros_like(target).requires_grad_()
    optimizer = torch.optim.LBFGS([picture], max_iter=150, max_eval=1000, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        x = picture.flatten()
        loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()  # Rosenbrock's: it takes long
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    state: dict[str, Any] = {}
    rule = LBFGS(memory=10, low=0.0, high=1.0)
    for _ in range(3):
        rule(torch.zeros_like(target), torch.zeros(1), target, state)
    pixels = side * side
    full = len(next(iter(optimizer.state.values()))["old_dirs"])
    assert full == 100, full
    return {"plain": state_bytes(optimizer.state) / pixels, "ours": state_bytes(state) / pixels}


def memory(name: str, pair: tuple[str, str], settings: Settings) -> dict[str, Any]:
    """Bytes per pixel of both sides, and of ours in 16 bits."""
    network = network_of(name)
    content, style = (picture_of(each, settings.side) for each in pair)
    pixels = content.shape[2] * content.shape[3]
    model, picture = Plain(network, content, style), content.clone().requires_grad_()
    states = optimiser_bytes()
    found: dict[str, Any] = {"plain": kept(lambda: model(picture), model) / pixels}
    with differentiable(network):
        for side, dtype in (("ours", None), ("ours in 16 bits", torch.bfloat16)):
            objective = Objective(Eye(network, PRESET, dtype=dtype), content, [style])
            found[side] = kept(lambda objective=objective: objective(picture), network) / pixels  # type: ignore[misc]
    return {
        **{f"{side}, way back": value for side, value in found.items()},
        "plain, optimiser": states["plain"],
        "ours, optimiser": states["ours"],
        "ours in 16 bits, optimiser": states["ours"],
    }


def peak(side: str, name: str, pair: tuple[str, str], longer: int) -> dict[str, Any]:
    """The largest resident size of this process after a restyling with full histories."""
    network = network_of(name)
    content, style = (picture_of(each, longer) for each in pair)
    begun = time.process_time()
    if side == "plain":
        for _ in descend_plainly(Plain(network, content, style), content, 110, Trace()):
            pass
    elif side == "large":
        style_transfer(
            content, style, network=network, preset=PRESET, size=longer, smallest=longer // 2, optimiser="adam", steps=2
        )
    else:
        dtype = torch.bfloat16 if side == "ours in 16 bits" else None
        objective = Objective(Eye(network, PRESET, dtype=dtype), content, [style])
        with differentiable(network):
            optimise(objective, content, steps=15, rule=LBFGS(memory=10, low=0.0, high=1.0))
    return {
        "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,  # Linux counts in KiB
        "cpu seconds": time.process_time() - begun,
        "height": content.shape[2],
        "width": content.shape[3],
    }


def apart(*given: Any) -> dict[str, Any]:
    """`peak` in a fresh process of one thread; in this one for the tiny network."""
    if given[1] == "tiny":
        return peak(*given)
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(given)]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "minutes": (time.monotonic() - begun) / 60}


def growth(name: str, pair: tuple[str, str], sides: tuple[int, int]) -> dict[str, Any]:
    """How much larger a process gets with a large picture than with a small one."""
    found: dict[str, Any] = {}
    for side in ("plain", "ours", "ours in 16 bits"):
        small, great = (apart(side, name, pair, longer) for longer in sides)
        pixels = great["height"] * great["width"]
        found[side] = {"small": small, "great": great, "per pixel": (great["bytes"] - small["bytes"]) / pixels}
    return {side: found[side]["per pixel"] for side in found} | {"measured": found}


def measure(results: Results, settings: Settings, entries: Sequence[str]) -> None:
    """Measure what is missing of the entries."""
    first, pair = settings.networks[0], settings.pairs[0]

    def cell(key: str, make: Callable[[], dict[str, Any]], **used: Any) -> None:
        results.measure(key, used, make)

    for each in settings.pairs if "descent" in entries else ():
        for name in settings.networks:
            cell(
                f"descent/{name}/{'+'.join(each)}",
                lambda name=name, each=each: descent(name, each, settings),  # type: ignore[misc]
                side=settings.side,
                looks=settings.looks,
            )
    if "memory" in entries:
        for name in settings.networks:
            cell(f"memory/{name}", lambda name=name: memory(name, pair, settings), side=settings.side)  # type: ignore[misc]
        cell(f"growth/{first}", lambda: growth(first, pair, settings.memory), sides=settings.memory)
    if "large" in entries:
        cell(f"large/{first}", lambda: apart("large", first, pair, settings.large), side=settings.large)
    if "pyramid" in entries:
        cell(f"pyramid/{first}/{'+'.join(pair)}", lambda: pyramid(first, pair, settings), sizes=settings.pyramid)
    if "wolfe" in entries:
        cell(
            f"wolfe/{first}/{'+'.join(pair)}",
            lambda: descent(first, pair, settings, wolfe=True),
            side=settings.side,
            looks=settings.looks,
        )


def number(value: float | None, digits: int = 1) -> str:
    return "not reached" if value is None else f"{value:.{digits}f}"


def descents(results: Results, prefix: str) -> str:
    """A table of descents, and their ratios in a sentence."""
    rows, ratios = [], {}
    for key, cell in results.cells.items():
        if not key.startswith(prefix):
            continue
        _, name, pair = key.split("/")
        v = cell["values"]
        ratios.setdefault(name, []).append(v["ratio"])
        rows.append(
            [
                name,
                pair.replace("+", " + "),
                f"{v['start']:.3f}",
                f"{v['final plain']:.4f}",
                f"{v['looks plain']}, {v['seconds plain']:.1f}",
                f"{number(v['looks ours'], 0)}, {number(v['seconds ours'])}",
                number(v["ratio"], 2),
                f"{v['plain at equal seconds']:.4f} / {v['ours at equal seconds']:.4f} ({v['equal seconds']:.0f} s)",
                f"{v['final ours']:.4f}",
            ]
        )
    head = ["network", "content + style", "loss at the start", "loss of plain at its end", "its looks, s"]
    head += ["ours to that loss: looks, s", "plain by ours", "loss at equal time, plain / ours", "ours at its end"]
    lines = [table(head, rows), ""]
    for name, each in ratios.items():
        reached = sorted(ratio for ratio in each if ratio is not None)
        if reached:
            lines.append(
                f"- {name}: ours is there in 1/{statistics.median(reached):.2f} of the time (median; "
                f"{reached[0]:.2f} to {reached[-1]:.2f}; {len(reached)} of {len(each)} pairs got there)"
            )
        else:
            lines.append(f"- {name}: ours got there for none of {len(each)} pairs")
    return "\n".join(lines)


def page(results: Results) -> str:
    """What was measured so far."""
    parts = []
    cells = results.cells
    if results.find("descent/"):
        ends = results.find("descent/")
        off = max(abs(v[f"final {side}, float64"] / v[f"final {side}"] - 1) for v in ends for side in ("plain", "ours"))
        parts += [
            "## To the same loss",
            "Time is processor seconds; a look is one value with its gradient. Ours is `optimise` with L-BFGS in "
            "the box [0, 1] (memory 20), the network in 16 bits where that is faster, the last tenth of the looks in "
            "float32. Its time includes the targets, that of the plain loop does not. Losses are of recorded pictures, "
            "one every ten looks, so a crossing is known to ten looks.",
            descents(results, "descent/"),
            f"The two programs' objectives differ by {max(v['objectives apart'] for v in ends):.0e} of their value at "
            f"the start; the final losses by up to {off:.0e} from those that `score` finds in float64.",
        ]
    if results.find("wolfe/"):
        parts += [
            "## Beside a line search",
            'The plain loop with line_search_fn="strong_wolfe" and without the clamp; its pictures are clamped before '
            "they are judged.",
            descents(results, "wolfe/"),
        ]
    for key in (key for key in cells if key.startswith("pyramid/")):
        v, (side, smallest, _) = cells[key]["values"], cells[key]["settings"]["sizes"]
        rows = [
            ["plain", v["looks plain"], f"{v['seconds plain']:.0f}", f"{v['final plain']:.4f}"],
            [
                "ours",
                f"{v['steps done']} of {v['steps planned']}, at all sizes",
                f"{v['seconds ours']:.0f}",
                f"{v['final ours']:.4f}",
            ],
        ]
        parts += [
            "## From small to large",
            f"{key.split('/')[1]}, {key.split('/')[2].replace('+', ' + ')}, {side} pixels; ours begins at {smallest} "
            "and "
            f"is stopped at the time of the plain loop. The loss at the start is {v['start']:.3f}; n = 1.",
            table(["side", "looks", "s", "loss"], rows),
        ]
    if results.find("memory/"):
        rows = []
        for key in (key for key in cells if key.startswith("memory/")):
            v, name = cells[key]["values"], key.split("/")[1]
            grown = cells.get(f"growth/{name}", {"values": {}})["values"]
            for side in ("plain", "ours", "ours in 16 bits"):
                back, state = v[f"{side}, way back"], v[f"{side}, optimiser"]
                more = f"{grown[side]:.0f}" if side in grown else ""
                rows.append([name, side, f"{back:.0f}", f"{state:.0f}", f"{back + state:.0f}", more])
        sides = " and ".join(
            f"{s}" for key in cells if key.startswith("growth/") for s in cells[key]["settings"]["sides"]
        )
        parts += [
            "## Memory",
            "Bytes per pixel. Way back: distinct storages that autograd saves, without weights. Optimiser: its "
            "state with "
            "a full history, 100 steps for PyTorch's default, 10 for ours (the default of `style_transfer`)."
            + (
                f" Process: the peaks of fresh processes at {sides} pixels, apart, by pixels of the larger."
                if sides
                else ""
            ),
            table(["network", "side", "way back", "optimiser", "sum", "process"], rows),
        ]
    for v in results.find("large/"):
        minutes = f", {v['minutes']:.1f} minutes on the wall clock beside other work" if "minutes" in v else ""
        parts += [
            "## Large",
            f"{v['width']} x {v['height']} pixels in tiles with Adam, four steps at half the size, two at the full: a"
            " "
            f"peak of {v['bytes'] / 2**30:.2f} GiB, {v['cpu seconds'] / 60:.1f} minutes of the processor{minutes}.",
        ]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--entries", nargs="*", default=ENTRIES, choices=[*ENTRIES, "none"], help="what to measure")
    parser.add_argument("--child", help="for its own use: one measurement in a fresh process")
    options = parser.parse_args(argv)
    if options.child:
        torch.set_num_threads(1)
        print(json.dumps(peak(*json.loads(options.child))))
        return
    results = prepare(options, "style", __doc__)
    measure(results, SMOKE if options.smoke else Settings(), options.entries)
    results.write_page("Style transfer by optimisation", page(results))


if __name__ == "__main__":
    main()
