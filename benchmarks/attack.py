"""python benchmarks/attack.py

PGD beside torchattacks, where this is installed, and beside the usual loop in ten lines: 40 steps within Linf, on test
pictures of Tiny ImageNet, of `tinynet` at 8/255 and of its robust twin at 3/255. Both sides have the same network,
budget, steps and batches, each its own random start; they run in turn in one process. Reported: the share of pictures
that withstand (the pictures of both sides are judged alike, by one look of the network), passes a picture, and the
median over rounds of the ratio of their times, in seconds of the process.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
from common import arguments, pictures_of, prepare, table
from torch import Tensor
from torch.nn import functional as F

from saccade.attack import PGD
from saccade.engine.chunks import chunks
from saccade.networks import Network, load

BATCH = 16  # what is fast on a CPU
Attack = Callable[[Tensor, Tensor], Tensor]
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


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and can be measured here, and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=256, help="pictures")
    options = parser.parse_args(argv)
    results = prepare(options, "attack", __doc__)
    count, steps, rounds = (8, 4, 1) if options.smoke else (options.count, 40, options.rounds)
    for side, (name, eps) in product(SIDES, NETWORKS.items()):
        key = f"pgd/{name}/{side}"
        if key in results.cells:
            continue
        if side == "torchattacks" and find_spec(side) is None:
            print(f"attack: {key} is left out: torchattacks is not installed", flush=True)
            continue
        network = load(name)
        raw, labels = pictures_of("synthetic" if options.smoke else "tiny-imagenet", "test").take(torch.arange(count))
        x = raw.permute(0, 3, 1, 2).float() / 255
        if options.smoke:
            with torch.no_grad():
                labels = network(x).argmax(1)
        about = {"eps": eps, "steps": steps, "count": count, "batch": BATCH, "rounds": rounds}
        about["beside"] = f"{side} {version(side)}" if side == "torchattacks" else side

        def measured(
            side: str = side, network: Network = network, x: Tensor = x, labels: Tensor = labels, eps: float = eps
        ) -> dict[str, Any]:
            return compare(side, network, x, labels, eps=eps, steps=steps, rounds=rounds)

        results.measure(key, about, measured)
    rows = []
    for key, cell in results.cells.items():
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
    results.write_page("Attacks beside other libraries", table(head, rows))


if __name__ == "__main__":
    main()
