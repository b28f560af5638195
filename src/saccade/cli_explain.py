"""`saccade explain`: why a network decides as it does, and how far each answer to that can be trusted."""

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade import console
from saccade.console import Device, Json, NetworkName
from saccade.errors import SaccadeError

Methods = Annotated[str, typer.Option("--method", "-m", help="Methods, by comma; `saccade explain methods` has all.")]
DEFAULT = "saliency,smooth-grad,integrated-gradients,grad-cam,occlusion"
BOARD = "gradient,smooth-grad,integrated-gradients,guided-backprop,lrp,grad-cam,ablation-cam,occlusion"

explain = typer.Typer(
    cls=console.PicturesFirst,
    help="See why a network decides so, by every method the field trusts, and score the methods.",
    no_args_is_help=True,
)


@explain.command(
    epilog="Examples: `saccade explain cat.jpg` · `saccade explain cat.jpg -m grad-cam,lrp --class tabby -o a.png` · "
    "`saccade explain dog.jpg --captioner tinynet-flickr8k --word dog`"
)
def pictures(
    files: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, or names of sample photographs.")],
    method: Methods = DEFAULT,
    target: Annotated[
        str | None, typer.Option("--class", help="The class to explain, name or number; default, the network's answer.")
    ] = None,
    network: NetworkName = "tinynet",
    captioner: Annotated[
        str | None, typer.Option("--captioner", "-c", help="Explain the words of a captioner instead of a class.")
    ] = None,
    word: Annotated[str | None, typer.Option(help="With --captioner: only this word, or its place from 0.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet (.png, .jpg, .webp).")] = Path(
        "explain.png"
    ),
    arrays: Annotated[Path | None, typer.Option(help="Also write the numbers, as safetensors.")] = None,
    layer: Annotated[str | None, typer.Option(help="For CAMs: a layer; default, the last that is a map.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the pictures; default, as the network was trained.")] = None,
    seed: Annotated[int, typer.Option(help="Of the methods that draw random numbers.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Why does it say so? Maps of the pixels that the answer hangs on, one column a method."""
    from saccade.engine.precision import choose_device
    from saccade.explain.methods import find_method

    chosen = [find_method(name) for name in method.split(",") if name.strip()]
    photographs = [console.picture(name) for name in files]
    where = choose_device(device)
    if captioner is not None:
        found = _words(captioner, photographs, chosen, word, layer, seed, where)
    else:
        found = _classes(network, files, photographs, chosen, target, layer, size, seed, where)
    _write(found, chosen, output, arrays)
    if as_json:
        typer.echo(json.dumps({"sheet": str(output), "rows": [row["said"] for row in found]}))
        return
    for row in found:
        typer.echo(f"{row['said']['picture']}: {row['said']['target']}, {row['said']['probability']:.1%}")
    console.say(f"Wrote {output}" + (f" and {arrays}" if arrays else "") + ".")


@explain.command()
def methods(as_json: Json = False) -> None:
    """List the methods: their paper, and what one must know of each."""
    from saccade.explain.methods import METHODS

    rows = [[m.name, m.family, m.paper, m.note] for m in METHODS.values()]
    console.table(["method", "kind", "paper", "note"], rows, as_json)


@explain.command(
    epilog="Examples: `saccade explain scoreboard tinynet tiny-imagenet` · "
    "`saccade explain scoreboard runs/a/best.safetensors scenes --method grad-cam,occlusion`"
)
def scoreboard(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    data: Annotated[str, typer.Argument(help="A name of `saccade data`, scenes, or a folder of class folders.")],
    method: Methods = BOARD,
    count: Annotated[int, typer.Option(min=1, help="So many test pictures.")] = 100,
    folder: Annotated[Path | None, typer.Option(help="Where each row is kept, so that a stopped run goes on.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the tables here (.md).")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score methods on a data set, beside maps that look at no network. Minutes to an hour; it can be stopped."""
    import torch

    from saccade.data import load as load_data
    from saccade.data import scene_masks, scenes
    from saccade.engine.files import write_text
    from saccade.engine.precision import choose_device
    from saccade.explain import scoreboard as score
    from saccade.networks import load

    found = load(network).to(choose_device(device))
    side, masks = found.input_size or 64, None
    if data == "scenes":
        images = scenes(count, size=side, split="test")
        masks = scene_masks(count, size=side, split="test")
    else:
        with console.counting("reading pictures") as progress:
            images = load_data(data, split="test", size=side, progress=progress)
        images = images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count])
    raw, labels = images.take(torch.arange(len(images)))
    pictures = (raw.permute(0, 3, 1, 2).float() / 255).to(found.mean)
    with console.counting("scoring") as progress:
        board = score(
            found, pictures, labels, method.split(","), masks=masks, folder=folder, seed=seed, progress=progress
        )
    if output is not None:
        write_text(output, board.markdown())
    typer.echo(json.dumps(board.as_dict()) if as_json else board.markdown())


def _classes(
    source: str,
    names: list[str],
    photographs: list[Any],
    methods: list[Any],
    target: str | None,
    layer: str | None,
    size: int | None,
    seed: int,
    device: Any,
) -> list[dict[str, Any]]:
    """A row for each picture: the picture as the network gets it, what was said of it, and its maps."""
    import torch

    from saccade.engine.guards import evaluating
    from saccade.networks import load, prepare
    from saccade.pictures import centre_crop, resize

    network = load(source).to(device)
    rows = []
    for name, photograph in zip(names, photographs, strict=True):
        if size is None:
            pixels = prepare(network, photograph)
        else:
            pixels = centre_crop(resize(photograph, size), size).clamp(0, 1)[None]
        pixels = pixels.to(device)
        with evaluating(network):
            shares = torch.softmax(network(pixels)[0].double(), 0)
        index = int(shares.argmax()) if target is None else network.class_index(target)
        maps = {m.name: _asked(m, network, pixels, index, layer, seed) for m in methods}
        said = {"picture": name, "target": network.class_name(index), "probability": float(shares[index])}
        rows.append({"said": said, "picture": _sharp(photograph, pixels), "maps": maps})
    return rows


def _words(
    source: str,
    photographs: list[Any],
    methods: list[Any],
    word: str | None,
    layer: str | None,
    seed: int,
    device: Any,
) -> list[dict[str, Any]]:
    """A row for each word of the captions."""

    from saccade.caption import Captioner, reading
    from saccade.engine.guards import evaluating
    from saccade.pictures import resize

    captioner = Captioner.load(source).to(device)
    rows = []
    for photograph in photographs:
        [[said]] = captioner.caption([photograph])
        if not said.words:
            raise SaccadeError(f"{source} says nothing of this picture, so there is no word to explain.")
        network = reading(captioner, said.words)
        pixels = resize(photograph, (captioner.size, captioner.size)).clamp(0, 1)[None].to(device)
        with evaluating(network):
            shares = network(pixels)[0].exp()
        places = range(len(said.words)) if word is None else [network.class_index(word)]
        for place in places:
            maps = {m.name: _asked(m, network, pixels, place, layer, seed) for m in methods}
            about = {"picture": str(said), "target": network.class_name(place), "probability": float(shares[place])}
            rows.append({"said": about, "picture": photograph, "maps": maps})
    return rows


def _asked(method: Any, network: Any, pixels: Any, target: int, layer: str | None, seed: int) -> Any:
    settings: dict[str, Any] = {"seed": seed} if method.sampled else {}
    if layer is not None and method.layered:
        settings["layer"] = layer
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = method.function(network, pixels, target, **settings)[0]
    for warning in caught:
        console.say(f"{network.class_name(target)}: {warning.message}")
    return found


def _sharp(photograph: Any, pixels: Any) -> Any:
    """What the network gets of a photograph, sharper where it gets little."""
    from saccade.pictures import centre_crop, resize

    if pixels.shape[-1] >= 128:
        return pixels[0].cpu()
    return centre_crop(resize(photograph, 256), 256).clamp(0, 1)


def _write(rows: list[dict[str, Any]], methods: list[Any], output: Path, arrays: Path | None) -> None:
    from safetensors.torch import save

    from saccade.engine.files import write_bytes
    from saccade.explain.draw import explanation_sheet, look_of
    from saccade.pictures import write

    captions = [f"{row['said']['target']}\n{row['said']['probability']:.1%}" for row in rows]
    page = explanation_sheet(
        [row["picture"] for row in rows],
        [row["maps"] for row in rows],
        {m.name: look_of(m) for m in methods},
        captions=captions,
        titles={m.name: m.title for m in methods},
    )
    write(page, output)
    if arrays is not None:
        numbers = {
            f"{place}/{name}": map.cpu().contiguous()
            for place, row in enumerate(rows)
            for name, map in row["maps"].items()
        }
        write_bytes(arrays, save(numbers, metadata={"rows": json.dumps([row["said"] for row in rows])}))
