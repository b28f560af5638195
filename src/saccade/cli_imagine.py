"""`saccade imagine`: what a network looks for, in pictures grown for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade import console
from saccade.console import Device, Json, NetworkName
from saccade.errors import SaccadeError

Output = Annotated[Path, typer.Option("--output", "-o", help="The picture (.png, .jpg, .webp).")]
Seed = Annotated[int, typer.Option(help="Of the noise it is grown from.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Default: as the recipe says.")]
Recipe = Annotated[str, typer.Option(help="modern, feature, course, course-normalised, or toolbox-norm, -decay, ...")]
DEFAULT = "tinynet-robust"

imagine = typer.Typer(
    help="See what a network, its classes and its units look for, in pictures grown for them.", no_args_is_help=True
)


@imagine.command(
    "class",
    epilog="Examples: `saccade imagine class goldfish` · `saccade imagine class tabby,espresso -n a.safetensors`",
)
def class_(
    classes: Annotated[str, typer.Argument(help="Names or numbers of classes, by comma (or `;` for names with one).")],
    network: NetworkName = DEFAULT,
    output: Output = Path("class.png"),
    recipe: Recipe = "modern",
    size: Annotated[int | None, typer.Option(help="Side of the picture, in pixels.")] = None,
    variants: Annotated[int, typer.Option(min=1, help="Pictures of each class, from different noise.")] = 1,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Grow pictures that have the highest score of a class."""
    from saccade.imagine import class_picture

    found = _load(network, device)
    wanted = [found.class_index(name.strip()) for name in classes.split(";" if ";" in classes else ",")]
    with _growing() as callback:
        grown = class_picture(
            found, wanted, recipe=recipe, size=size, variants=variants, steps=steps, seed=seed, callback=callback
        )
    names = [found.class_name(index) for index in wanted]
    _write(_sheet(grown, names, variants), output, {"classes": names}, as_json)


