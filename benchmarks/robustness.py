"""python benchmarks/robustness.py --cifar cifar10-jpeg

What adversarial training buys: accuracy of `cifar-robust` and `tinynet-robust`, and of `cifar-resnet20` and `tinynet`,
trained as usual, under PGD within Linf balls of growing radius. The test pictures are spread evenly over each set;
those that a smaller ball had a change for are not attacked again in a larger one.

Of the two that were trained to withstand also stronger attacks: of `cifar-robust` PGD with 50 steps and 10 starts at
the radius of its training, of `tinynet-robust` AutoAttack in the fast mode, and with `--exact 50` as published.
`--cards` puts these figures into the cards of the two.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, pictures_of, prepare, table
from torch import Tensor

from saccade.attack import PGD
from saccade.attack.autoattack import autoattack
from saccade.attack.evaluate import wilson
from saccade.engine.files import write_text
from saccade.networks import Network, load
from saccade.networks.zoo import SHIPPED
from saccade.pictures import curves, write
from saccade.pictures.curves import Curve
from saccade.train.evaluate import evenly


@dataclass(frozen=True)
class Pair:
    """A network that was trained to withstand, the one beside it, and what they are asked.

    eps: the radius of its training. radii: of the curve; worst: of AutoAttack, in place of a long PGD. All in 255ths.
    """

    robust: str
    plain: str
    eps: int
    radii: tuple[float, ...]
    worst: tuple[int, ...] = ()


PAIRS = {
    "cifar": Pair("cifar-robust", "cifar-resnet20", 8, (0, 1, 2, 4, 8, 12, 16)),
    "tiny": Pair("tinynet-robust", "tinynet", 3, (0, 0.5, 1, 2, 3, 4, 6, 8), (3,)),
}


def pgd_curve(
    network: Network, x: Tensor, labels: Tensor, *, steps: int, radii: Sequence[float] = PAIRS["cifar"].radii
) -> dict[str, Any]:
    """The share of pictures still right at each radius."""
    left, shares = torch.arange(len(x)), {}
    for radius in radii:
        if len(left):
            found = PGD(eps=radius / 255, steps=steps if radius else 1)(network, x[left], labels[left])
            left = left[~found.success]
        shares[f"{radius:g}"] = len(left) / len(x)
    return shares


def long_pgd(network: Network, x: Tensor, labels: Tensor, *, eps: int, steps: int, restarts: int) -> dict[str, Any]:
    """The share that withstands PGD with steps of a quarter of the radius, as Wong et al. 2020 count it."""
    found = PGD(eps=eps / 255, alpha=eps / 4 / 255, steps=steps, restarts=restarts)(network, x, labels)
    return {"accuracy": 1 - found.success.double().mean().item()}


def worst_cases(network: Network, x: Tensor, labels: Tensor, *, radii: Sequence[int], mode: str) -> dict[str, Any]:
    """The share that withstands AutoAttack at each radius, and passes a picture."""
    left, values = torch.arange(len(x)), {}
    for radius in radii:
        passes = 0
        if len(left):
            found = autoattack(network, x[left], labels[left], eps=radius / 255, mode=mode)
            passes = int(found.forwards.sum() + found.backwards.sum())
            left = left[~found.success]
        values[str(radius)] = {"accuracy": len(left) / len(x), "passes": passes / len(x)}
    return values


def measure(results: Results, pair: Pair, data: str, options: Any) -> None:
    """What is missing of a pair."""
    small, name = options.smoke, "synthetic" if options.smoke else data
    count, steps = (20, 2) if small else (options.count, options.steps)
    raw, labels = evenly(pictures_of(name, "test"), count).take(torch.arange(count))
    x = raw.permute(0, 3, 1, 2).float() / 255
    about = {"data": name, "count": count}
    for one in (pair.robust, pair.plain):
        results.measure(
            f"pgd/{one}",
            {**about, "steps": steps},
            partial(pgd_curve, load(one), x, labels, steps=steps, radii=pair.radii),
        )
    network = load(pair.robust)
    if not pair.worst:
        steps, restarts = (2, 1) if small else (50, 10)
        results.measure(
            f"pgd-long/{pair.robust}",
            {**about, "steps": steps, "restarts": restarts, "eps": pair.eps},
            lambda: long_pgd(network, x, labels, eps=pair.eps, steps=steps, restarts=restarts),
        )
    for mode, some in (("fast", options.worst), ("standard", options.exact)) if pair.worst else ():
        some = 2 if small else some
        if not some:
            continue
        rows = torch.arange(some) * count // some
        radii = pair.worst if mode == "fast" else pair.worst[:1]
        results.measure(
            f"autoattack/{pair.robust}/{mode}",
            {**about, "count": some},
            partial(worst_cases, network, x[rows], labels[rows], radii=radii, mode=mode),
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, write the page, its curve and the cards."""
    parser = arguments(__doc__)
    parser.add_argument("--cifar", default="cifar10", help="where the pictures of CIFAR-10 are from")
    parser.add_argument("--tiny", default="tiny-imagenet")
    parser.add_argument("--count", type=int, default=1000, help="pictures under PGD")
    parser.add_argument("--steps", type=int, default=20, help="of PGD, for the curves")
    parser.add_argument("--worst", type=int, default=500, help="pictures under AutoAttack, fast")
    parser.add_argument("--exact", type=int, default=0, help="pictures under AutoAttack as published")
    parser.add_argument("--cards", action="store_true", help="put the figures into the cards of the networks")
    options = parser.parse_args(argv)
    results = prepare(options, "robustness", __doc__)
    for key, pair in PAIRS.items():
        measure(results, pair, getattr(options, key), options)
    results.write_page("What adversarial training buys", page(results.cells))
    lines = {}
    for i, pair in enumerate(PAIRS.values()):
        x = torch.tensor(pair.radii)
        lines[pair.robust] = Curve(torch.tensor(shares(results.cells, pair.robust)), x=x, colour=i)
        lines[pair.plain] = Curve(torch.tensor(shares(results.cells, pair.plain)), x=x, colour=i, style="dashed")
    picture = curves(lines, x_label="radius (Linf, 255ths)", y_label="accuracy under PGD", percent=True)
    write(picture, results.page.parent / "robustness.png")
    if options.cards:
        for pair in PAIRS.values():
            put_into_card(results.cells, pair, (results.folder if options.smoke else SHIPPED) / f"{pair.robust}.md")


