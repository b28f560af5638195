"""How often what fools one network fools another that was not asked. A part of attack.py."""

from functools import partial
from typing import Any

import torch
from common import Results, pictures_of, table
from torch import Tensor, nn

from saccade.attack import InTurn, Share, find_attack, vicinity
from saccade.attack.attacks import Attack
from saccade.networks import load

SOURCE, TARGET = "cifar-resnet20", "fast94"
EPS = 4 / 255
STEPS = 50
EPOCHS = 10
ATTACKS = ("bim", "mi-fgsm", "vmi-fgsm", "di-fgsm", "m-di-fgsm")


def fooled(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Which pictures the network takes for another class."""
    with torch.no_grad():
        return torch.cat([network(part).argmax(1) for part in torch.split(x, 250)]) != labels


def transfer(attack: Attack, asked: nn.Module, target: nn.Module, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """Of the pictures that the target reads right: how many the attack on another network takes from it."""
    found = attack(asked, x, labels, eps=EPS)
    before, after = fooled(target, x, labels), fooled(target, found.adversarial, labels)
    return {
        "source": found.success.double().mean().item(),
        "fooled": int((after & ~before).sum()),
        "of": int((~before).sum()),
        "passes": found.backwards.double().mean().item(),
    }


def signs(x: Tensor) -> Tensor:
    """The control: as large a change, of random signs."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + EPS * noise.sign()).clamp(0, 1)


def measure(results: Results, count: int, data: str, *, smoke: bool) -> None:
    """A cell for each attack on the source, one for its vicinity, and one for noise."""
    source, target = load(SOURCE), load(TARGET)
    source.eval(), target.eval()
    pictures = pictures_of(data, "test")
    raw, labels = pictures.take(torch.arange(count) * (len(pictures) // count))
    x = raw.permute(0, 3, 1, 2).float().contiguous() / 255
    if smoke:
        with torch.no_grad():
            labels = target(x).argmax(1)
    steps, epochs = (2, 1) if smoke else (STEPS, EPOCHS)
    about = {"eps": EPS, "count": count, "data": data, "source": SOURCE, "target": TARGET}
    for name in ATTACKS:
        attack = find_attack(name).set(steps=steps, alpha=EPS / 10, stop=False)
        run = partial(transfer, attack, source, target, x, labels)
        results.measure(f"transfer/{name}", {**about, "steps": steps}, run)

    def walked() -> dict[str, Any]:
        train = pictures_of("synthetic" if smoke else data, "train", count=64 if smoke else 0)
        members = vicinity(source, train, epochs=epochs, batch_size=32 if smoke else 256)
        found = transfer(
            find_attack("bim").set(steps=steps, alpha=EPS / 10, stop=False), InTurn(members), target, x, labels
        )
        return {**found, "members": len(members)}

    results.measure("transfer/lgv", {**about, "steps": steps, "epochs": epochs}, walked)

    def noise() -> dict[str, Any]:
        before, after = fooled(target, x, labels), fooled(target, signs(x), labels)
        return {"source": 0.0, "fooled": int((after & ~before).sum()), "of": int((~before).sum()), "passes": 0.0}

    results.measure("transfer/noise", about, noise)


TITLES = {"lgv": "BIM on 40 networks around the first, in turn (LGV)", "noise": "random signs"}


def page(results: Results) -> str:
    """A line for each attack."""
    rows, about = [], {}
    for key, cell in results.cells.items():
        if not key.startswith("transfer/"):
            continue
        values, about = cell["values"], cell["settings"]
        share = Share(values["fooled"], values["of"])
        name = key.split("/")[1]
        rows.append([TITLES.get(name) or find_attack(name).title, f"{values['source']:.1%}", str(share)])
    if not rows:
        return ""
    head = ["attack", f"fools {about['source']}", f"then fools {about['target']}"]
    said = (
        f"What is found on one network and shown to another: {about['count']} test pictures of {about['data']}, Linf "
        f"{255 * about['eps']:.0f}/255, {STEPS} steps of a tenth of that. The last column is of the pictures that the "
        "second network reads right, with the interval that holds 95 %."
    )
    return f"{said}\n\n{table(head, rows)}"