@imagine.command(epilog="Example: `saccade imagine unit stage3.unit2 5,17,40 -o units.png`")
def unit(
    layer: Annotated[str, typer.Argument(help="The dotted name of a layer; `saccade imagine layers` lists them.")],
    channels: Annotated[str, typer.Argument(help="Channels, by comma, from 0.")],
    network: NetworkName = DEFAULT,
    output: Output = Path("unit.png"),
    recipe: Recipe = "feature",
    size: Annotated[int | None, typer.Option(help="Side of the picture, in pixels.")] = None,
    variants: Annotated[int, typer.Option(min=1, help="Pictures of each channel, from different noise.")] = 1,
    diversity: Annotated[float, typer.Option(help="How much the variants are pushed apart.")] = 0.0,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Grow pictures that the channels of a layer answer to most."""
    from saccade.imagine import feature_picture

    wanted = _numbers(channels)
    with _growing() as callback:
        grown = feature_picture(
            _load(network, device),
            layer,
            wanted,
            recipe=recipe,
            size=size,
            variants=variants,
            diversity=diversity,
            steps=steps,
            seed=seed,
            callback=callback,
        )
    names = [f"{layer}:{channel}" for channel in wanted]
    _write(_sheet(grown, names, variants), output, {"layer": layer, "channels": wanted}, as_json)


@imagine.command(epilog="Example: `saccade imagine dream photo.jpg --layer stage3.unit2`")
def dream(
    picture: Annotated[str, typer.Argument(help="A file, or the name of a sample photograph.")],
    network: NetworkName = DEFAULT,
    output: Output = Path("dream.png"),
    layer: Annotated[str | None, typer.Option(help="Default: the last that is a map.")] = None,
    size: Annotated[int, typer.Option(help="Shorter side of the picture, in pixels.")] = 256,
    octaves: Annotated[int, typer.Option(min=1, help="How many sizes, from small to large.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="In each size.")] = 10,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Change a photograph towards what a layer sees in it."""
    from saccade.imagine import dream as make

    found = _load(network, device)
    with _growing() as callback:
        dreamt = make(
            found, _photograph(picture, size, found), layer, octaves=octaves, steps=steps, seed=seed, callback=callback
        )
    _write(dreamt[0].cpu(), output, {"picture": picture, "layer": layer}, as_json)


@imagine.command(epilog="Example: `saccade imagine invert photo.jpg --layers stage1.unit2,stage3.unit2`")
def invert(
    picture: Annotated[str, typer.Argument(help="A file, or the name of a sample photograph.")],
    layers: Annotated[str | None, typer.Option(help="Layers, by comma; default, one a depth.")] = None,
    network: NetworkName = DEFAULT,
    output: Output = Path("invert.png"),
    size: Annotated[int, typer.Option(help="Shorter side of the picture, in pixels.")] = 128,
    steps: Annotated[int, typer.Option(min=1)] = 200,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Grow a picture from what a layer keeps of a photograph: what is lost is lost to the network, too."""
    from saccade.imagine import invert as make
    from saccade.imagine.unit_layers import unit_layers
    from saccade.pictures import sheet

    found = _load(network, device)
    photograph = _photograph(picture, size, found)
    names = layers.split(",") if layers else unit_layers(found, photograph)[:-1]
    grown = []
    for name in names:
        with _growing(name) as callback:
            grown.append(make(found, photograph, name.strip(), steps=steps, seed=seed, callback=callback)[0].cpu())
    rows = [[photograph[0].cpu(), *grown]]
    page = sheet(rows, captions=[["photograph", *names]], cell=max(96, size))
    _write(page, output, {"picture": picture, "layers": names}, as_json)


@imagine.command(epilog="Example: `saccade imagine explorer -n tinynet-robust --data tiny-imagenet -o explorer`")
def explorer(
    network: NetworkName = DEFAULT,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pages.")] = Path("explorer"),
    data: Annotated[str | None, typer.Option(help="Search this data set for what the units answer to.")] = None,
    count: Annotated[int, typer.Option(min=1, help="So many of its validation pictures.")] = 1000,
    layers: Annotated[str | None, typer.Option(help="Layers, by comma; default, one a depth.")] = None,
    grow: Annotated[bool, typer.Option("--grow/--no-grow", help="Grow a picture for each unit.")] = True,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write pages of a whole network: every unit, what it looks for, and where it finds it.

    A run that was stopped goes on where it was when the same command is given again.
    """
    import torch

    from saccade.data import load as load_data
    from saccade.imagine.explorer import explorer as make

    found = _load(network, device)
    pictures = None
    if data is not None:
        with console.counting("reading pictures") as progress:
            pictures = load_data(data, split="val", size=found.input_size, progress=progress)
        pictures = pictures.subset(torch.arange(min(count, len(pictures))))
    chosen = [name.strip() for name in layers.split(",")] if layers else None

    def told(what: str, done: int, total: int) -> None:
        if done == total or not console.err.is_terminal:
            console.say(f"{what}: {done} of {total}")

    page = make(found, folder, layers=chosen, pictures=pictures, grow="feature" if grow else None, callback=told)
    console.result({"page": str(page)}, as_json)


@imagine.command()
def layers(network: NetworkName = DEFAULT, as_json: Json = False) -> None:
    """List the layers of a network: names that `unit`, `dream` and `invert` take."""
    found = _load(network, "cpu")
    rows = [[name, type(layer).__name__] for name, layer in found.layers.items()]
    console.table(["layer", "kind"], rows, as_json)


def _load(name: str, device: str) -> Any:
    from saccade.engine.precision import choose_device
    from saccade.networks import load

    return load(name).to(choose_device(device))


def _photograph(name: str, size: int, network: Any) -> Any:
    from saccade.pictures import resize

    return resize(console.picture(name), size).clamp(0, 1)[None].to(network.mean)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SaccadeError(f"Channels are numbers by comma, as in 5,17; given {text!r}.") from None


def _sheet(grown: Any, names: list[str], variants: int) -> Any:
    """A single picture as it is; several with their names, `variants` of each in a row."""
    from saccade.pictures import sheet

    pictures = list(grown.cpu())
    if len(pictures) == 1:
        return pictures[0]
    words = [name for name in names for _ in range(variants)]
    across = variants if variants > 1 else min(4, len(pictures))
    rows = range(0, len(pictures), across)
    cell = max(96, int(grown.shape[-1]))
    return sheet([pictures[i : i + across] for i in rows], captions=[words[i : i + across] for i in rows], cell=cell)


@contextmanager
def _growing(what: str = "growing") -> Iterator[Any]:
    """A callback for each step of the optimiser."""
    with console.counting(what) as progress:
        yield lambda step: progress(step.step, step.steps)


def _write(picture: Any, output: Path, facts: dict[str, Any], as_json: bool) -> None:
    from saccade.pictures import write

    write(picture, output)
    console.result({"file": str(output), **facts}, as_json)