def shares(cells: dict[str, Any], name: str) -> list[float]:
    """The curve of a network."""
    return list(cells[f"pgd/{name}"]["values"].values())


def curve_table(cells: dict[str, Any], pair: Pair) -> str:
    """Both curves of a pair."""
    rows = [[name, *(f"{y:.1%}" for y in shares(cells, name))] for name in (pair.robust, pair.plain)]
    return table(["network", *(f"{radius:g}" for radius in pair.radii)], rows)


def hardest(cells: dict[str, Any], pair: Pair) -> list[tuple[str, str, str]]:
    """Network attacked, by what, and accuracy with its interval, for the attacks on the robust network of a pair."""
    rows = []
    if not pair.worst:
        cell = cells[f"pgd-long/{pair.robust}"]
        about = cell["settings"]
        attack = f"PGD, {about['steps']} steps, {about['restarts']} starts"
        rows.append((f"{attack}, Linf {about['eps']}/255", f"{about['count']:,}", cell["values"]["accuracy"]))
    for mode in ("fast", "standard"):
        cell = cells.get(f"autoattack/{pair.robust}/{mode}", {"values": {}})
        for radius, value in cell["values"].items():
            count = f"{cell['settings']['count']:,}"
            rows.append((f"AutoAttack ({mode}), Linf {radius}/255", count, value["accuracy"]))
    return [(attack, count, f"{value:.1%} {interval(value, count)}") for attack, count, value in rows]


def interval(value: float, count: str) -> str:
    """Wilson's, of 95 %."""
    n = int(count.replace(",", ""))
    low, high = wilson(round(value * n), n)
    return f"({low:.1%} to {high:.1%})"


def page(cells: dict[str, Any]) -> str:
    """The tables."""
    parts = ["![Accuracy under PGD, by radius](robustness.png)"]
    for pair in PAIRS.values():
        about = cells[f"pgd/{pair.robust}"]["settings"]
        parts += [
            f"Accuracy on {about['count']:,} test pictures of {about['data']} under {about['steps']} steps of PGD "
            "(Madry et al. 2018, arXiv:1706.06083), by Linf radius in 255ths:",
            curve_table(cells, pair),
            f"[{pair.robust}](../../src/saccade/networks/weights/{pair.robust}.md) under stronger attacks, with the "
            "interval that holds 95 %:",
            table(["attack", "pictures", "accuracy"], hardest(cells, pair)),
        ]
    parts.append(
        "A share of 1,000 pictures is known to within 3 points (95 %). What any attack leaves is an upper bound."
    )
    return "\n\n".join(parts)


def put_into_card(cells: dict[str, Any], pair: Pair, card: Path) -> None:
    """Write the section on robustness of a network's card, before its recipe."""
    about = cells[f"pgd/{pair.robust}"]["settings"]
    section = "\n\n".join(
        [
            "## Robustness",
            f"Accuracy on {about['count']:,} test pictures under {about['steps']} steps of PGD, by Linf radius in "
            f"255ths, beside {pair.plain}, which was trained as usual:",
            curve_table(cells, pair),
            "Under stronger attacks, with the interval that holds 95 %:",
            table(["attack", "pictures", "accuracy"], hardest(cells, pair)),
            "Measured on the file that ships, by `python benchmarks/robustness.py`; what any attack leaves is an upper "
            "bound.",
        ]
    )
    text = card.read_text("utf-8") if card.exists() else "## Recipe\n"
    text = re.sub(r"## Robustness\n.*?(?=## Recipe\n)", "", text, flags=re.DOTALL)
    write_text(card, text.replace("## Recipe\n", f"{section}\n\n## Recipe\n"))


if __name__ == "__main__":
    main()
