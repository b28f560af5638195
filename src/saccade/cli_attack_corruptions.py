"""`saccade attack corruptions`: how far a network's accuracy falls under noise, blur, weather and compression."""

import json
from pathlib import Path
from typing import Annotated

import typer

from saccade import console
from saccade.cli_attack import BatchSize, Seed, attack, test_pictures
from saccade.console import Device, Json
from saccade.errors import SaccadeError


@attack.command(
    epilog="Examples: `saccade attack corruptions tinynet --data tiny-imagenet` · "
    "`saccade attack corruptions runs/a/best.safetensors --data photos/ --only fog,snow --severities 1,3,5`"
)
def corruptions(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    data: Annotated[str, typer.Option(help="A name of `saccade data`, scenes, or a folder of class folders.")],
    only: Annotated[str | None, typer.Option(help="Some of the fifteen by comma, as fog,jpeg; default, all.")] = None,
    severities: Annotated[str, typer.Option(help="Of 1 to 5, by comma.")] = "1,2,3,4,5",
    count: Annotated[int, typer.Option(min=1, help="So many test pictures, drawn at random.")] = 1000,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw all corruptions of the first picture here (.png, .jpg, .webp).")
    ] = None,
    shown: Annotated[int, typer.Option(help="The severity on the sheet.")] = 3,
    seed: Seed = 0,
    batch_size: BatchSize = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """How far does the accuracy fall when pictures are noisy, blurred, snowed in or compressed?

    The corruptions of ImageNet-C and CIFAR-10-C, which nobody chose to fool this network; the mean over all of them and
    their severities is mCA.
    """
    from saccade.attack.corruptions import CORRUPTIONS, draw_corruptions, evaluate_corruptions
    from saccade.engine.precision import choose_device
    from saccade.networks import load
    from saccade.pictures import write

    names = list(CORRUPTIONS) if only is None else [name for name in only.split(",") if name.strip()]
    levels = _whole_numbers(severities)
    found = load(network).to(choose_device(device))
    x, labels = test_pictures(found, network, data, count, seed)
    if sheet is not None:  # first, as it is quick and a wrong name or severity ends all
        write(draw_corruptions(x[0], severities=(shown,), seed=seed), sheet)
    with console.counting("corrupting") as progress:
        result = evaluate_corruptions(
            found,
            x,
            labels,
            corruptions=names,
            severities=levels,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    if as_json:
        drawn = {} if sheet is None else {"sheet": str(sheet)}
        typer.echo(json.dumps({"network": network, "data": data, **result.as_dict(), **drawn}))
        return
    head, rows = result.rows()
    console.table(head, rows, as_json=False)
    typer.echo(f"clean: {result.clean}")
    typer.echo(f"mCA, the mean over corruptions: {result.mca}")
    if sheet is not None:
        console.say(f"Wrote {sheet}.")


def _whole_numbers(given: str) -> list[int]:
    """Numbers by comma."""
    try:
        return [int(one) for one in given.split(",") if one.strip()]
    except ValueError as error:
        raise SaccadeError(f"--severities is {given!r}, expected some of 1 to 5 by comma, as 1,3,5.") from error
