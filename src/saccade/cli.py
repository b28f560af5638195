"""The command line: one thin command a verb."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from saccade import cli_attack_certify, cli_attack_corruptions, console  # noqa: F401 - the first two add commands
from saccade.cli_attack import attack
from saccade.cli_caption import caption
from saccade.cli_explain import explain
from saccade.cli_imagine import imagine
from saccade.cli_style import style
from saccade.console import Device, Json, NetworkName
from saccade.engine.memory import keep_freed_memory
from saccade.errors import SaccadeError

app = typer.Typer(
    name="saccade",
    help="Look into vision networks: train them, and see what they see.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


app.add_typer(attack, name="attack")
app.add_typer(caption, name="caption")
app.add_typer(explain, name="explain")
app.add_typer(imagine, name="imagine")
app.add_typer(style, name="style")


def main() -> None:
    """Run the command line; an error that a person can mend is one sentence and status 2."""
    keep_freed_memory()
    try:
        app()
    except SaccadeError as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        console.fail("stopped; what was saved stays, and the same command goes on from there.")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Examples: `saccade train` · `saccade train fast94 --data cifar10 --seed 1` · "
    "`saccade train tinynet --data photos/ --epochs 5 --size 64` · "
    "`torchrun --nproc-per-node 2 -m saccade train tinynet`",
)
def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe; without one, the recipes are listed.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/RECIPE.")] = None,
    find_rate: Annotated[bool, typer.Option("--find-rate", help="Only look for a learning rate; plot it.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Also write TensorBoard events (extra `log`).")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a network by a recipe. Any field of the recipe can be set: `--epochs 5 --lr 0.05`.

    A run that was stopped, or killed, goes on where it was when the same command is given again.
    """
    from saccade.engine.distributed import joined
    from saccade.train import RECIPES, find_recipe
    from saccade.train import train as run_recipe

    if recipe is None:
        rows = [[r.name, r.network, r.data, str(r.epochs), str(r.batch_size), r.optimiser] for r in RECIPES.values()]
        console.table(["recipe", "network", "data", "epochs", "batch", "optimiser"], rows, as_json)
        return
    chosen = find_recipe(recipe).override(console.pairs(context.args))
    folder = folder or Path("runs") / chosen.name
    with joined(device) as world:
        if find_rate:
            _find_rate(chosen, folder, world.device, as_json)
            return
        say = console.say if world.first else lambda sentence: None
        with console.counting("reading pictures") as progress, console.training() as callback:
            trained = run_recipe(
                chosen,
                folder=folder,
                world=world,
                say=say,
                progress=progress,
                callback=callback if world.first else None,
                tensorboard=tensorboard,
            )
        if world.first:
            console.result({"run": str(folder), **trained.metrics}, as_json)


def _find_rate(recipe: Any, folder: Path, device: Any, as_json: bool) -> None:
    from saccade.pictures import write
    from saccade.train import find_rate, load_splits, make_network

    pictures, _, _ = load_splits(recipe)
    found = find_rate(make_network(recipe, pictures).to(device), pictures, recipe)
    plot = folder / "rates.png"
    write(found.plot(), plot)
    console.result({"suggestion": found.suggestion, "plot": str(plot)}, as_json)


