"""`saccade style`: pictures in the style of others, by optimisation and by networks trained for it."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from torch import Tensor

from saccade import console
from saccade.cli_style_options import (
    check_folder,
    check_writable,
    masks_of,
    original_of,
    read_options,
    targets_of,
)
from saccade.console import Device, Json, NetworkName
from saccade.engine.precision import choose_device
from saccade.errors import SaccadeError
from saccade.networks import load
from saccade.options import takes
from saccade.pictures import resize
from saccade.pictures.optimise import Moment
from saccade.pictures.original import Original, write_like
from saccade.style.fast.apply import apply_fast, restyle_files
from saccade.style.fast.network import load_fast, shipped_styles
from saccade.style.fast.train import FAST, FastRecipe, Row, train_fast
from saccade.style.masks import check_masks
from saccade.style.presets import PRESETS, find_preset
from saccade.style.score import score as judge
from saccade.style.transfer import fitted, style_transfer

DEFAULT = "tinynet-robust"
SIZE = 512
WRITTEN = {
    "size": "0 for that.",
    "style_shares": "Numbers by comma.",
    "style_scale": "A number, or several by comma.",
    "masks": "A drawing with a colour for each region, or grey pictures by comma.",
    "style_masks": "A drawing in the colours of the masks, or grey pictures by comma, one for each style.",
    "start": "The picture is a file.",
    "content_layers": "By comma.",
    "style_layers": "By comma.",
    "network": "A name of `saccade models`, or a weight file.",
    "preset": "`saccade style presets` lists them.",
}
"""How options are written whose values a command line cannot give as they are; added to what the function says."""

TRAINED = {
    "noise": "That of --stability.",
    "shift": "That of --stability, at most, in pixels.",
    "seed": "Of weights and crops.",
    "precision": "bf16 computes in 16 bits; auto, where that is faster.",
}
"""The same for the fields of a recipe that its docstring leaves to their neighbours."""

Content = Annotated[str, typer.Argument(help="A file, the name of a sample photograph, or a folder of pictures.")]
Styles = Annotated[list[str], typer.Argument(metavar="STYLE...", help="Files, or names of sample photographs.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A picture, or a folder if the first is one; default style.png, or styled.",
        show_default=False,
    ),
]
KeepGrey = Annotated[bool, typer.Option("--keep-grey", help="Grey pictures stay grey: strokes without colours.")]

style = typer.Typer(
    cls=console.PicturesFirst,
    help="Repaint pictures in the style of others; train networks that do it in one pass.",
    no_args_is_help=True,
)


@style.command(
    epilog="Examples: `saccade style photo.jpg painting.jpg -o out.png` · `saccade style photos/ a.jpg b.jpg "
    "--style-shares 2,1 -o styled` · `saccade style photo.jpg a.jpg b.jpg --masks regions.png`"
)
@takes(style_transfer, WRITTEN, size=SIZE)
def pictures(
    content: Content,
    styles: Styles,
    output: Output = None,
    preserve_colour: Annotated[bool, typer.Option("--preserve-colour", help="The same as `--colour content`.")] = False,
    every: Annotated[int | None, typer.Option(min=1, help="Also write OUT-0050.png and so on, every so many.")] = None,
    keep_grey: KeepGrey = False,
    device: Device = "auto",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Repaint a picture, or each of a folder, in the style of others.

    Ctrl-C finishes the step and writes the picture; the same command then goes on. In a folder, pictures that are
    there already are skipped.
    """
    if preserve_colour:
        if options["colour"] not in ("style", "content"):
            raise SaccadeError(f"--preserve-colour is --colour content; --colour {options['colour']} is another.")
        options["colour"] = "content"
    several = Path(content).expanduser().is_dir()
    todo = targets_of(content, output)
    for _, target in todo:
        check_writable(target)
    on = choose_device(device)
    painted = [original_of(name).colour[None].to(on) for name in styles]
    settings = options | read_options(options)
    masks, settings["style_masks"] = masks_of(options["masks"], options["style_masks"], painted)
    name = options["network"]
    settings["network"] = load(name).to(on)
    console.say(f"{name} looks at the pictures.")
    if name.startswith("tinynet"):
        console.say(
            "The weights of VGG-19 or SqueezeNet give stronger strokes: --network vgg19 or squeezenet1_1; `saccade "
            "models` tells where they come from."
        )
    rows: list[dict[str, Any]] = []
    with _interruptible() as interrupted:
        for source, target in todo:
            part = target.with_name(f"{target.name}.part")
            if several and target.exists() and not part.exists():
                console.say(f"{target} is there already.")
                continue
            original = original_of(source)
            picture = original.colour[None].to(on)
            if masks is not None:
                settings["masks"] = check_masks(masks, (picture.shape[2], picture.shape[3]))
            with _watching(source, target, original, every, keep_grey) as (told, last):
                made = style_transfer(
                    picture, painted, callback=told, stop=lambda moment: interrupted(), checkpoint=part, **settings
                )
            write_like(made[0].cpu(), target, original, keep_grey=keep_grey)
            if not interrupted():
                part.unlink(missing_ok=True)
            rows.append({"file": str(target), "size": list(made.shape[2:]), **last})
            if interrupted():
                break
    if as_json:
        typer.echo(json.dumps(rows if several else rows[0]))
    else:
        for row in rows:
            typer.echo(row["file"])
    if interrupted():
        console.say("Stopped; what there is has been written, and the same command goes on from there.")
        raise typer.Exit(130)


