"""`saccade attack`: how a network can be fooled with a picture, and how often on a data set."""

import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade import console
from saccade.console import Device, Json, NetworkName
from saccade.errors import SaccadeError

Norm = Annotated[str | None, typer.Option(help="linf, l2 or l1; default, the first that the attack has.")]
Eps = Annotated[str | None, typer.Option(help="The budget, as 8/255 or 0.5; default, the usual one of the norm.")]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
BatchSize = Annotated[int | None, typer.Option(help="Pictures at once; default, what is fast and fits into memory.")]


class DataOrPictures(console.PicturesFirst):
    """`saccade attack tinynet --data ...` is short for `saccade attack evaluate ...`, anything else for `pictures`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and any(each.partition("=")[0] == "--data" for each in args):
            args = ["evaluate", *args]
        return super().parse_args(ctx, args)


attack = typer.Typer(
    cls=DataOrPictures,
    help="Fool a network with pictures that look the same, and judge how well it stands that.",
    no_args_is_help=True,
)


@attack.command(
    epilog="Examples: `saccade attack cat.jpg --target espresso` · "
    "`saccade attack chelsea coffee -n tinynet-robust --norm l2 --eps 1 --save files/` · "
    "`saccade attack cat.jpg --sentence 'a dog runs on the beach'`"
)
def pictures(
    files: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, or names of sample photographs.")],
    target: Annotated[
        str | None, typer.Option(help="The class to be said, name or number; default, any other.")
    ] = None,
    network: NetworkName = "tinynet",
    method: Annotated[
        str | None, typer.Option("--attack", "-a", help="`saccade attack methods` has all; default, pgd.")
    ] = None,
    norm: Norm = None,
    eps: Eps = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: as the attack has it.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet (.png, .jpg, .webp).")] = Path("attack.png"),
    save: Annotated[
        Path | None, typer.Option(help="Also write the adversarial pictures into this folder, as 8-bit PNG that fool.")
    ] = None,
    sentence: Annotated[
        str | None, typer.Option(help="Attack a captioner instead, until it says this of the picture.")
    ] = None,
    captioner: Annotated[
        str, typer.Option("--captioner", "-c", help="One that ships, or a file that `saccade caption train` made.")
    ] = "tinynet-flickr8k",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Change pictures a little until the network says something else: before, after, and what was changed."""
    import torch

    from saccade.attack.draw import draw_attack
    from saccade.attack.evaluate.export8 import export_8bit
    from saccade.attack.evaluate.report import ball_name
    from saccade.attack.evaluate.suites import ask
    from saccade.engine.precision import choose_device
    from saccade.networks import load, prepare
    from saccade.pictures import write

    if sentence is not None:
        if target is not None or save is not None:
            raise SaccadeError("With --sentence there is neither --target nor --save; leave them out.")
        _make_it_say(files, sentence, captioner, method, norm, eps, steps, output, seed, device, as_json)
        return
    chosen, measure, radius = _chosen(method or "pgd", norm, eps, steps, target is not None)
    found = load(network).to(choose_device(device))
    x = torch.cat([prepare(found, console.picture(name)) for name in files]).to(found.mean)
    x = (255 * x).round() / 255  # as a file would hold it, so that files stay within the budget
    aim = None if target is None else found.class_index(target)
    before = _probabilities(found, x)
    labels = before.argmax(1)
    with _warnings_said():
        result = ask(chosen, found, x, labels, norm=measure, eps=radius, seed=seed, targets=aim)
    size = 4 * float(result.norm.max()) if radius is None else radius
    write(draw_attack(found, x, result.adversarial).cpu(), output)
    after = _probabilities(found, result.adversarial)
    rows: list[dict[str, Any]] = [
        {
            "picture": name,
            "said": found.class_name(int(before[i].argmax())),
            "probability": float(before[i].max()),
            "says": found.class_name(int(after[i].argmax())),
            "probability_after": float(after[i].max()),
            "fooled": bool(result.success[i]),
            "norm": float(result.norm[i]),
            "forwards": int(result.forwards[i]),
            "backwards": int(result.backwards[i]),
        }
        for i, name in enumerate(files)
    ]
    hits = result.success.nonzero()[:, 0]
    written = ""
    if save is not None and len(hits):
        names = [f"{i:02d}-{Path(files[i]).stem}" for i in hits.tolist()]
        exported = export_8bit(
            found,
            x[hits],
            result.adversarial[hits],
            labels[hits],
            save,
            norm=measure,
            eps=size,
            targets=aim,
            names=names,
        )
        for i, file, fools in zip(hits.tolist(), exported.files, exported.fools.tolist(), strict=True):
            rows[i] |= {"file": str(file), "file_fools": fools}
        written = f" In {save}, {exported}"
    if as_json:
        facts = {"sheet": str(output), "attack": chosen.title, "norm": measure, "eps": radius, "pictures": rows}
        typer.echo(json.dumps(facts))
        return
    within = "" if radius is None else f" within {ball_name(measure, radius)}"
    for row in rows:
        after_it = f"{row['says']}, {row['probability_after']:.1%} ({ball_name(measure, row['norm'])})"
        told = f" -> {after_it}" if row["fooled"] else f"; {chosen.title} found nothing{within}"
        typer.echo(f"{row['picture']}: {row['said']}, {row['probability']:.1%}{told}")
    console.say(f"Wrote {output}.{written}")


