"""Put the network of a finished run into the package: weights in half precision, model card, log.

    python benchmarks/ship.py runs/tinynet [--name tinynet] [--about "One sentence on what it is for."]
    python benchmarks/ship.py tinynet --again

The figures in the card are measured here, on the file that ships (its weights are rounded to 16 bits). Of a network
that was trained against attacks: also at the radius of its training, and with `--autoattack 200` under AutoAttack.
`--again` attacks a network that ships anew, and puts the figures into its file and its card.
"""

import argparse
import json
import re
import shutil
from datetime import date
from pathlib import Path

import torch

import saccade
from saccade.attack.autoattack import autoattack
from saccade.data import ImageSet
from saccade.data import load as load_data
from saccade.engine.distributed import World
from saccade.engine.files import write_text
from saccade.engine.precision import choose_device
from saccade.networks.zoo import SHIPPED
from saccade.train import Recipe, evaluate, evaluate_under_attack
from saccade.train.evaluate import evenly
from saccade.train.ibp import certified_accuracy
from saccade.train.recipes import RECIPES

LICENCE = {
    "tiny-imagenet": "weights MIT; trained on Tiny ImageNet, whose pictures are for research and teaching",
    "cifar10-jpeg": "weights MIT; trained on a JPEG re-compression of CIFAR-10",
}
EPS = (1 / 255, 3 / 255)


def attacks(network: saccade.Network, test: ImageSet, recipe: Recipe) -> dict[str, float]:
    """Accuracy under a 10-step attack on 1,000 test pictures, spread evenly over the set, by radius."""
    radii = sorted({*EPS, *({recipe.eps} if recipe.adversarial == "linf" else ())})
    some, device = evenly(test, 1000), next(network.parameters()).device
    found = {}
    for eps in radii:
        found[f"Linf {eps * 255:.0f}/255"] = evaluate_under_attack(
            network, some, norm="linf", eps=eps, size=network.input_size, device=device
        )
    return found