@style.command(epilog="Example: `saccade style score out.png photo.jpg painting.jpg --preset gatys`")
@takes(style_transfer, WRITTEN, only=("network", "preset", "style_shares", "style_scale"))
def score(
    picture: Annotated[str, typer.Argument(help="The picture to be judged.")],
    content: Annotated[str, typer.Argument(help="What it should have the content of.")],
    styles: Styles,
    device: Device = "auto",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Judge a picture by a preset: its content, style and variation, to be as small as possible."""
    on = choose_device(device)
    one, wanted, *painted = (original_of(name).colour[None].to(on) for name in (picture, content, *styles))
    read = read_options(options)
    longer = max(one.shape[2:])
    scale = read["style_scale"]
    scales = [scale] * len(styles) if isinstance(scale, float) else scale
    if len(scales) != len(styles):
        raise SaccadeError(f"Could not score {picture}: {len(styles)} styles have {len(scales)} scales.")
    found = judge(
        one,
        _sized(wanted, longer),
        [_sized(s, round(min(max(s.shape[2:]), longer * k))) for s, k in zip(painted, scales, strict=True)],
        network=load(options["network"]).to(on),
        preset=find_preset(options["preset"]),
        style_weights=read["style_shares"],
    )
    console.result({name: float(getattr(found, name)) for name in ("content", "style", "variation", "total")}, as_json)


@style.command()
def presets(as_json: Json = False) -> None:
    """List the presets: what can be minimised."""
    rows = [
        [
            name,
            _listed(preset.content_weights),
            _listed(preset.style_weights),
            type(preset.statistic).__name__,
            f"{preset.tv_weight:g} {preset.tv}" if preset.tv_weight else "none",
            ", ".join(preset.layers) or "any known",
        ]
        for name, preset in PRESETS.items()
    ]
    console.table(["preset", "content", "style", "statistic", "variation", "own layers for"], rows, as_json)


@style.command(epilog="Example: `saccade style train painting.jpg --data photos/ -o painting.safetensors --steps 2000`")
@takes(FastRecipe, TRAINED)
def train(
    styles: Styles,
    data: Annotated[str | None, typer.Option(help="A folder or a data set; default, the sample photographs.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The weight file.")] = Path("style.safetensors"),
    network: NetworkName = DEFAULT,
    start: Annotated[str | None, typer.Option(help="Go on from this style network, with new styles.")] = None,
    limit: Annotated[float | None, typer.Option(help="Stop after so many seconds of training.")] = None,
    device: Device = "auto",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Train a network that gives photographs a style in one pass; several styles share one.

    A run that was stopped, or killed, goes on where it was when the same command is given again.
    """
    if output.suffix != ".safetensors":
        raise SaccadeError(f"Could not train {output}: the suffix is {output.suffix!r}, expected .safetensors.")
    check_folder(output)
    painted = {Path(name).stem: original_of(name).colour for name in styles}
    if len(painted) != len(styles):
        raise SaccadeError("Could not train a style network: two styles have one name; rename a file.")
    on = choose_device(device)
    part = output.with_name(f"{output.name}.part")
    with console.counting("training") as progress:

        def told(row: Row) -> None:
            progress(row.step, row.steps)
            console.say(
                f"step {row.step} of {row.steps}: content {row.content:.4f}, style {row.style:.4f}, {row.seconds:.0f} s"
            )

        made = train_fast(
            data,
            painted,
            network=load(network).to(on),
            preset=FAST,
            recipe=FastRecipe(**options),
            start=None if start is None else load_fast(start),
            name=output.stem,
            callback=told,
            checkpoint=part,
            limit=limit,
            device=on,
        )
    made.save(output)
    part.unlink(missing_ok=True)
    console.result({"file": str(output), "styles": list(made.styles), "steps": made.meta["steps"]}, as_json)


@style.command(epilog="Example: `saccade style apply starry-night photo.jpg -o out.png`")
def apply(
    network: Annotated[str, typer.Argument(help="A name of `saccade style networks`, or a weight file.")],
    picture: Content,
    output: Output = None,
    style: Annotated[str | None, typer.Option(help="One of the network's styles; default, the first.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Shorter side of the result; default, as it is.")] = None,
    keep_grey: KeepGrey = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Give a picture, or each of a folder, a style with a trained network, in one pass.

    In a folder, pictures that are there already are skipped.
    """
    todo = targets_of(picture, output)
    for _, target in todo:
        check_writable(target)
    found = load_fast(network).to(choose_device(device))
    if Path(picture).expanduser().is_dir():
        folder = todo[0][1].parent
        with console.counting("restyling") as progress:
            for done, _ in enumerate(
                restyle_files(found, picture, folder, style=style, size=size, keep_grey=keep_grey)
            ):
                progress(done + 1, len(todo))
    else:
        original = original_of(picture)
        colour = original.colour[None] if size is None else resize(original.colour[None], size)
        made = apply_fast(found, colour, style=style)
        write_like(made[0].cpu(), todo[0][1], original, keep_grey=keep_grey)
    files = [str(target) for _, target in todo]
    typer.echo(json.dumps({"files": files}) if as_json else "\n".join(files))


@style.command()
def networks(as_json: Json = False) -> None:
    """List the style networks that ship, which `saccade style apply` takes."""
    rows = [
        [name, ", ".join(load_fast(name).styles), f"{p.stat().st_size / 1e6:.1f}"]
        for name, p in shipped_styles().items()
    ]
    console.table(["network", "styles", "MB"], rows, as_json)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, which then no longer stops at once; the second time it does."""
    asked: list[int] = []

    def first(number: int, _: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        console.say("Stopping after this step; Ctrl-C again stops at once.")

    before = signal.signal(signal.SIGINT, first)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _watching(
    source: str, target: Path, original: Original, every: int | None, keep_grey: bool
) -> Iterator[tuple[Callable[[Moment], None], dict[str, Any]]]:
    """A callback that shows size, step and loss and writes pictures on the way; and what it was told last.

    A terminal shows each step; a line is left for each size.
    """
    last: dict[str, Any] = {}
    shown = {"size": (0, 0), "line": ""}
    with console.err.status("") if console.err.is_terminal else nullcontext() as status:

        def told(moment: Moment) -> None:
            now = moment.pictures
            size, loss = (now.shape[2], now.shape[3]), -float(moment.score[0])
            if size != shown["size"] and last:
                console.say(str(shown["line"]))
            line = f"{source}: {size[0]} x {size[1]}, step {moment.step} of {moment.steps}, loss {loss:.4g}"
            shown.update(size=size, line=line)
            last.update(step=moment.step, steps=moment.steps, loss=loss)
            if status is not None:
                status.update(Text(line))
            if every is not None and moment.step % every == 0:
                path = target.with_stem(f"{target.stem}-{moment.step:04}")
                write_like(now[0].clamp(0, 1).cpu(), path, original, keep_grey=keep_grey)

        yield told, last
    console.say(str(shown["line"]))


def _sized(picture: Tensor, longer: int) -> Tensor:
    size = fitted((picture.shape[2], picture.shape[3]), max(1, longer))
    return resize(picture, size, method="bicubic").clamp(0, 1)


def _listed(weights: tuple[float, ...]) -> str:
    return ", ".join(f"{weight:.3g}" for weight in weights)
