"""python benchmarks/attack.py

PGD beside torchattacks, where this is installed, and beside the usual loop in ten lines: 40 steps within Linf, on test
pictures of Tiny ImageNet, of `tinynet` at 8/255 and of its robust twin at 3/255. Both sides have the same network,
budget, steps and batches, each its own random start; they run in turn in one process. Reported: the share of pictures
that withstand (the pictures of both sides are judged alike, by one look of the network), passes a picture, and the
median over rounds of the ratio of their times, in seconds of the process.

AutoAttack, as published and in the fast mode, beside the official code (github.com/fra31/auto-attack), where this is
installed: on 200 test pictures spread evenly over the classes, of the networks that were trained to withstand;
`--networks` takes others, also files of weights. Each mode is a cell of its own, which tells the pictures that
withstand it; `--modes` takes some.

Transfer: what is found on `cifar-resnet20`, or on networks around it (LGV), shown to `fast94`.

DeepFool (L2, all ten classes) beside adversarial-library and torchattacks, where these are installed, on 64 test
pictures of CIFAR-10: how far the boundary is said to be, and the median ratio of times.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from typing import Any

import attack_agreement
import attack_transfer
import torch
from common import Results, arguments, pictures_of, prepare, table
from torch import Tensor
from torch.nn import functional as F

from saccade.attack import PGD
from saccade.attack.deepfool import deepfool
from saccade.engine.chunks import chunks
from saccade.networks import Network, load

BATCH = 32  # what is fast on a CPU
Attack = Callable[[Tensor, Tensor], Tensor]
PARTS = ("pgd", "autoattack", "deepfool", "transfer")
MODES = ("official", "standard", "fast")
NETWORKS = {"tinynet": 8 / 255, "tinynet-robust": 3 / 255}


def robust(network: Network, x: Tensor, labels: Tensor) -> Tensor:
    """Which pictures the network takes for what they are."""
    with torch.no_grad():
        return torch.cat([network(x[part]).argmax(1) for part in chunks(len(x), BATCH)]) == labels


def usual(network: Network, eps: float, alpha: float, steps: int) -> Attack:
    """The loop of most libraries."""

    def attack(x: Tensor, labels: Tensor) -> Tensor:
        z = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(z), labels), z)
            z = z.detach() + alpha * gradient.sign()
            z = (x + (z - x).clamp(-eps, eps)).clamp(0, 1)
        return z

    return attack


def torchattacks_pgd(network: Network, eps: float, alpha: float, steps: int) -> Attack:
    import torchattacks

    made: Attack = torchattacks.PGD(network, eps=eps, alpha=alpha, steps=steps, random_start=True)
    return made


SIDES = {"the usual loop": usual, "torchattacks": torchattacks_pgd}


def compare(
    side: str, network: Network, x: Tensor, labels: Tensor, *, eps: float, steps: int, rounds: int
) -> dict[str, Any]:
    """Time both sides in turn; and who withstands them."""
    alpha = 2.5 * eps / steps
    theirs = SIDES[side](network, eps, alpha, steps)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(rounds):
        start = time.process_time()
        found = PGD(eps=eps, alpha=alpha, steps=steps, seed=seed, batch_size=BATCH)(network, x, labels)
        seconds["ours"].append(time.process_time() - start)
        torch.manual_seed(seed)
        start = time.process_time()
        other = torch.cat([theirs(x[part], labels[part]) for part in chunks(len(x), BATCH)])
        seconds["theirs"].append(time.process_time() - start)
    withstood, withstood_theirs = robust(network, found.adversarial, labels), robust(network, other, labels)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {
        "clean": robust(network, x, labels).double().mean().item(),
        "robust": withstood.double().mean().item(),
        "robust_theirs": withstood_theirs.double().mean().item(),
        "only_ours": int((~withstood & withstood_theirs).sum()),  # fooled by one side alone
        "only_theirs": int((withstood & ~withstood_theirs).sum()),
        "forwards": found.forwards.double().mean().item(),
        "backwards": found.backwards.double().mean().item(),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        **seconds,
    }


def measure_pgd(results: Results, count: int, *, rounds: int, smoke: bool) -> None:
    """A cell for each network and side."""
    steps = 4 if smoke else 40
    for side, (name, eps) in product(SIDES, NETWORKS.items()):
        key = f"pgd/{name}/{side}"
        if key in results.cells:
            continue
        if side == "torchattacks" and find_spec(side) is None:
            print(f"attack: {key} is left out: torchattacks is not installed", flush=True)
            continue
        network = load(name)
        raw, labels = pictures_of("synthetic" if smoke else "tiny-imagenet", "test").take(torch.arange(count))
        x = raw.permute(0, 3, 1, 2).float().contiguous() / 255
        if smoke:
            with torch.no_grad():
                labels = network(x).argmax(1)
        about = {"eps": eps, "steps": steps, "count": count, "batch": BATCH, "rounds": rounds}
        about["beside"] = f"{side} {version(side)}" if side == "torchattacks" else side

        def measured(
            side: str = side, network: Network = network, x: Tensor = x, labels: Tensor = labels, eps: float = eps
        ) -> dict[str, Any]:
            return compare(side, network, x, labels, eps=eps, steps=steps, rounds=rounds)

        results.measure(key, about, measured)


def pgd_table(results: Results) -> str:
    """A line for each network and side."""
    rows = []
    for key, cell in results.cells.items():
        if not key.startswith("pgd/"):
            continue
        values, about = cell["values"], cell["settings"]
        low, high = min(values["ratios"]), max(values["ratios"])
        rows.append(
            [
                f"{key.split('/')[1]}, {about['eps'] * 255:.0f}/255",
                about["beside"],
                about["count"],
                f"{values['clean']:.1%}",
                f"{values['robust']:.1%}",
                f"{values['robust_theirs']:.1%}",
                f"{values['only_ours']} / {values['only_theirs']}",
                f"{values['forwards']:.1f} + {values['backwards']:.1f}",
                f"{about['steps']} + {about['steps']}",
                f"{values['ratio']:.2f} ({low:.2f} to {high:.2f})",
            ]
        )
    head = [
        "network, eps",
        "beside",
        "pictures",
        "clean",
        "withstand ours",
        "withstand theirs",
        "fooled by ours / theirs alone",
    ]
    head += ["our passes, forward + back", "theirs", "their time by ours"]
    return table(head, rows) if rows else ""


def deepfool_of(side: str, network: Network) -> Attack:
    """The DeepFool of another library, 50 steps at most."""
    if side == "torchattacks":
        import torchattacks

        made: Attack = torchattacks.DeepFool(network, steps=50, overshoot=0.02)
        return made
    from adv_lib.attacks import df

    return partial(df, network, steps=50, overshoot=0.02, norm=2)


def compare_deepfool(side: str, network: Network, x: Tensor, labels: Tensor, rounds: int) -> dict[str, Any]:
    """Both sides in turn: the share of fooled pictures, their mean distance, and times."""
    theirs, ratios = deepfool_of(side, network), []
    for _ in range(rounds):
        start = time.process_time()
        found = deepfool(network, x, labels, batch_size=BATCH)
        middle = time.process_time()
        other = torch.cat([theirs(x[part], labels[part]) for part in chunks(len(x), BATCH)]).detach()
        ratios.append((time.process_time() - middle) / (middle - start))
    return {
        "fooled": (~robust(network, found.adversarial, labels)).double().mean().item(),
        "fooled_theirs": (~robust(network, other, labels)).double().mean().item(),
        "distance": (found.adversarial - x).flatten(1).norm(dim=1).mean().item(),
        "distance_theirs": (other - x).flatten(1).norm(dim=1).mean().item(),
        "forwards": found.forwards.double().mean().item(),
        "backwards": found.backwards.double().mean().item(),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def measure_deepfool(results: Results, *, rounds: int, smoke: bool) -> None:
    """A cell for each library that is there."""
    network, count = load("cifar-resnet20"), 4 if smoke else 64
    for side in ("adv_lib", "torchattacks"):
        if f"deepfool/{side}" in results.cells or find_spec(side) is None:
            continue
        raw, labels = pictures_of("synthetic" if smoke else "cifar10-jpeg", "test").take(torch.arange(count))
        x = raw.permute(0, 3, 1, 2).float().contiguous() / 255
        labels = labels % 10
        about = {"count": count, "batch": BATCH, "rounds": rounds}
        results.measure(f"deepfool/{side}", about, partial(compare_deepfool, side, network, x, labels, rounds))


def deepfool_table(results: Results) -> str:
    """A line for each library."""
    rows = []
    for key, cell in results.cells.items():
        if key.startswith("deepfool/"):
            values = cell["values"]
            rows.append(
                [
                    key.split("/")[1],
                    cell["settings"]["count"],
                    f"{values['fooled']:.1%} / {values['fooled_theirs']:.1%}",
                    f"{values['distance']:.4f} / {values['distance_theirs']:.4f}",
                    f"{values['forwards']:.1f} + {values['backwards']:.1f}",
                    f"{values['ratio']:.2f} ({min(values['ratios']):.2f} to {max(values['ratios']):.2f})",
                ]
            )
    head = ["DeepFool beside", "pictures", "fooled, ours / theirs", "mean L2, ours / theirs"]
    return table([*head, "our passes, forward + back", "their time by ours"], rows) if rows else ""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and can be measured here, and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=256, help="pictures")
    parser.add_argument("--autoattack", type=int, default=200, help="pictures for AutoAttack")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES, help="of AutoAttack")
    parser.add_argument(
        "--networks", nargs="+", default=tuple(attack_agreement.EPS), help="for AutoAttack: names, files"
    )
    options = parser.parse_args(argv)
    results = prepare(options, "attack", __doc__)
    rounds = 1 if options.smoke else options.rounds
    if "pgd" in options.parts:
        measure_pgd(results, 8 if options.smoke else options.count, rounds=rounds, smoke=options.smoke)
    if "autoattack" in options.parts:
        count = 4 if options.smoke else options.autoattack
        attack_agreement.measure(results, options.networks, options.modes, count, smoke=options.smoke)
    if "deepfool" in options.parts:
        measure_deepfool(results, rounds=rounds, smoke=options.smoke)
    if "transfer" in options.parts:
        count, data = (8, "synthetic") if options.smoke else (500, "cifar10-jpeg")
        attack_transfer.measure(results, count, data, smoke=options.smoke)
    body = [
        pgd_table(results),
        attack_agreement.page(results),
        deepfool_table(results),
        attack_transfer.page(results),
    ]
    results.write_page("Attacks beside other libraries", "\n\n".join(part for part in body if part))


if __name__ == "__main__":
    main()