@attack.command(
    epilog="Examples: `saccade attack tinynet --data tiny-imagenet --suite autoattack --eps 8/255` · "
    "`torchrun --nproc-per-node 2 -m saccade attack runs/a/best.safetensors --data cifar10 --norm l2`"
)
def evaluate(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    data: Annotated[str, typer.Option(help="A name of `saccade data`, scenes, or a folder of class folders.")],
    suite: Annotated[
        str, typer.Option(help="autoattack, fast, pgd, plus, rand; or attacks of `saccade attack methods`, by comma.")
    ] = "autoattack",
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    eps: Eps = None,
    count: Annotated[int, typer.Option(min=1, help="So many test pictures, drawn at random.")] = 1000,
    curve: Annotated[bool, typer.Option(help="Also the accuracy at all budgets, by the smallest changes.")] = True,
    checked: Annotated[int, typer.Option(min=0, help="Pictures looked at for each check; 0 makes none.")] = 32,
    folder: Annotated[Path | None, typer.Option(help="Of the report; default runs/attack-NETWORK-DATA-NORM.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also write the adversarial pictures into this folder, as 8-bit PNG that fool.")
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """How many pictures of a data set does it get right whatever the attacks make of them? A page, and JSON.

    An evaluation that was stopped, or killed, goes on where it was when the same command is given again.
    """
    from saccade.attack.evaluate import evaluate as judge
    from saccade.attack.evaluate.export8 import export_found
    from saccade.attack.evaluate.report import ball_name, write_report
    from saccade.engine.distributed import joined
    from saccade.networks import load

    made_by = " ".join(["saccade attack", network, "--data", data, "--suite", suite, "--norm", norm])
    folder = folder or Path("runs") / f"attack-{Path(network).stem}-{Path(data).name}-{norm}"
    with joined(device) as world:
        found = load(network).to(world.device)
        x, labels = test_pictures(found, network, data, count, seed)
        say = console.say if world.first else lambda sentence: None
        with console.counting("attacking") as progress:
            result = judge(
                found,
                x,
                labels,
                suite=suite,
                norm=norm,
                eps=eps,
                curve=curve,
                checked=checked if world.first else 0,
                folder=folder,
                world=world,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
            )
        if not world.first:
            return
        radius = result.settings["eps"]
        page = write_report(
            result,
            x,
            folder,
            network=network,
            data=data,
            classes=found.classes,
            made_by=f"{made_by} --eps {radius:.6g}",
        )
        exported = None if save is None else f"In {save}, {export_found(found, x, result, save)}"
    if as_json:
        facts = {key: value for key, value in result.as_dict().items() if key != "pictures"}
        more = {} if exported is None else {"exported": exported}
        typer.echo(json.dumps(facts | more | {"report": str(page)}))
        return
    rows = [
        [row.title, str(row.attacked), str(row.broke), str(row.left), f"{row.forwards + row.backwards:,}"]
        for row in result.attacks
    ]
    console.table(["attack", "given", "broke", "accuracy left", "passes"], rows, as_json=False)
    typer.echo(f"clean: {result.clean}")
    typer.echo(f"robust, {ball_name(norm, radius)}: {result.robust}")
    for warning in result.warnings:
        say(f"Doubt: {warning}")
    say(f"Wrote {page}." + (f" {exported}" if exported is not None else ""))


@attack.command()
def methods(as_json: Json = False) -> None:
    """List the attacks: their paper, the norms they have, and what one must know of each."""
    from saccade.attack.attacks import ATTACKS

    rows = [
        [one.name, one.title, " ".join(one.norms), "yes" if one.targeted else "no", one.paper, one.note]
        for one in ATTACKS.values()
    ]
    console.table(["attack", "name", "norms", "targeted", "paper", "note"], rows, as_json)


def _chosen(
    method: str, norm: str | None, eps: str | None, steps: int | None, aimed: bool
) -> tuple[Any, str, float | None]:
    """An attack with its settings, the norm, and the budget, which attacks for the smallest change do not have."""
    from saccade.attack.attacks import find_attack
    from saccade.attack.evaluate.suites import budget
    from saccade.attack.gradient_attack import EPS

    found = find_attack(method)
    found = found if steps is None else found.set(steps=steps)
    measure = norm or found.settings.get("norm", found.norms[0])
    if measure not in found.norms:
        raise SaccadeError(f"{found.title} has no norm {measure!r}, only {', '.join(found.norms)}.")
    if aimed and not found.targeted:
        raise SaccadeError(f"{found.title} cannot aim at a class; leave --target out, or take another attack.")
    if "eps" not in inspect.signature(found.function).parameters:
        if eps is not None:
            raise SaccadeError(f"{found.title} looks for the smallest change and has no budget; leave --eps out.")
        return found, measure, None
    return found, measure, budget(found.settings.get("eps", EPS.get(measure, 1.0)) if eps is None else eps)


def _make_it_say(
    files: list[str],
    sentence: str,
    captioner: str,
    method: str | None,
    norm: str | None,
    eps: str | None,
    steps: int | None,
    output: Path,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """`saccade attack PICTURE --sentence`: what a captioner says before and after, and the sheet."""
    from saccade.attack.evaluate.report import ball_name
    from saccade.caption import Captioner
    from saccade.engine.precision import choose_device
    from saccade.pictures import write
    from saccade.studio.told import draw_told, make_it_say

    chosen, measure, radius = _chosen(method or "apgd-dlr", norm, eps, steps, aimed=True)
    found = Captioner.load(captioner).to(choose_device(device))
    with _warnings_said():
        told = [
            make_it_say(found, console.picture(name), sentence, attack=chosen, norm=measure, eps=radius, seed=seed)
            for name in files
        ]
    write(draw_told(told), output)
    rows = [
        {
            "picture": name,
            "said": str(one.before),
            "says": str(one.after),
            "probability_after": one.after.probability,
            "fooled": one.said,
            "norm": float(one.result.norm[0]),
            "forwards": int(one.result.forwards[0]),
            "backwards": int(one.result.backwards[0]),
        }
        for name, one in zip(files, told, strict=True)
    ]
    if as_json:
        facts = {"sheet": str(output), "attack": chosen.title, "norm": measure, "eps": radius, "sentence": sentence}
        typer.echo(json.dumps(facts | {"pictures": rows}))
        return
    for row in rows:
        typer.echo(f"{row['picture']}: {row['said']}")
        end = "" if row["fooled"] else f"; {chosen.title} could not make it say the sentence"
        typer.echo(f"  -> {row['says']} ({ball_name(measure, float(str(row['norm'])))}){end}")
    console.say(f"Wrote {output}.")


def _probabilities(network: Any, x: Any) -> Any:
    """What a network says of pictures."""
    from saccade.engine.guards import evaluating

    with evaluating(network):
        return network(x).double().softmax(1)


def test_pictures(network: Any, name: str, data: str, count: int, seed: int) -> tuple[Any, Any]:
    """Test pictures (N, 3, H, W) on the CPU, and their labels."""
    import torch

    from saccade.data import load as load_data
    from saccade.data import scenes
    from saccade.engine.seeding import generator

    side = network.input_size
    if data == "scenes":
        images = scenes(count, size=side or 64, split="test")
    else:
        with console.counting("reading pictures") as progress:
            images = load_data(data, split="test", size=side, progress=progress)
        images = images.subset(torch.randperm(len(images), generator=generator(seed))[:count].sort().values)
    if network.classes is not None and len(network.classes) != len(images.classes):
        raise SaccadeError(
            f"{name} knows {len(network.classes)} classes and {data} has {len(images.classes)}; they do not belong "
            "together."
        )
    raw, labels = images.take(torch.arange(len(images)))
    return raw.permute(0, 3, 1, 2).float() / 255, labels


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Warnings of the library as lines for a person."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        console.say(str(warning.message))