@app.command(epilog="Example: `saccade evaluate tinynet tiny-imagenet --tta flip`")
def evaluate(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    data: Annotated[str, typer.Argument(help="A name of `saccade data`, or a folder or archive of class folders.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which part.")] = "test",
    size: Annotated[int | None, typer.Option(help="Side of the pictures; default, as the network was trained.")] = None,
    tta: Annotated[Literal["none", "flip", "six"], typer.Option(help="Test-time augmentation.")] = "none",
    eps: Annotated[float, typer.Option(help="Also under a 10-step attack of this radius (Linf, of 1).")] = 0.0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Accuracy of a network on a data set."""
    from saccade.data import load as load_data
    from saccade.engine.distributed import World
    from saccade.engine.precision import choose_device
    from saccade.networks import load
    from saccade.train import evaluate as measure
    from saccade.train import evaluate_under_attack

    chosen = choose_device(device)
    found = load(network).to(chosen)
    side = size or found.input_size
    with console.counting("reading pictures") as progress:
        images = load_data(data, split=split, size=side, progress=progress)
    if found.classes is not None and len(found.classes) != len(images.classes):
        raise SaccadeError(
            f"{network} knows {len(found.classes)} classes and {data} has {len(images.classes)}; "
            "they do not belong together."
        )
    with console.counting("evaluating") as progress:
        result: dict[str, Any] = measure(
            found,
            images,
            size=side,
            tta=tta,
            world=World(0, 1, chosen),
            progress=progress,
        )
    result |= {"network": network, "data": data, "split": split, "pictures": len(images), "tta": tta}
    if eps:
        result["accuracy_under_attack"] = evaluate_under_attack(
            found, images, norm="linf", eps=eps, size=side, device=chosen
        )
    console.result(result, as_json)


@app.command(epilog="Example: `saccade predict cat.jpg dog.png --top 3`")
def predict(
    pictures: Annotated[list[str], typer.Argument(help="Picture files, or names of sample photographs.")],
    network: NetworkName = "tinynet",
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """What a network sees in pictures, with probabilities."""
    from saccade.engine.precision import choose_device
    from saccade.networks import load
    from saccade.networks import predict as ask

    found = load(network).to(choose_device(device))
    answers = ask(found, [console.picture(name) for name in pictures], top=top)
    if as_json:
        typer.echo(json.dumps({name: [asdict(p) for p in row] for name, row in zip(pictures, answers, strict=True)}))
        return
    for name, row in zip(pictures, answers, strict=True):
        table = Table(title=name, title_justify="left", show_header=False, box=None)
        for p in row:
            table.add_row(f"{p.probability:6.1%}", p.name, "█" * round(30 * p.probability))
        console.out.print(table)


@app.command(epilog="Example: `saccade export tinynet -o tinynet.onnx`")
def export(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file.")],
    size: Annotated[int | None, typer.Option(help="Side of the pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Export a network to ONNX, checked against the network itself."""
    from saccade.networks import load
    from saccade.networks.export import export_onnx

    difference = export_onnx(load(network), output, size=size)
    console.result({"file": str(output), "largest_difference": difference}, as_json)


@app.command(epilog="Examples: `saccade data` · `saccade data tiny-imagenet` · `saccade data photos/`")
def data(
    name: Annotated[str | None, typer.Argument(help="Fetch, check and decode this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the data sets, or fetch, check and decode one."""
    from saccade.data import catalogue
    from saccade.data import load as load_data
    from saccade.data.statistics import channel_statistics

    if name is None:
        if as_json:
            rows = [
                {k: v for k, v in asdict(r.dataset).items() if k != "fill"} | {"state": r.state} for r in catalogue()
            ]
            typer.echo(json.dumps(rows, default=str))
            return
        for row in catalogue():
            known = row.dataset
            facts = [f"{known.train:,} + {known.test:,} pictures", f"{known.classes} classes", row.state]
            console.entry(known.name, facts, [known.description, known.licence])
        return
    with console.counting("reading pictures") as progress:
        images = load_data(name, split="train", progress=progress)
    mean, std = channel_statistics(images)
    console.result(
        {
            "data": name,
            "training_pictures": len(images),
            "classes": len(images.classes),
            "size": list(images.size),
            "mean": [round(v, 4) for v in mean],
            "std": [round(v, 4) for v in std],
        },
        as_json,
    )


@app.command(epilog="Example: `saccade models --classes tinynet`")
def models(
    classes: Annotated[str | None, typer.Option(help="List the classes of this network.")] = None,
    as_json: Json = False,
) -> None:
    """List the networks there are: where they come from, their accuracy and licence."""
    from saccade.networks import catalogue, load

    if classes is not None:
        names = load(classes).classes or ()
        console.table(["index", "class"], [[str(i), name] for i, name in enumerate(names)], as_json)
        return
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in catalogue()], default=str))
        return
    for row in catalogue():
        state = "here" if row.found else "to download"
        facts = [f"{row.parameters / 1e6:.1f} M parameters", f"{row.megabytes:.1f} MB", state]
        console.entry(row.name, facts, [row.accuracy, row.source, row.licence])


@app.command(epilog="Example: `saccade tour -o tour`")
def tour(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the page.")] = Path("tour"),
    as_json: Json = False,
) -> None:
    """Make a page that shows what this library does, on photographs, in a few minutes."""
    from saccade.studio import tour as make

    console.result({"page": str(make(output, say=console.say))}, as_json)
