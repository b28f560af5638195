"""AutoAttack beside the official code: who withstands each, with how many passes, in what time. A part of attack.py."""

import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import Results, pictures_of, table
from torch import Tensor, nn

from saccade.attack.autoattack import autoattack
from saccade.networks import Network, load

EPS = {"cifar-robust": 8 / 255, "tinynet-robust": 3 / 255}
GAINS = """What AutoAttack gains in time rests upon three things. Pictures leave as soon as they are fooled. A network \
that is asked often is run with its batch norms within its convolutions, whose weights lie channels last. And where a \
picture differs in a small square, only what depends on the square is computed, which counts as a pass like any other. \
The second and third need convolutions, batch norms and ReLUs in evaluation mode, and a CPU; a network of other layers \
gains by the first alone. Seconds are those of the processes, which ran beside other work."""
OFFSET = 25  # other pictures than those that a count of a thousand spread evenly takes


class Counted(nn.Module):
    """A network that counts the pictures it is shown, forward and backward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        scores: Tensor = self.network(x)
        if scores.requires_grad:
            scores.register_hook(self.count)
        return scores

    def count(self, slope: Tensor) -> None:
        self.backwards += len(slope)


def attacked(mode: str, network: Network, x: Tensor, labels: Tensor, eps: float) -> dict[str, Any]:
    """Which pictures withstand an attack, judged by a look of the network; seconds, and passes a picture."""
    start = time.process_time()
    if mode == "official":
        import autoattack as theirs

        counted = Counted(network)
        attack = theirs.AutoAttack(counted, norm="Linf", eps=eps, seed=0, device="cpu", verbose=False)
        adversarial = attack.run_standard_evaluation(x, labels)
        passes = [counted.forwards / len(x), counted.backwards / len(x)]
    else:
        found = autoattack(network, x, labels, eps=eps, mode=mode)
        adversarial = found.adversarial
        passes = [found.forwards.double().mean().item(), found.backwards.double().mean().item()]
    seconds = time.process_time() - start
    far = (adversarial - x).abs().amax().item()
    with torch.no_grad():
        clean, stands = ((network(some).argmax(1) == labels) for some in (x, adversarial))
    places: list[int] = stands.nonzero()[:, 0].tolist()
    return {
        "clean": clean.double().mean().item(),
        "robust": stands.double().mean().item(),
        "stands": places,
        "farthest": far,
        "seconds": seconds,
        "passes": passes,
    }


def measure(results: Results, networks: Sequence[str], modes: Sequence[str], count: int, *, smoke: bool) -> None:
    """A cell for each network, which is a name of the zoo or a file, and mode."""
    for source in ["cifar-resnet20"] if smoke else networks:
        name = Path(source).stem
        for mode in modes:
            key = f"autoattack/{name}/{mode}"
            if key in results.cells:
                continue
            if mode == "official" and find_spec("autoattack") is None:
                print(f"attack: {key} is left out: the official code is not installed", flush=True)
                continue
            network, eps = load(source), EPS.get(name, 8 / 255)
            data = "synthetic" if smoke else "tiny-imagenet" if name.startswith("tinynet") else "cifar10-jpeg"
            pictures = pictures_of(data, "test")
            gap = len(pictures) // count
            raw, labels = pictures.take(torch.arange(count) * gap + min(OFFSET, gap - 1))
            x = raw.permute(0, 3, 1, 2).float().contiguous() / 255  # the official code takes `view` of its gradient
            if smoke:
                with torch.no_grad():
                    labels = network(x).argmax(1)
            about = {"eps": eps, "count": count, "data": data, "network": described(network)}
            results.measure(key, about, partial(attacked, mode, network, x, labels, eps))


def described(network: Network) -> str:
    """Architecture and size."""
    made = network.architecture[0] if network.architecture is not None else type(network.module).__name__
    return f"{made}, {sum(p.numel() for p in network.parameters()):,} parameters"


def page(results: Results) -> str:
    """A line for each network and mode."""
    rows = []
    for key, cell in results.cells.items():
        if not key.startswith("autoattack/"):
            continue
        _, name, mode = key.split("/")
        values, about = cell["values"], cell["settings"]
        official = results.cells.get(f"autoattack/{name}/official", {}).get("values")
        alone = ratio = ""
        if official is not None and mode != "official":
            ours, theirs = set(values["stands"]), set(official["stands"])
            alone = f"{len(theirs - ours)} / {len(ours - theirs)}"
            ratio = f"{official['seconds'] / values['seconds']:.2f}"
        rows.append(
            [
                f"{name}, {about['eps'] * 255:.0f}/255",
                mode,
                about["count"],
                f"{values['clean']:.1%}",
                f"{values['robust']:.1%}",
                alone,
                f"{values['passes'][0]:.0f} + {values['passes'][1]:.0f}",
                f"{values['seconds']:.0f}",
                ratio,
            ]
        )
    head = ["network, eps", "AutoAttack", "pictures", "clean", "withstand", "fooled by ours / theirs alone"]
    head += ["passes, forward + back", "seconds", "official time by this"]
    return f"{table(head, rows)}\n\n{GAINS}" if rows else ""
