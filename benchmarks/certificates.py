"""python benchmarks/certificates.py --data cifar10-jpeg

What can be proved of a small network, and what attacks leave of it: on the same test pictures the accuracy that
interval bounds, CROWN and an exact search certify within Linf, beside that under AutoAttack and PGD. Three networks of
one size: `cifar-certified`, which is trained on interval bounds and ships, and two trained as usual and with noise, the
last for randomised smoothing. These are trained first, unless `--networks FOLDER` has `plain` and `noise` .safetensors.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, pictures_of, prepare, table
from torch import Tensor

from saccade.attack import pgd, smoothed, survey
from saccade.attack.autoattack import autoattack
from saccade.networks import Network, build, load
from saccade.train import Recipe, find_recipe, train
from saccade.train.evaluate import evenly
from saccade.train.ibp import interval_start

EPS = 2 / 255
STD = 0.25
RADII = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)
PROOFS = {"ibp": "intervals", "crown-ibp": "CROWN-IBP", "crown": "CROWN", "exact": "exact"}
ATTACKS = {"autoattack": "AutoAttack", "pgd": "PGD, 40 steps"}
ABOUT = {"bounds": "on interval bounds (`cifar-certified`)", "plain": "as usual", "noise": f"with noise of {STD:g}"}


def recipes(data: str) -> dict[str, Recipe]:
    """How each network is trained: all but the defence is the same, and the easier ones need fewer epochs."""
    first = replace(find_recipe("cifar-certified"), data=data)
    plain = replace(first, name="strided", defence="at", adversarial="none", eps=0.0, epochs=5)
    return {"plain": plain, "noise": replace(plain, noise=STD, epochs=6)}


def network_of(name: str, folder: Path | None, data: str, *, smoke: bool) -> Network:
    """The network from the folder, or trained now, or in small an untrained one."""
    if smoke:
        torch.manual_seed(0)
        module = build("strided", num_classes=10, convs=((4, 4, 2), (4, 4, 2)), hidden=(10,))
        interval_start(module)
        return Network(module, classes=tuple("abcdefghij"), input_size=32, name=name).eval()
    if name == "bounds":
        return load("cifar-certified")
    if folder is not None:
        return load(str(folder / f"{name}.safetensors"))
    return train(recipes(data)[name], folder=Path("runs") / f"certificates-{name}", say=print).network.eval()


def timed(which: Callable[[], dict[str, Tensor]], count: int) -> dict[str, Any]:
    """Which pictures (0 or 1 each), and seconds of the process for each."""
    start = time.process_time()
    found = which()
    seconds = (time.process_time() - start) / count
    return {name: mask.long().tolist() for name, mask in found.items()} | {"seconds": seconds}


def proved(network: Network, x: Tensor, labels: Tensor, method: str, time_limit: float) -> dict[str, Tensor]:
    """Which pictures a method certifies, and which it leaves open."""
    found = survey(network, x, labels, EPS, method=method, time_limit=time_limit)
    return {"stands": found.certified, "open": found.open, "right": found.right}


def withstands(network: Network, x: Tensor, labels: Tensor, attack: str) -> dict[str, Tensor]:
    """Which pictures an attack does not fool the network with."""
    if attack == "pgd":
        return {"stands": ~pgd(network, x, labels, eps=EPS, steps=40).success}
    return {"stands": ~autoattack(network, x, labels, eps=EPS).success}


def smooth(network: Network, x: Tensor, labels: Tensor, samples: int) -> dict[str, Any]:
    """Certified accuracy of the smoothed network by L2 radius."""
    start = time.process_time()
    found = smoothed(network, x, std=STD, samples=samples)
    shares = {f"{r:g}": found.certified(labels, r).double().mean().item() for r in RADII}
    with torch.no_grad():
        plain = (network(x).argmax(1) == labels).double().mean().item()
    seconds = (time.process_time() - start) / len(x)
    abstained = (found.said < 0).double().mean().item()
    return {"shares": shares, "abstained": abstained, "without_noise": plain, "seconds": seconds}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--count", type=int, default=200, help="test pictures, spread evenly over the set")
    parser.add_argument("--samples", type=int, default=1000, help="of noise, for each picture")
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds of the exact search for each picture")
    parser.add_argument("--networks", type=Path, help="a folder with the three trained networks")
    options = parser.parse_args(argv)
    results = prepare(options, "certificates", __doc__)
    data, count, samples, limit = options.data, options.count, options.samples, options.time_limit
    if options.smoke:
        data, count, samples, limit = "synthetic", 4, 20, 1.0
    raw, labels = evenly(pictures_of(data, "test", count=count if options.smoke else 0), count).take(
        torch.arange(count)
    )
    x = raw.permute(0, 3, 1, 2).float() / 255
    about = {"data": data, "count": count, "eps": EPS}
    for name in ABOUT:
        network = network_of(name, options.networks, data, smoke=options.smoke)
        if name == "noise":
            settings = about | {"std": STD, "samples": samples, "confidence": 0.999}
            results.measure("smoothing/noise", settings, partial(smooth, network, x, labels, samples))
            continue
        for attack in ATTACKS:
            which = partial(withstands, network, x, labels, attack)
            results.measure(f"attack/{name}/{attack}", about, partial(timed, which, count))
        for method in PROOFS:
            which = partial(proved, network, x, labels, method, limit)
            results.measure(f"proof/{name}/{method}", about | {"time_limit": limit}, partial(timed, which, count))
    results.write_page("Certificates", page(results))


def share(mask: Sequence[int]) -> str:
    return f"{sum(mask) / len(mask):.1%}"


def page(results: Results) -> str:
    """The tables, and whether the sets lie within one another."""
    rows, times, passed = [], [], 0
    for name in ("bounds", "plain"):
        proofs = {method: results.cells[f"proof/{name}/{method}"]["values"] for method in PROOFS}
        attacks = {attack: results.cells[f"attack/{name}/{attack}"]["values"] for attack in ATTACKS}
        order = [one["stands"] for one in (*proofs.values(), *attacks.values())]
        for tighter, looser in zip(order[1:], order, strict=False):
            passed += sum(low > high for low, high in zip(looser, tighter, strict=True))
        rows.append([ABOUT[name], share(proofs["ibp"]["right"]), *map(share, order), share(proofs["exact"]["open"])])
        every = (*proofs.values(), *attacks.values())
        spent = [1000 * one["seconds"] for one in every]
        times.append([ABOUT[name], *(f"{time:.0f}" if time >= 10 else f"{time:.1f}" for time in spent)])
    about = results.cells["proof/plain/exact"]["settings"]
    noise = results.cells["smoothing/noise"]
    radii = noise["values"]["shares"]
    names = [*PROOFS.values(), *ATTACKS.values()]
    parts = [
        f"{about['count']} test pictures of {about['data']}, spread evenly; Linf {255 * about['eps']:.0f}/255; the "
        "network `strided` (two convolutions, two linear layers, 215,000 weights), trained in three ways. A share of "
        "200 pictures is known to within 7 points (95 %). Each column bounds the next from below: what is certified "
        "stands under every attack, and what PGD leaves may still be fooled. CROWN is the better of lines and "
        "intervals.",
        table(["trained", "clean", *names, "open in the exact search"], rows),
        f"Pictures that one column has and the next has not: {passed}.",
        "Milliseconds of one thread for each picture (the exact search: after PGD and CROWN, "
        f"at most {about['time_limit']:g} s a picture; what it did not decide is open, and counts as not certified):",
        table(["trained", *names], times),
        f"Randomised smoothing of the network trained {ABOUT['noise']}: certified accuracy by L2 radius, "
        f"{noise['settings']['samples']:,} noises a picture, each answer true with 99.9 %; abstained on "
        f"{noise['values']['abstained']:.1%}; the network itself, without noise, has "
        f"{noise['values']['without_noise']:.1%}. At radius 0 it is what the smoothed network says and is sure of.",
        table(["L2 radius", *radii], [["certified", *(f"{v:.1%}" for v in radii.values())]]),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