def attack_again(name: str) -> None:
    """Put the figures of `attacks` into the file and the card of a network that ships."""
    target, card = SHIPPED / f"{name}.safetensors", SHIPPED / f"{name}.md"
    network = saccade.load(target)
    recipe = Recipe.from_dict(network.meta["recipe"])
    test = load_data(recipe.data, split="test", size=recipe.size or None)
    found = attacks(network, test, recipe)
    network.save(target, half=True, meta={"metrics": {**network.meta["metrics"], "attacked": found}})
    text = card.read_text("utf-8")
    for radius, value in found.items():
        line = rf"(accuracy under a 10-step attack, {radius}), [^|]*\| [\d.]+% \|"
        text, count = re.subn(line, rf"\1, 1,000 pictures | {value:.1%} |", text)
        assert count == 1, f"{card} has no line for {radius}"
    write_text(card, text)
    print(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run; with --again the name of a network")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--name")
    parser.add_argument("--about", default="A classifier of small pictures.")
    parser.add_argument("--autoattack", type=int, default=0, help="so many test pictures under AutoAttack")
    parser.add_argument("--mode", default="standard", help="of AutoAttack")
    arguments = parser.parse_args()
    if arguments.again:
        attack_again(str(arguments.run))
        return
    told = json.loads((arguments.run / "recipe.json").read_text("utf-8"))
    measured = json.loads((arguments.run / "metrics.json").read_text("utf-8"))
    recipe = Recipe.from_dict(told["recipe"])
    name = arguments.name or recipe.name
    target = SHIPPED / f"{name}.safetensors"

    network = saccade.load(arguments.run / "final.safetensors")
    network.name = name
    network.meta = {"recipe": recipe.as_dict(), "licence": LICENCE.get(recipe.data, "MIT")}
    network.save(target, half=True)
    network = saccade.load(target)
    device = choose_device()
    test = load_data(recipe.data, split="test", size=recipe.size or None)
    size = network.input_size
    world = World(0, 1, device)
    network.to(device)
    plain = evaluate(network, test, size=size, world=world)
    extra = {}
    if recipe.tta != "none":
        extra[f"tta_{recipe.tta}"] = evaluate(network, test, size=size, tta=recipe.tta, world=world)["accuracy"]
    attacked = attacks(network, test, recipe)
    worst, hardest = {}, []
    if arguments.autoattack:
        hard = evenly(test, arguments.autoattack)
        raw, labels = hard.take(torch.arange(len(hard)))
        pictures = raw.permute(0, 3, 1, 2).float().to(device) / 255
        norm = "l2" if recipe.adversarial == "l2" else "linf"
        found = autoattack(network, pictures, labels, norm=norm, eps=recipe.eps, mode=arguments.mode)
        counts = {stage: found.broken_by.count(stage) for stage in ("clean", *found.stages)}
        value = found.broken_by.count("") / len(hard)
        worst = {"accuracy": value, "pictures": len(hard), "mode": arguments.mode, "fooled first by": counts}
        hardest.append(
            f"| accuracy under AutoAttack ({arguments.mode}), {norm.capitalize()} {recipe.eps * 255:.0f}/255, "
            f"{len(hard):,} pictures | {value:.1%} |"
        )
    proved = {}
    if recipe.defence == "ibp":
        share = certified_accuracy(network, test, eps=recipe.eps, size=size, device=device)
        proved = {"certified": {"accuracy": share, "pictures": len(test), "eps": recipe.eps, "by": "interval bounds"}}
        hardest.append(f"| certified by interval bounds, Linf {recipe.eps * 255:.0f}/255, all pictures | {share:.1%} |")
    accuracy = f"{plain['accuracy']:.1%} top-1" + (f", {plain['top5']:.1%} top-5" if "top5" in plain else "")
    metrics = {"test": plain, "attacked": attacked, **extra, **({"autoattack": worst} if worst else {}), **proved}
    network.cpu().save(
        target,
        half=True,
        meta={
            "accuracy": f"{accuracy} on the test pictures of {recipe.data}",
            "source": "trained by this project",
            "metrics": metrics,
        },
    )
    shutil.copy(arguments.run / "metrics.jsonl", SHIPPED / f"{name}.metrics.jsonl")
    changed = {k: v for k, v in recipe.as_dict().items() if k in told["recipe"]}
    own = "" if RECIPES.get(recipe.name) == recipe else ", with the fields below"
    minutes = measured["metrics"]["seconds"] / 60
    lines = [
        f"# {name}",
        "",
        arguments.about,
        "",
        "| | |",
        "|---|---|",
        f"| architecture | {network.architecture[0] if network.architecture else '?'}, "
        f"{sum(p.numel() for p in network.parameters()):,} parameters |",
        f"| trained on | {recipe.data}, {recipe.epochs} epochs, seed {recipe.seed} |",
        f"| test pictures | {len(test):,}, used for no decision; n = 1 run |",
        f"| accuracy | {accuracy} |",
        *(f"| accuracy, test-time augmentation {key[4:]} | {value:.1%} |" for key, value in extra.items()),
        *(
            f"| accuracy under a 10-step attack, {key}, 1,000 pictures | {value:.1%} |"
            for key, value in attacked.items()
        ),
        *hardest,
        f"| training time | {minutes:.0f} minutes on the wall clock, other work on the machine at times |",
        f"| machine | {told['versions']['device']}, {told['versions']['threads']} threads, "
        f"PyTorch {told['versions']['torch']} |",
        f"| licence | {network.meta.get('licence', 'MIT')} |",
        f"| made | `saccade train {recipe.name}`{own}; shipped {date.today()} by `python benchmarks/ship.py` |",
        "",
        "Takes pictures (N, 3, H, W) in [0, 1], sRGB; gives logits. What it was not trained for: deciding anything "
        "about people; pictures unlike its data. It is a small network for learning, explaining and making pictures.",
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(changed, indent=1),
        "```",
        "",
    ]
    write_text(SHIPPED / f"{name}.md", "\n".join(lines))
    print(json.dumps({"file": str(target), "megabytes": target.stat().st_size / 1e6, **metrics}))


if __name__ == "__main__":
    main()
