"""python benchmarks/style.py [--entries descent rounding memory large pyramid wolfe]

Style transfer by optimisation beside a plain loop, written as PyTorch's tutorial writes it: torch.optim.LBFGS as it
comes, the picture clamped in the closure, plain autograd in float32. Both minimise the same objective (relative content
loss + relative Gram losses of five layers, behind ReLUs) from the same start, the content; every picture that either
reaches is judged by one function in float32, outside of the time.

- descent: the time and the looks at the objective until ours is where the plain loop ends; both sides in turn in one
  process, twenty looks each;
- rounding: how far 16 bits turn the gradient, at the start and after some looks;
- memory: what is kept for the way back and by the optimiser, and how much a fresh process grows;
- large: 4096 pixels in tiles, in a fresh process;
- pyramid: 1024 pixels, from small to large within the time of the plain loop;
- wolfe: the plain loop with a line search and no clamp.

SACCADE_ARCHIVES names the folder with `art/` and the networks. Times are seconds of the processor.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, prepare
from style_page import page
from style_plain import PRESET, Plain, Trace, descend_plainly, network_of, picture_of
from torch import Tensor, nn

from saccade.engine.guards import differentiable
from saccade.engine.precision import choose_precision
from saccade.engine.seeding import generator
from saccade.networks import Network
from saccade.pictures.optimise import LBFGS, Stage, optimise
from saccade.style import score, style_transfer
from saccade.style.eye import Eye
from saccade.style.objective import Objective
from saccade.style.transfer import descent_rule

ENTRIES = ("descent", "rounding", "memory", "large", "pyramid", "wolfe")
NETWORKS = ("vgg19_thin16x", "squeezenet1_0")
PAIRS = (
    ("tubingen", "starry_night"),
    ("tubingen", "the_scream"),
    ("golden_gate", "shipwreck"),
    ("golden_gate", "starry_night"),
)
SIDES: dict[str, tuple[torch.dtype | None, torch.dtype | None]] = {
    "ours": (None, None),
    "ours in 16 bits": (torch.bfloat16, None),
    "ours, the way back in 16 bits": (torch.float32, torch.bfloat16),
}
"""The dtypes of values and of gradients."""

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
    pyramid: tuple[int, int, int, int] = (1024, 512, 500, 800)  # the side, the smallest, looks of the plain loop, ours


SMOKE = Settings(("tiny",), (("noise", "waves"),), 48, 40, (32, 48), 64, (64, 32, 20, 20))


def halves() -> bool:
    """Whether this processor is faster in 16 bits."""
    return choose_precision(torch.device("cpu")).name == "bf16"


def descend(
    network: Network, content: Tensor, style: Tensor, looks: int, trace: Trace, between: Iterator[None]
) -> None:
    """Ours: the same objective, as `style_transfer` looks at it at one size. `between` goes on in every pause."""
    begun = time.process_time()
    half = torch.bfloat16 if halves() else None
    low = Objective(Eye(network, PRESET, dtype=half or torch.float32), content, [style])
    exact = Objective(Eye(network, PRESET, dtype=torch.float32, back=half), content, [style])
    size, finish = (content.shape[2], content.shape[3]), looks // 2
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
            rule=descent_rule(size, halves()),
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
        3 * settings.looks // 2,
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


def rounding(name: str, pair: tuple[str, str], settings: Settings) -> dict[str, Any]:
    """By how much of its length a gradient is off, with 16 bits all the way and on the way back alone."""
    network = network_of(name)
    content, style = (picture_of(each, settings.side) for each in pair)
    objectives = {
        side: Objective(Eye(network, PRESET, dtype=dtype, back=back), content, [style])
        for side, (dtype, back) in zip(("exact", "all", "back"), SIDES.values(), strict=True)
    }
    looks = settings.looks // 3
    rule = descent_rule((content.shape[2], content.shape[3]), half=False)
    found: dict[str, Any] = {"looks": looks}
    with differentiable(network):
        for at, picture in (
            ("start", content),
            ("later", optimise(objectives["exact"], content, steps=looks, rule=rule)),
        ):
            leaf = picture.clone().requires_grad_()
            slopes = {side: torch.autograd.grad(one(leaf).sum(), leaf)[0] for side, one in objectives.items()}
            exact = slopes.pop("exact")
            for side, slope in slopes.items():
                found[f"{side}, {at}"] = float((slope - exact).norm() / exact.norm())
    return found


def pyramid(name: str, pair: tuple[str, str], settings: Settings) -> dict[str, Any]:
    """The plain loop at one size, then ours from small to large in the same time."""
    side, smallest, looks, steps = settings.pyramid
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
        content, style, network=network, preset=PRESET, steps=steps, smallest=smallest, tile=0, stop=late
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
        for side, (dtype, back) in SIDES.items():
            objective = Objective(Eye(network, PRESET, dtype=dtype, back=back), content, [style])
            found[side] = kept(lambda objective=objective: objective(picture), network) / pixels  # type: ignore[misc]
    return {
        **{f"{side}, way back": value for side, value in found.items()},
        "plain, optimiser": states["plain"],
        **{f"{side}, optimiser": states["ours"] for side in SIDES},
    }


def forget_peak() -> None:
    """Linux counts the largest resident size anew from here, so that what loading took is not in it."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def peak_bytes() -> int:
    """The largest resident size of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text("ascii").split("VmHWM:")[1].split()[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak(side: str, name: str, pair: tuple[str, str], longer: int) -> dict[str, Any]:
    """The largest resident size of this process after a restyling with full histories."""
    network = network_of(name)
    content, style = (picture_of(each, longer) for each in pair)
    begun = time.process_time()
    forget_peak()
    if side == "plain":
        for _ in descend_plainly(Plain(network, content, style), content, 110, Trace()):
            pass
    elif side == "large":
        style_transfer(
            content, style, network=network, preset=PRESET, size=longer, smallest=longer // 2, optimiser="adam", steps=2
        )
    else:
        dtype, back = SIDES[side]
        objective = Objective(Eye(network, PRESET, dtype=dtype, back=back), content, [style])
        with differentiable(network):
            optimise(objective, content, steps=15, rule=LBFGS(memory=10, low=0.0, high=1.0))
    return {
        "bytes": peak_bytes(),
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
    for side in ("plain", *SIDES):
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
    if "rounding" in entries:
        for name in settings.networks:
            cell(f"rounding/{name}", lambda name=name: rounding(name, pair, settings), side=settings.side)  # type: ignore[misc]
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
